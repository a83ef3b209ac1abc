"""The sandbox as a command: it starts, says what to export, and leaves nothing behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mlflow_connections_sandbox import Sandbox

UP = "import sys; from mlflow_connections_sandbox._cli import main; sys.exit(main(sys.argv[1:]))"


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start the command as its console script does."""
    command = [sys.executable, "-c", UP, "up", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def is_answering(url: str) -> bool:
    """Return whether anything listens there."""
    try:
        return requests.get(f"{url}/health", timeout=10).ok
    except requests.ConnectionError:
        return False


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of the servers that name a folder."""
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True)
    return [x for x in listed.stdout.splitlines() if f"sqlite:///{folder}" in x]


def read_soon(file: Path) -> str:
    """Return what another process is about to write."""
    for _ in range(100):
        if file.exists() and (text := file.read_text().strip()):
            return text
        time.sleep(0.1)
    raise AssertionError(f"{file} was never written")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_json_says_where_everything_is_until_a_signal_ends_it(
    number: signal.Signals, tmp_path: Path
) -> None:
    """It prints one JSON object, runs one MLflow process until a signal, exits with 0 and leaves no process."""
    process = start("--folder", str(tmp_path), "--output", "json")
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        assert is_answering(said["mlflow_url"])
        assert requests.get(said["page_url"], timeout=10).ok
        # MLflow's own command keeps a second one, which waits in 280 MB.
        assert len([x for x in processes_in(tmp_path) if "_leash.py" not in x]) == 1
        host = said["environment"]["databricks"]["DATABRICKS_HOST"]
        assert requests.get(f"{host}/.well-known/databricks-config", timeout=10).ok
        assert said["folder"] == str(tmp_path)
        process.send_signal(number)
        assert process.wait() == 0
    finally:
        process.kill()
        process.stdout.close()
    assert not is_answering(said["mlflow_url"])
    assert processes_in(tmp_path) == []
    assert (tmp_path / "mlflow" / "mlflow.db").exists()


def test_the_printed_lines_work_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output can be pasted and its page opened; without a folder nothing stays on the disk."""
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    process = start("--open")
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        shell = subprocess.run(
            [
                "sh",
                "-c",
                "".join(lines) + '\nprintf "%s %s" "$DATABRICKS_HOST" "$DATABRICKS_TOKEN"',
            ],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.environ["PATH"]},
        )
        host, token = shell.stdout.split()
        answer = requests.get(
            f"{host}/api/2.0/mlflow/experiments/search?max_results=5",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        assert answer.status_code == 200
        (folder,) = [shlex.split(x)[-1] for x in lines if x.startswith("# Data")]
        # What somebody sees first, and what their browser was given.
        page = lines[0].split()[-1]
        assert "Databricks" in requests.get(f"{page}/state.json", timeout=10).text
        assert read_soon(opened) == page
        assert Path(folder).is_dir()
        process.terminate()
        assert process.wait() == 0
    finally:
        process.kill()
        process.stdout.close()
    assert not Path(folder).exists()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox that runs."""
    with Sandbox(tmp_path, ["databricks"]) as running:
        yield running


def test_what_was_stored_is_there_again(sandbox: Sandbox, tmp_path: Path) -> None:
    """A sandbox in the same folder shows what the one before it stored."""
    made = requests.post(
        f"{sandbox['databricks'].url}/api/2.0/mlflow/experiments/create",
        json={"name": "/Shared/kept"},
        headers={
            "Authorization": f"Bearer {sandbox.environment('databricks')['DATABRICKS_TOKEN']}"
        },
        timeout=30,
    )
    assert made.status_code == 200
    sandbox.close()
    assert not is_answering(sandbox.mlflow_url)
    with Sandbox(tmp_path) as again:
        found = requests.get(
            f"{again.mlflow_url}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": "/Shared/kept"},
            timeout=30,
        )
    assert found.json()["experiment"]["experiment_id"] == made.json()["experiment_id"]
