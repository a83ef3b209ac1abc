"""White space in the credentials of the connector."""

import pytest

from mlflow_connections import InvalidOptionError
from mlflow_connections.options import read_options
from mlflow_connections_snowflake._connection import SnowflakeConnection

KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----\n"


def test_a_private_key_keeps_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEM's lines are kept, also in a variable; only the trailing newline is removed."""
    monkeypatch.setenv("SNOWFLAKE_PRIVATE_KEY_RAW", KEY)
    (reading,) = [
        each
        for each in read_options(SnowflakeConnection.declared, {}, {})
        if each.option.name == "private_key_raw"
    ]
    assert reading.value == KEY.strip()


def test_white_space_around_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snowflake treats a trailing space as part of the password."""
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "open sesame\n")
    with pytest.raises(InvalidOptionError, match="begins or ends with white space") as caught:
        read_options(SnowflakeConnection.declared, {}, {})
    assert "sesame" not in str(caught.value)
