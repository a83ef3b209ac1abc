"""Composite URIs that users set themselves, without the keyword."""

import logging
from collections.abc import Callable
from urllib.parse import quote

import mlflow
import pytest
from mlflow import MlflowClient

from mlflow_connections_sandbox._databand import Databand, compare

Deliver = Callable[[], None]


@pytest.mark.parametrize("scheme", ["dbnd", "databand"])
@pytest.mark.parametrize("times_quoted", [1, 2])
def test_a_composite_uri_is_a_tracking_uri(
    scheme: str,
    times_quoted: int,
    tracker: Databand,
    sqlite_uri: str,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Installing the package is sufficient; the token may have its short name."""
    monkeypatch.setenv("DATABAND_ACCESS_TOKEN", tracker.account.token)
    inner = sqlite_uri
    for _ in range(times_quoted):
        inner = quote(inner, safe="")
    mlflow.set_tracking_uri(f"{scheme}://127.0.0.1:{tracker.port}?duplicate_tracking_to={inner}")
    with mlflow.start_run():
        mlflow.log_metric("m", 1.0)
    deliver()
    assert compare(sqlite_uri, tracker) == []


def test_a_uri_may_contain_a_user_and_a_password(
    tracker: Databand, sqlite_uri: str, deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    """User and password sign in, with a CSRF token, and are never logged."""
    account = tracker.account
    uri = f"dbnd://{account.username}:{account.password}@127.0.0.1:{tracker.port}"
    mlflow.set_tracking_uri(f"{uri}?duplicate_tracking_to={quote(sqlite_uri, safe='')}")
    with caplog.at_level(logging.DEBUG), mlflow.start_run():
        mlflow.log_metric("m", 1.0)
    deliver()
    assert compare(sqlite_uri, tracker) == []
    assert account.password not in caplog.text


def test_a_uri_without_a_store_uses_the_current_one(
    tracker: Databand, sqlite_uri: str, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tracking URI set, Databand's bare address means a copy of that."""
    monkeypatch.setenv("DATABAND_ACCESS_TOKEN", tracker.account.token)
    mlflow.set_tracking_uri(sqlite_uri)
    client = MlflowClient(f"dbnd://127.0.0.1:{tracker.port}")
    run = client.create_run("0")
    client.set_terminated(run.info.run_id)
    deliver()
    assert compare(sqlite_uri, tracker) == []


def test_a_uri_without_a_store_names_the_default_it_uses(
    tracker: Databand, sqlite_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a known store, runs go to MLflow's default, and one warning names it."""
    mlflow.set_tracking_uri(f"dbnd://127.0.0.1:{tracker.port}")
    with caplog.at_level(logging.WARNING, logger="mlflow_connections_events._inner"):
        MlflowClient().create_run("0")
        MlflowClient().search_runs(["0"])
    told = [r.getMessage() for r in caplog.records if r.name.endswith("_events._inner")]
    assert len(told) == 1
    assert "MLflow's default" in told[0]
