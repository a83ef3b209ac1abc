"""No secret appears in a message, a log line, a repr or a traceback of this package."""

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_connections import ConnectionsError
from mlflow_connections_kedro._config import ConfigFiles
from mlflow_connections_kedro._server import read_server
from mlflow_connections_kedro._session import SessionBoundary, resolve_server

SECRET = "s3cr3t-" + "0815"
_keys = st.sampled_from(
    [
        "token",
        "MLFLOW_TRACKING_TOKEN",
        "DATABRICKS_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "region",
        "tokn",
    ]
)
_values: st.SearchStrategy[Any] = st.sampled_from(
    [SECRET, [SECRET], {"a": SECRET}, 7, None, True, f"https://u:{SECRET}@host"]
)
_entries = st.one_of(_values, st.dictionaries(_keys, _values, max_size=3))
_uris = st.sampled_from(
    [
        None,
        "lake",
        "declared",
        "empty",
        "nobody",
        "databricks",
        f"http://u:{SECRET}@host",
        f"http://host/?token={SECRET}",
        ["http://a"],
    ]
)
_servers = st.fixed_dictionaries(
    {},
    optional={
        "tracking_uri": _uris,
        "mlflow_tracking_uri": _uris,
        "registry_uri": _uris,
        "credentials": st.sampled_from(["dev", "typo", {"token": SECRET}, [SECRET]]),
        "connection": st.one_of(
            st.dictionaries(st.sampled_from(["region", "token", "password"]), st.just(SECRET)),
            st.just([SECRET]),
        ),
    },
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(server=_servers, entry=_entries, strict=st.booleans())
def test_no_secret_is_shown(
    server: dict[str, Any], entry: Any, strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever mlflow.yml and credentials.yml contain, secrets are in no text of this package."""
    caplog.clear()
    boundary = SessionBoundary()
    loader: dict[str, Any] = {"mlflow": {"server": server}, "credentials": {"dev": entry}}
    files = ConfigFiles(loader, Path())
    with caplog.at_level(logging.DEBUG):
        try:
            read = read_server(loader["mlflow"], files, {}, strict=strict)
            resolved = resolve_server(read, loader, files, Path("/shop"), export_plain=strict)
            boundary.enter(resolved.endpoint)
            shown = repr(resolved) + repr(boundary.__dict__)
        except ConnectionsError as error:
            shown = "".join(traceback.format_exception(error)) + repr(error)
        finally:
            boundary.leave()
    # A wrong value of an option that its author declared as not secret may be shown.
    if "'region' in" not in shown:
        assert SECRET not in shown
    assert SECRET not in caplog.text
