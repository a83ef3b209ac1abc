"""The sandbox as a command: it starts, prints its exports, runs a command, and leaves nothing behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

MAIN = "import sys; from mlflow_connections_sandbox._cli import main; sys.exit(main(sys.argv[1:]))"


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start the command as its console script does."""
    command = [sys.executable, "-c", MAIN, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def is_answering(url: str) -> bool:
    """Return whether a process listens on a port."""
    try:
        return requests.get(f"{url}/health", timeout=10).ok
    except requests.ConnectionError:
        return False


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of the servers that contain a folder."""
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True)
    return [x for x in listed.stdout.splitlines() if f"sqlite:///{folder}" in x]


def read_soon(file: Path) -> str:
    """Return the output that another process is about to write."""
    for _ in range(100):
        if file.exists() and (text := file.read_text().strip()):
            return text
        time.sleep(0.1)
    raise AssertionError(f"{file} was never written")


def create_experiment(host: str, token: str) -> requests.Response:
    """Create an experiment in the workspace."""
    return requests.post(
        f"{host}/api/2.0/mlflow/experiments/create",
        json={"name": "/Shared/kept"},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )


def test_a_folder_keeps_its_state_between_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON and pasted lines lead to the same data at the same address with the same token, until a signal each time.

    Each prints all addresses, runs one MLflow process, ends with 0 and leaves no process.
    """
    folder = tmp_path / "folder"
    process = start("up", "--folder", str(folder), "--output", "json")
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        assert is_answering(said["mlflow_url"])
        assert requests.get(said["page_url"], timeout=10).ok
        # MLflow's own command keeps a second process, which waits with 280 MB.
        assert len([x for x in processes_in(folder) if "_leash.py" not in x]) == 1
        exported = said["environment"]["databricks"]
        host, token = exported["DATABRICKS_HOST"], exported["DATABRICKS_TOKEN"]
        assert requests.get(f"{host}/.well-known/databricks-config", timeout=10).ok
        assert said["folder"] == str(folder)
        assert create_experiment(host, token).ok
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    finally:
        process.kill()
        process.stdout.close()
    assert not is_answering(said["mlflow_url"])
    assert processes_in(folder) == []

    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    process = start("up", "--folder", str(folder), "--open")
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        pasted = "".join(lines) + '\nprintf "%s %s" "$DATABRICKS_HOST" "$DATABRICKS_TOKEN"'
        shell = subprocess.run(
            ["sh", "-c", pasted],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.environ["PATH"]},
        )
        assert shell.stdout.split() == [host, token]
        again = create_experiment(host, token)
        assert (again.status_code, again.json()["error_code"]) == (400, "RESOURCE_ALREADY_EXISTS")
        assert [shlex.split(x)[-1] for x in lines if x.startswith("# Data")] == [str(folder)]
        # The first output, and the address given to the browser.
        page = lines[0].split()[-1]
        assert page == said["page_url"]
        assert "Databricks" in requests.get(f"{page}/state.json", timeout=10).text
        assert read_soon(opened) == page
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    finally:
        process.kill()
        process.stdout.close()
    assert processes_in(folder) == []
    assert (folder / "mlflow" / "mlflow.db").exists()


CHILD = """
import json, os, signal, sys, time, urllib.request
asked = urllib.request.urlopen(os.environ["DATABRICKS_HOST"] + "/.well-known/databricks-config")
names = ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CONFIG_PROFILE", "MINE")
print(json.dumps({**{n: os.environ.get(n) for n in names}, "status": asked.status}), flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
while True:
    time.sleep(0.1)
"""


def test_run_gives_its_command_the_environment_and_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command reaches only the stand-in; signals and its exit code are passed on; nothing stays."""
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "work")
    monkeypatch.setenv("MINE", "kept")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = start("run", "databricks", "--", sys.executable, "-c", CHILD, "--port", "is its own")
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        assert said["status"] == 200
        assert said["DATABRICKS_TOKEN"].startswith("dapi")
        assert (said["DATABRICKS_CONFIG_PROFILE"], said["MINE"]) == (None, "kept")
        assert len(list(tmp_path.glob("mlflow-connections-sandbox-*"))) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 7
    finally:
        process.kill()
        process.stdout.close()
    assert not is_answering(said["DATABRICKS_HOST"])
    assert list(tmp_path.glob("mlflow-connections-sandbox-*")) == []
    assert processes_in(tmp_path) == []
