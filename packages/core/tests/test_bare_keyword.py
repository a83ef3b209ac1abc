"""A keyword in place of MLflow's own URI is a folder to MLflow, and a warning to people."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mlflow_connections import _bare_keyword, _mlflow
from mlflow_connections._bare_keyword import KeywordCheck
from mlflow_connections.authentication import DESCRIPTION_VARIABLE
from mlflow_connections.spark import INHERITED_VARIABLE, _absence, mark_of


@pytest.fixture(autouse=True)
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the URIs that were checked before."""
    monkeypatch.setattr(_bare_keyword, "_seen", set())


def test_a_keyword_in_the_variable_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The sentence names the folder and the ways to use the connection, whether or not it is installed."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "durable")
    check = KeywordCheck()
    assert (check.in_context(), check.tags()) == (False, {})
    (record,) = caplog.records
    assert record.getMessage() == (
        "MLFLOW_TRACKING_URI is 'durable': MLflow takes this for the folder ./durable, and sends nothing to a "
        "server. Run the program by `mlflow-connections run durable -- python …`, or call "
        "mlflow_connections.use('durable') in it. Write ./durable if you mean the folder."
    )


def test_a_keyword_that_code_sets_is_named_when_a_run_starts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`mlflow.set_tracking_uri` has the same effect as the variable, and precedence over it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m")
    check = KeywordCheck()
    assert caplog.records == []
    monkeypatch.setattr(_mlflow, "tracking_uri", lambda: "azureml")
    check.in_context()
    (record,) = caplog.records
    assert record.getMessage().startswith("MLflow's tracking URI is 'azureml': MLflow takes this")


def test_nothing_but_the_uri_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow 3.5 checks while it holds the lock of its tracer, which the rest of the state would wait for."""

    def waits_for_ever() -> _mlflow.State:
        raise AssertionError

    monkeypatch.setattr(_mlflow, "read_state", waits_for_ever)
    assert not KeywordCheck().in_context()


class Once:
    """MLflow's own class of that name, from 2.22 to 3.5."""

    def __init__(self, *, done: bool) -> None:
        self.__done = done

    @property
    def done(self) -> bool:
        """Wait for the lock, which the thread that makes the tracer holds."""
        raise AssertionError


@pytest.mark.parametrize("done", [True, False])
def test_the_lock_of_mlflows_tracer_is_not_waited_for(
    done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is made is read without it."""
    made = SimpleNamespace(_MLFLOW_TRACER_PROVIDER_INITIALIZED=Once(done=done))
    monkeypatch.setitem(sys.modules, "mlflow.tracing.provider", made)
    assert _mlflow._is_tracer_made() == done


@pytest.mark.parametrize(
    "uri",
    ["", "databricks", "mlruns", "runs", "./durable", "durable://offline", "http://m", "/http"],
)
def test_other_uris_are_mlflows_own(
    uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its words, folders of other names, paths and URIs are as they were."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    KeywordCheck()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("variables", "is_remembered"),
    [
        ({}, False),
        ({"MLFLOW_TRACKING_URI": "databricks"}, False),
        ({"MLFLOW_TRACKING_URI": "databricks", INHERITED_VARIABLE: mark_of("databricks")}, True),
        ({"MLFLOW_TRACKING_URI": "http://other", INHERITED_VARIABLE: mark_of("databricks")}, False),
        ({INHERITED_VARIABLE: mark_of("databricks")}, False),
        ({DESCRIPTION_VARIABLE: "[]"}, True),
    ],
)
def test_an_inherited_connection_spares_the_search_for_spark(
    variables: dict[str, str], is_remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only that: a process without a connection, or with another server, searches as MLflow does."""
    for name in ("MLFLOW_TRACKING_URI", INHERITED_VARIABLE, DESCRIPTION_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "meta_path", [each for each in sys.meta_path if each is not _absence])
    KeywordCheck()
    assert (_absence in sys.meta_path) is is_remembered


def test_a_process_without_a_connection_imports_nothing_for_it() -> None:
    """The check runs in each process that imports MLflow: it loads no module of core that is not needed."""
    script = (
        "import sys\n"
        "from mlflow_connections._bare_keyword import KeywordCheck\n"
        "KeywordCheck()\n"
        "print(*(name for name in ('spark', 'authentication', 'secrets', 'discovery')"
        " if f'mlflow_connections.{name}' in sys.modules))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_command_inherits_the_mark_of_its_server(capfd: pytest.CaptureFixture[str]) -> None:
    """It names no credential, and a command of that command may have another server."""
    assert mark_of("http://me:hidden@m") != mark_of("http://m")
    command = [sys.executable, "-m", "mlflow_connections", "run", "http://m", "--"]
    shown = f"import os; print(os.environ[{INHERITED_VARIABLE!r}])"
    subprocess.run([*command, sys.executable, "-c", shown], check=True)
    assert capfd.readouterr().out.strip() == mark_of("http://m")
