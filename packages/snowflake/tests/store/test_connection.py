"""The keyword `snowflake`: its resolved values, and the options that it refuses."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from mlflow_connections import AccessError, InvalidOptionError, MissingOptionError, resolve
from mlflow_connections.testing import ConnectionContract
from mlflow_connections_snowflake.store import Bridge


class TestContract(ConnectionContract):
    """External functions, with credentials for a session outside of Snowflake."""

    keyword = "snowflake"
    credentials = {"account": "ab123", "user": "me", "password": "s3cr3t"}  # noqa: RUF012 - as in the contract
    options = {"database": "demo", "schema": "ml", "location": "s3://b/ml"}  # noqa: RUF012
    tracking_uri = "snowflake://?schema=DEMO.ML&location=s3%3A%2F%2Fb%2Fml%2F"
    forbidden_imports = ("mlflow", "kedro", "snowflake.snowpark", "yaml", "requests")


class TestContractOfExternalAccess(ConnectionContract):
    """Direct HTTPS, with a token outside of a procedure."""

    keyword = "snowflake"
    credentials = {"mlflow_token": "t0ken"}  # noqa: RUF012
    options = {"mode": "external_access", "url": "https://mlflow.example.com"}  # noqa: RUF012
    tracking_uri = "https://mlflow.example.com"


def test_a_config_file_is_enough(setup_files: Path) -> None:
    """snowflake.yml alone is sufficient."""
    endpoint = resolve("snowflake", {}, {"config": str(setup_files / "google.yml")})
    bridge, _ = Bridge.from_uri(endpoint.tracking_uri)
    assert bridge.location == "gcs://demo-artifacts/mlflow/"
    assert str(bridge.functions["run_create"]) == "DEMO.DEMO.MLFLOW_RUN_CREATE"
    assert str(bridge.uploads) == "DEMO.DEMO.MLFLOW_UPLOADS"


def test_credentials_become_the_connectors_variables() -> None:
    """Secrets go into the environment, and never into the URI."""
    endpoint = resolve("snowflake", {"account": "ab123", "token": "s3cr3t"}, {})
    assert endpoint.environment == {"SNOWFLAKE_ACCOUNT": "ab123", "SNOWFLAKE_TOKEN": "s3cr3t"}
    assert endpoint.tracking_uri == "snowflake://"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mode": "smoke_signals"}, "must be one of"),
        ({"schema": "a b"}, "'schema' in the connection options"),
        ({"stage": "x'; DROP TABLE y"}, "'stage' in the connection options"),
        ({"flush_seconds": -1}, "not a time from 0 on"),
        ({"mode": "external_access", "url": "mlflow:5000"}, "not https://"),
        ({"mode": "external_access", "url": "http://mlflow:5000"}, "not https://"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, object], told: str) -> None:
    """Each invalid option is reported with its place."""
    with pytest.raises(InvalidOptionError, match=told):
        resolve("snowflake", {}, options)


def test_a_config_excludes_other_options(setup_files: Path) -> None:
    """The option `config` excludes the options that snowflake.yml has."""
    options = {"config": str(setup_files / "aws.yml"), "schema": "other"}
    with pytest.raises(InvalidOptionError, match="already names schema"):
        resolve("snowflake", {}, options)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"mode": "external_access"}, "MLFLOW_SNOWFLAKE_URL"), ({"database": "d"}, "'schema'")],
)
def test_missing_options_are_named(options: dict[str, object], told: str) -> None:
    """A mode that needs an option names it, and its other sources."""
    with pytest.raises(MissingOptionError, match=told):
        resolve("snowflake", {}, options)


class Secrets(types.ModuleType):
    """Replaces the module `_snowflake`, which exists only inside procedures."""

    def __init__(self, kinds: dict[str, str]) -> None:
        super().__init__("_snowflake")
        self._kinds = kinds

    def get_secret_type(self, name: str) -> str:
        """Return a secret's type."""
        return self._kinds[name]

    def get_generic_secret_string(self, name: str) -> str:
        """Return a token."""
        return f"the token {name}"

    def get_username_password(self, _: str) -> types.SimpleNamespace:
        """Return a user and a password."""
        return types.SimpleNamespace(username="me", password="pw")


@pytest.mark.parametrize(
    ("kind", "variables"),
    [
        ("GENERIC_STRING", {"MLFLOW_TRACKING_TOKEN": "the token mlflow_token"}),
        ("PASSWORD", {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "pw"}),
    ],
)
def test_inside_a_procedure_the_secret_store_is_read(
    kind: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds of secrets that MLflow's client can use become its variables."""
    monkeypatch.setitem(sys.modules, "_snowflake", Secrets({"mlflow_token": kind}))
    options = {"mode": "external_access", "url": "https://mlflow.example.com"}
    assert resolve("snowflake", {}, options).environment == variables


def test_a_procedure_without_the_secret_gets_the_clause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or unusable secret is named, with the clause to add to the procedure."""
    monkeypatch.setitem(sys.modules, "_snowflake", Secrets({"odd": "CLOUD_PROVIDER_TOKEN"}))
    options = {"mode": "external_access", "url": "https://mlflow.example.com"}
    with pytest.raises(AccessError, match=r"SECRETS = \('mlflow_token'"):
        resolve("snowflake", {}, options)
    with pytest.raises(InvalidOptionError, match="CLOUD_PROVIDER_TOKEN"):
        resolve("snowflake", {}, {**options, "secret": "odd"})


def test_the_entry_points_are_cheap() -> None:
    """`import mlflow` loads them, so they load neither MLflow nor Snowpark."""
    code = (
        "import sys, mlflow_connections_snowflake.store._plugin; "
        "print(*[m for m in ('mlflow', 'snowflake.snowpark', 'yaml') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
