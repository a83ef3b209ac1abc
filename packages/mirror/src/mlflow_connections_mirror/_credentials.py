"""The two servers of a mirror with their credentials, as secrets of the outbox that never reach the disk."""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mlflow_connections import ConnectionsError, resolve
from mlflow_connections.authentication import DESCRIPTION_VARIABLE, lasting_variables
from mlflow_connections.mlflow_state import CREDENTIAL_VARIABLES
from mlflow_connections.secrets import mask_uri

SERVERS_VARIABLE = "MLFLOW_CONNECTIONS_MIRROR_SERVERS"
"""Holds the names of the primary and the copy, as JSON without secrets, so that a later delivery can sign in."""
COPY_VARIABLE = "MLFLOW_CONNECTIONS_MIRROR_COPY_CREDENTIALS"
PRIMARY_VARIABLE = "MLFLOW_CONNECTIONS_MIRROR_PRIMARY_CREDENTIALS"

_NAMES = "servers.json"
_AT = " at "
_OF = "mirror of "
_DATABRICKS = "DATABRICKS_"

IDENTITY_VARIABLES = (*CREDENTIAL_VARIABLES, DESCRIPTION_VARIABLE)
"""Variables from which MLflow, or an authenticator, reads an identity."""


class MirroredServer(NamedTuple):
    """A server, and the environment variables that only it needs.

    Attributes:
        uri: Its tracking URI, with credentials if it has any.
        environment: Its variables.
    """

    uri: str
    environment: Mapping[str, str]

    def __repr__(self) -> str:
        """Hide every credential."""
        return f"Server({mask_uri(self.uri)!r})"


def address(server: MirroredServer) -> str:
    """Return the address of a server, without credentials.

    Databricks' URI alone does not identify the workspace, nor does a relative path the file.
    """
    shown = mask_uri(absolute(server.uri))
    host = {**os.environ, **server.environment}.get(f"{_DATABRICKS}HOST", "")
    if host and _is_databricks(server.uri):
        return mask_uri(f"{shown}{_AT}{host}")
    return shown


def absolute(uri: str) -> str:
    """Return a URI with the absolute path if it is a relative one: the process that delivers has another folder."""
    scheme, marks, path = uri.partition(":///")
    if marks and scheme.partition("+")[0] == "sqlite":
        is_relative = path and path != ":memory:" and not path.startswith(("/", "file:"))
        return f"{scheme}:///{Path(path).absolute()}" if is_relative else uri
    is_path = ":" not in uri and uri not in {"", "databricks", "databricks-uc"}
    return str(Path(uri).absolute()) if is_path else uri


def named_after(primary: str) -> str:
    """Return the name of the destination for the runs of a primary.

    Args:
        primary: Its address.
    """
    return f"{_OF}{primary}"


def primary_of(name: str) -> str:
    """Return the address of the primary in the name of a destination."""
    return name.removeprefix(_OF)


def variables_of(uri: str) -> list[str]:
    """Return the variables in the environment from which Databricks' client reads a workspace, if the URI is one."""
    return [each for each in os.environ if each.startswith(_DATABRICKS) and _is_databricks(uri)]


def _is_databricks(uri: str) -> bool:
    return uri.partition(":")[0] == "databricks"


def uri_at(address: str) -> str:
    """Return the URI in an address."""
    return address.partition(_AT)[0]


def copy_in_force(uri: str) -> MirroredServer:
    """Return the copy with the variables that its connection has set in this process, if any."""
    known = unpacked(os.environ.get(COPY_VARIABLE))
    return known if known and known.uri == uri else MirroredServer(absolute(uri), {})


def packed(uri: str, environment: Mapping[str, str]) -> str:
    """Return a server as the value of one variable."""
    return json.dumps([uri, dict(environment)])


def unpacked(value: str | None) -> MirroredServer | None:
    """Return the server of a variable's value, or None if there is none."""
    if not value:
        return None
    uri, environment = json.loads(value)
    return MirroredServer(uri, environment)


def secrets_of(primary: str, copy: str) -> dict[str, str]:
    """Return both servers as secrets of an outbox.

    The connection has put the copy's credentials into the environment; those of the primary are in
    force in this process.
    """
    names = (*CREDENTIAL_VARIABLES, *variables_of(primary))
    mine = {name: os.environ[name] for name in names if name in os.environ}
    # The shipper outlives this process, and fetches tokens itself.
    mine |= lasting_variables(primary)
    return {
        PRIMARY_VARIABLE: packed(absolute(primary), mine),
        COPY_VARIABLE: packed(*copy_in_force(copy)),
    }


class ServerNames(NamedTuple):
    """The given names of a mirror's servers: a keyword, a connection's name, or a URI.

    Attributes:
        primary: The primary, or None if it was the tracking URI in force.
        copy: The copy.
    """

    primary: str | None = None
    copy: str | None = None


def names_of(primary: str | None, copy: str) -> str:
    """Return the names of both servers, as the value of `SERVERS_VARIABLE`."""
    return json.dumps([primary and mask_uri(primary), mask_uri(copy)])


def read_names(value: str | None) -> ServerNames:
    """Return the names in the value of `SERVERS_VARIABLE`, or none."""
    try:
        return ServerNames(*json.loads(value or "[]"))
    except (TypeError, ValueError):
        return ServerNames()


def note_names(state: Path, names: str) -> None:
    """Store the names of the servers in the outbox's state folder.

    Raises:
        OSError: They cannot be written.
    """
    path = state / _NAMES
    if not path.exists() or path.read_text(encoding="utf-8") != names:
        temporary = path.with_name(f"{_NAMES}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
        temporary.write_text(names, encoding="utf-8")
        temporary.replace(path)


def noted_names(state: Path) -> str | None:
    """Read the names that `note_names` stored, or return None if there are none."""
    try:
        return (state / _NAMES).read_text(encoding="utf-8")
    except OSError:
        return None


def server_at(place: str, name: str | None) -> MirroredServer:
    """Return the server at an address, with the credentials of its name.

    Without them if the name needs a secret which this process does not have, or is another server's now.

    Args:
        place: The address.
        name: A keyword, a connection's name or a URI, or None.
    """
    named = _server_named(name)
    return named if named and address(named) == place else MirroredServer(uri_at(place), {})


def _server_named(name: str | None) -> MirroredServer | None:
    if not name or "***" in name:
        return None
    try:
        endpoint = resolve(name)
    except ConnectionsError:
        return None
    tokens = endpoint.authenticator.lasting_variables() if endpoint.authenticator else {}
    return MirroredServer(absolute(endpoint.tracking_uri), {**endpoint.environment, **tokens})
