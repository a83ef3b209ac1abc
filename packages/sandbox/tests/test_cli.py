"""The messages of the command line if nothing can be started."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_connections_sandbox import STAND_INS, Sandbox
from mlflow_connections_sandbox._cli import _chosen, main
from mlflow_connections_sandbox._kept import FolderLock


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the signal handlers that the command line sets."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_unknown_stand_in_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The message lists the stand-ins, and no folder is created."""
    assert main(["up", "oracle", "--folder", str(tmp_path / "data")]) == 1
    said = capsys.readouterr().err
    assert "no stand-in named oracle" in said
    for name in STAND_INS:
        assert name in said
    assert not (tmp_path / "data").exists()


def test_a_name_given_twice_runs_once(tmp_path: Path) -> None:
    """Repeating a name changes nothing."""
    assert Sandbox(tmp_path, ["databricks", "databricks"]).names == ("databricks",)


def test_help_names_every_stand_in(capsys: pytest.CaptureFixture[str]) -> None:
    """`up --help` lists every stand-in."""
    assert main(["up", "--help"]) == 0
    said = capsys.readouterr().out
    for name in STAND_INS:
        assert name in said


def test_a_second_up_on_a_used_folder_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One sentence names the owner of the folder; nothing starts."""
    lock = FolderLock(tmp_path)
    lock.acquire()
    try:
        assert main(["up", "--folder", str(tmp_path)]) == 1
    finally:
        lock.close()
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if "folder" in line]
    assert "belongs to a sandbox that runs" in sentence
    assert not (tmp_path / "mlflow").exists()


def test_all_starts_everything_that_is_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`all` omits, and names, stand-ins that need a package that is not installed."""
    assert _chosen(["all"]) == list(STAND_INS)
    for module in [name for name in sys.modules if name.startswith("jwt")]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if "_sandbox._azure" in name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "jwt", None)
    assert _chosen(["all"]) == [name for name in STAND_INS if name != "azureml"]
    assert "pip install 'mlflow-connections-sandbox[azureml]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "databricks"], 1, "There is no command to run"),
        (["up", "--", "true"], 1, "`up` takes no command"),
        (["up", "--port", "0"], 2, "'0' is not a port"),
        (["run", "nobody", "--", "true"], 1, "no stand-in named nobody"),
    ],
)
def test_wrong_usage_is_refused_before_anything_starts(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each mistake has its sentence."""
    assert main(words) == code
    assert said in capsys.readouterr().err


def test_the_plugin_imports_nothing_unused() -> None:
    """Pytest starts as fast with the plugin: neither MLflow nor any server is imported for it.

    Of core it imports only the map of the names, which imports nothing.
    """
    program = (
        "import sys, mlflow_connections_sandbox.pytest_plugin as plugin\n"
        "heavy = {'mlflow', 'starlette', 'requests', 'uvicorn'}\n"
        "ours = {name for name in sys.modules if name.startswith('mlflow_connections.')}\n"
        "print(sorted(heavy & set(sys.modules) | ours - {'mlflow_connections.lazy'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
