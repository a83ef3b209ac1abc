"""The steps for a local Snowflake in the starter's README are complete."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Told(NamedTuple):
    """An account that is known only from the output of `up`."""

    variables: dict[str, str]

    def environment(self) -> dict[str, str]:
        """Return the lines that the reader pastes."""
        return self.variables


@pytest.mark.slow
def test_three_commands_are_sufficient(shell: Callable[..., str], tmp_path: Path) -> None:
    """After `up`, `apply` and `run` work without a cloud administrator's step."""
    answers = "Wine\nyes\n"
    starter = ("-m", "kedro", "new", "--starter", "mlflow-connections-snowflake")
    shell(tmp_path, None, *starter, answers=answers)
    project = tmp_path / "wine"
    readme = (project / "README.md").read_text()
    commands = re.findall(r"^(?:mlflow-|kedro )\S.*$", readme, re.MULTILINE)
    assert commands[-3:] == [
        "mlflow-connections-sandbox up snowflake",
        "mlflow-snowflake apply",
        "kedro snowflake-mlflow run",
    ]
    code = "from mlflow_connections_sandbox._cli import main; main(['up', 'snowflake', '--output', 'json'])"
    sandbox = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert sandbox.stdout is not None
        told: dict[str, Any] = json.loads(sandbox.stdout.readline())
        account = Told(told["environment"]["snowflake"])
        console = "from mlflow_connections_snowflake._cli import console; console()"
        shell(project, account, "-c", console, "apply")
        assert "Nothing to fix." in shell(project, account, "-c", console, "check")
        shown = shell(project, account, "-m", "kedro", "snowflake-mlflow", "run")
        assert ": FINISHED" in shown
    finally:
        sandbox.send_signal(signal.SIGINT)
        sandbox.communicate()
