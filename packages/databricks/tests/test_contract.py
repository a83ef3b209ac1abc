"""The contract of every connection, for each form of `databricks`."""

from mlflow_connections.testing import ConnectionContract


class TestPlain(ConnectionContract):
    """No options."""

    keyword = "databricks"
    tracking_uri = "databricks"


class TestProfile(ConnectionContract):
    """A profile."""

    keyword = "databricks"
    options = {"profile": "prod"}  # noqa: RUF012 - the contract declares it a ClassVar
    tracking_uri = "databricks://prod"


class TestToken(ConnectionContract):
    """A workspace and a token."""

    keyword = "databricks"
    options = {"host": "https://dbc.example"}  # noqa: RUF012
    credentials = {"token": "dapi-of-the-test"}  # noqa: RUF012
    tracking_uri = "databricks"


class TestClient(ConnectionContract):
    """A workspace and an OAuth client."""

    keyword = "databricks"
    options = {"host": "https://dbc.example"}  # noqa: RUF012
    credentials = {"client_id": "id", "client_secret": "dose-of-the-test"}  # noqa: RUF012
    tracking_uri = "databricks"
