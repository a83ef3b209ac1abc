"""Open sessions with Snowflake from the parameters that Snowflake's own tools read.

The first source that applies is used: parameters given by the caller; a named connection;
`SNOWFLAKE_ACCOUNT` and similar variables; the default connection. A named connection comes from
`connections.toml` and from `SNOWFLAKE_CONNECTIONS_<NAME>_<KEY>`, which takes precedence, as in the
`snow` command
(https://docs.snowflake.com/en/developer-guide/snowflake-cli/connecting/configure-connections). In a
container Snowflake sets `SNOWFLAKE_ACCOUNT` and `SNOWFLAKE_HOST`, and puts the service's token into
a file (https://docs.snowflake.com/en/developer-guide/snowpark-container-services/spcs-execute-sql).
"""

import base64
import binascii
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlflow_connections import (
    AccessError,
    ConnectionsError,
    InvalidOptionError,
    MissingOptionError,
    UnreachableError,
)
from mlflow_connections.secrets import mask, masked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowflake.snowpark import Session

IDENTITY = (
    "account",
    "user",
    "authenticator",
    "private_key_file",
    "private_key_raw",
    "private_key_file_pwd",
    "token",
    "token_file_path",
    "password",
    "role",
    "warehouse",
    "host",
)
"""Connection parameters that are credentials, each read from `SNOWFLAKE_<KEY>`; passwords are last."""
SECRETS = frozenset({"password", "token", "private_key_file_pwd", "private_key_raw"})

_PARAMETERS = (*IDENTITY, "private_key_path", "database", "schema", "port", "protocol")
_SERVICE_TOKEN = Path("/snowflake/session/token")
"""The token of the service of this container; Snowflake renews it."""
_CREDENTIALS = frozenset(
    (
        *("authenticator", "password", "token", "token_file_path"),
        *("private_key_file", "private_key_path", "private_key_raw"),
    )
)
_PASSPHRASE = "PRIVATE_KEY_PASSPHRASE"  # noqa: S105 - the name of snow's variable
# A code of SnowparkSessionException, from snowflake/snowpark/_internal/error_message.py.
_MORE_THAN_ONE = "1409"

_lock = threading.RLock()
_opened: "dict[str | None, Session]" = {}


def open_session(
    connection: str | None = None, parameters: Mapping[str, Any] | None = None
) -> "Session":
    """Open a session.

    Args:
        connection: The name of a connection. Without one, the environment's `SNOWFLAKE_ACCOUNT`,
            `SNOWFLAKE_USER` and so on are used, and without `SNOWFLAKE_ACCOUNT` the default
            connection.
        parameters: The connector's own parameters, instead of any other source.

    Raises:
        MissingOptionError: The connection does not exist.
        InvalidOptionError: A parameter is invalid.
        AccessError: Snowflake refused the credentials.
        UnreachableError: Snowflake did not respond.
    """
    from snowflake.connector.errors import Error, OperationalError
    from snowflake.snowpark import Session

    given = connection_parameters(connection, parameters)
    try:
        session: Session = Session.builder.configs(given).create()
    except (Error, OSError) as error:
        text = str(getattr(error, "msg", None) or error)
        said = mask(" ".join(text.split()), [given.get(key) for key in SECRETS])
        kind: type[ConnectionsError]
        kind = UnreachableError if isinstance(error, OperationalError) else AccessError
        raise kind(
            f"No session with Snowflake: {said.rstrip('.')}. Connection parameters are read from "
            "--connection and connections.toml, or from SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, "
            "SNOWFLAKE_PRIVATE_KEY_FILE, SNOWFLAKE_TOKEN and so on."
        ) from masked(error)
    return session


def connection_parameters(
    connection: str | None = None, parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the connector's parameters for a connection, under the connector's names.

    Args:
        connection: As for `open_session`.
        parameters: As for `open_session`.

    Raises:
        MissingOptionError: The connection does not exist.
        InvalidOptionError: A private key cannot be read.
    """
    if parameters:
        return _translated(parameters)
    if connection is None and os.environ.get("SNOWFLAKE_ACCOUNT"):
        read = {key: os.environ.get(f"SNOWFLAKE_{key.upper()}") for key in _PARAMETERS}
        found = {key: value for key, value in read.items() if value}
        if not found.keys() & _CREDENTIALS and _SERVICE_TOKEN.is_file():
            found |= {"authenticator": "oauth", "token": _SERVICE_TOKEN.read_text().strip()}
        return _translated(found)
    return _translated(_named(connection))


def _named(connection: str | None) -> dict[str, Any]:
    from snowflake.connector.config_manager import CONFIG_MANAGER
    from snowflake.connector.errors import Error

    try:
        connection = connection or str(CONFIG_MANAGER["default_connection_name"])
        known: dict[str, Any] = dict(cast("Any", CONFIG_MANAGER["connections"]))
    except Error as error:
        raise InvalidOptionError(
            f"Snowflake's configuration cannot be read: {error.msg}. Fix connections.toml."
        ) from masked(error)
    before = f"SNOWFLAKE_CONNECTIONS_{connection.upper()}_"
    overrides = {
        name.removeprefix(before).lower(): value
        for name, value in os.environ.items()
        if name.startswith(before) and value
    }
    entry = {**known.get(connection, {}), **overrides}
    if not entry:
        names = ", ".join(sorted(known)) or "none"
        raise MissingOptionError(
            f"No session with Snowflake: there is no connection {connection!r} (known: {names}). "
            f"Add it to connections.toml, set {before}ACCOUNT and so on, or set "
            "SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER."
        )
    return entry


def _translated(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with `snow`'s names replaced by the connector's."""
    found = {key: value for key, value in given.items() if value is not None}
    if (variable := found.pop("password_from_env", None)) is not None:
        found["password"] = _from_variable(str(variable))
    if (path := found.pop("private_key_path", None)) is not None:
        found.setdefault("private_key_file", path)
    raw = found.pop("private_key_raw", None) or (
        os.environ.get("SNOWFLAKE_PRIVATE_KEY_RAW")
        if found.get("authenticator", "").upper() == "SNOWFLAKE_JWT"
        and not {"private_key_file", "private_key"} & set(found)
        else None
    )
    passphrase = os.environ.get(_PASSPHRASE)
    if raw is not None:
        secret = found.pop("private_key_file_pwd", None) or passphrase
        found["private_key"] = _key_bytes(str(raw), secret)
    elif passphrase and "private_key_file" in found:
        found.setdefault("private_key_file_pwd", passphrase)
    if "authenticator" not in found:
        if {"private_key", "private_key_file"} & set(found):
            found["authenticator"] = "SNOWFLAKE_JWT"
        elif {"token", "token_file_path"} & set(found):
            found["authenticator"] = "PROGRAMMATIC_ACCESS_TOKEN"
    return found


def _from_variable(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise MissingOptionError(
            f"The environment variable {variable}, which password_from_env names, is not set."
        )
    return value


def _key_bytes(pem: str, passphrase: object) -> bytes:
    """Return a private key in the connector's format: PKCS#8 in DER."""
    from cryptography.hazmat.primitives import serialization

    text = pem.replace("\\n", "\n").strip()
    try:
        if not text.startswith("-----"):
            text = base64.b64decode(text, validate=True).decode("ascii")
        key = serialization.load_pem_private_key(
            text.encode(), str(passphrase).encode() if passphrase else None
        )
    except (ValueError, TypeError, binascii.Error):
        # The reason is omitted: it may quote the key.
        raise InvalidOptionError(
            "private_key_raw is not a private key in PEM format, or its passphrase is wrong. Set "
            f"private_key_file_pwd or {_PASSPHRASE} for an encrypted key."
        ) from None
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def is_inside_snowflake() -> bool:
    """Return whether this process is a procedure or a container in Snowflake."""
    return (
        "_snowflake" in sys.modules
        or find_spec("_snowflake") is not None
        or "SNOWFLAKE_CONTAINER_SERVICES_SECRET_PATH_PREFIX" in os.environ
    )


@contextmanager
def exclusive_session(connection: str | None) -> "Iterator[Session]":
    """Yield the session while no other thread uses it.

    A session takes one statement at a time, and some of MLflow's autologging works in threads.

    Raises:
        ConnectionsError: As for `session_of`.
    """
    with _lock:
        yield session_of(connection)


def session_of(connection: str | None) -> "Session":
    """Return the procedure's session inside Snowflake, and the connection's elsewhere.

    Call this before each statement: a procedure's session ends with the procedure, and MLflow may
    keep a store for longer.

    Raises:
        AccessError: More than one session is active, and none is named.
        MissingOptionError: No session is active, and the connection does not exist.
        UnreachableError: Snowflake did not respond.
    """
    known = _opened.get(connection)
    if known is not None and not _is_closed(known):
        return known
    # A URI that names a connection also works in a procedure, which cannot open sessions.
    if (connection is None or is_inside_snowflake()) and (active := _active()):
        return active
    known = _opened[connection] = open_session(connection)
    return known


def _active() -> "Session | None":
    """Return the one active session, unless this module opened it for another connection."""
    from snowflake.snowpark.context import get_active_session
    from snowflake.snowpark.exceptions import SnowparkSessionException

    try:
        session = get_active_session()
    except SnowparkSessionException as error:
        if error.error_code == _MORE_THAN_ONE:
            raise AccessError(
                "More than one Snowpark session is active. Close all but one, or name a "
                "connection with the option 'connection'."
            ) from masked(error)
        return None
    return None if any(session is own for own in _opened.values()) else session


def _is_closed(session: "Session") -> bool:
    return bool(session._conn.is_closed())
