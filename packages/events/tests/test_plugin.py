"""The modules that MLflow loads on import."""

import subprocess
import sys


def run(script: str) -> str:
    """Run a script in a new interpreter and return its output."""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_loading_the_entry_points_imports_nothing_slow() -> None:
    """A plugin that imported MLflow during MLflow's import would form a circle."""
    slow = {"mlflow", "dbnd", "requests", "urllib3", "mlflow_connections_outbox"}
    script = (
        "import sys\n"
        "from mlflow_connections_events.plugin import Activation\n"
        "Activation()\n"
        f"print(sorted({{name.partition('.')[0] for name in sys.modules}} & {slow!r}))\n"
    )
    assert run(script) == "[]"


def test_the_vocabulary_needs_no_mlflow() -> None:
    """A sink imports the vocabulary in a process that a user waits for."""
    script = (
        "import sys\nimport mlflow_connections_events.vocabulary\nprint('mlflow' in sys.modules)\n"
    )
    assert run(script) == "False"


def test_a_process_that_delivers_imports_no_pandas() -> None:
    """It is a third of MLflow's import time and memory; code that needs it later can import it."""
    script = (
        "import sys, tempfile\nfrom pathlib import Path\n"
        "from mlflow_connections_events.replay import ReplaySink\n"
        "ReplaySink('http://127.0.0.1:9', {}, Path(tempfile.gettempdir()) / 'absent')\n"
        "print('mlflow' in sys.modules, 'pandas' in sys.modules)\n"
    )
    assert run(script) == "True False"
