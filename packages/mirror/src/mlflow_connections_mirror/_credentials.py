"""The two servers of a mirror with their credentials, as secrets of the outbox and never on the disk."""

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from mlflow_connections.authentication import DESCRIPTION_VARIABLE, lasting_variables
from mlflow_connections.mlflow_state import CREDENTIAL_VARIABLES
from mlflow_connections.secrets import mask_uri

COPY_VARIABLE = "MLFLOW_CONNECTIONS_MIRROR_COPY_CREDENTIALS"
PRIMARY_VARIABLE = "MLFLOW_CONNECTIONS_MIRROR_PRIMARY_CREDENTIALS"

IDENTITY_VARIABLES = (*CREDENTIAL_VARIABLES, DESCRIPTION_VARIABLE)
"""Variables from which MLflow, or an authenticator, takes an identity."""


class MirroredServer(NamedTuple):
    """A server, and the environment variables that it alone needs.

    Attributes:
        uri: Its tracking URI, with credentials if it has any.
        environment: Its variables.
    """

    uri: str
    environment: Mapping[str, str]

    def __repr__(self) -> str:
        """Hide every credential."""
        return f"Server({mask_uri(self.uri)!r})"


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

    The copy's credentials are those that the connection has put into the environment; those of the
    primary are in force in this process.
    """
    mine = {name: os.environ[name] for name in CREDENTIAL_VARIABLES if name in os.environ}
    known = unpacked(os.environ.get(COPY_VARIABLE))
    environment = known.environment if known and known.uri == copy else {}
    # The shipper outlives this process, and fetches tokens by itself.
    mine |= lasting_variables(primary)
    return {
        PRIMARY_VARIABLE: packed(primary, mine),
        COPY_VARIABLE: packed(copy, environment),
    }
