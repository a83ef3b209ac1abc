"""A keyword in place of MLflow's own URI is a folder to MLflow, and a warning to people."""

import pytest

from mlflow_connections import _bare_keyword, _mlflow
from mlflow_connections._bare_keyword import KeywordCheck


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
    monkeypatch.setattr(_mlflow, "read_state", lambda: _mlflow.State(tracking_uri="azureml"))
    check.in_context()
    (record,) = caplog.records
    assert record.getMessage().startswith("MLflow's tracking URI is 'azureml': MLflow takes this")


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
