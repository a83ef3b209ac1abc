"""The pytest plugin, tested with the example project of its page."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sandbox-pytest.md"

COUNTING = """
import os
import pytest

@pytest.fixture(autouse=True, scope="session")
def note_server(mlflow_sandbox):
    with open(os.environ["NOTED"], "a") as noted:
        noted.write(f"{mlflow_sandbox.mlflow_url} {os.environ['PYTEST_XDIST_WORKER']}\\n")
    yield
"""


def test_the_example_runs_as_printed_and_its_workers_share_one_server(tmp_path: Path) -> None:
    """The page's project passes with the page's own command, and afterwards no server remains."""
    project = tmp_path / "project"
    project.mkdir()
    text = PAGE.read_text(encoding="utf-8")
    for name, body in re.findall(r"```\w+\n# ([\w.]+)\n(.*?)```", text, re.DOTALL):
        (project / name).write_text(body)
    (project / "conftest.py").write_text(COUNTING)
    (command,) = re.findall(r"\$ (pytest -n 2.*)", text)
    noted = tmp_path / "noted"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=project,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "NOTED": str(noted),
            "PYTEST_DEBUG_TEMPROOT": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    seen = [line.split() for line in noted.read_text().splitlines()]
    assert {worker for _, worker in seen} == {"gw0", "gw1"}
    assert len({url for url, _ in seen}) == 1
    listed = running(tmp_path)
    while listed and any("_leash" not in each for each in listed):
        time.sleep(0.1)  # the last worker waits for that, unless both left at once
        listed = running(tmp_path)
    assert running(tmp_path) == []


def running(folder: Path) -> list[str]:
    """Return the command lines that contain the server's folder."""
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if f"sqlite:///{folder}" in line]
