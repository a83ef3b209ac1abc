"""The stores behind a composite URI: the inner store, with a copy of its runs for Databand."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from mlflow_connections_events import duplicate
from mlflow_connections_events.vocabulary import RUN_KINDS
from mlflow_connections_outbox import Destination, Outbox, outbox_in_force, shared_outbox

from . import _uri
from ._dbnd import current_attempt
from ._redact import redact
from ._uri import PASSWORD_VARIABLE, TOKEN_VARIABLES, USER_VARIABLE

SINK = "mlflow_connections_databand.sink:open_sink"
"""The function that opens the sink; spools name it."""


class DatabandCopy(NamedTuple):
    """Copies the runs of an inner store to Databand.

    Attributes:
        uri: The parsed composite URI.
    """

    uri: _uri.CompositeUri

    @property
    def inner(self) -> str | None:
        """The URI or path of the inner store, or None if the URI names none."""
        return self.uri.inner

    def outbox(self) -> Outbox:
        """Return the outbox of this Databand. Its address is stored on the disk, its credentials are not."""
        destination = Destination("databand", self.uri.databand_url, SINK)
        return shared_outbox(destination, self.secrets())

    def secrets(self) -> dict[str, str]:
        """Return the credentials for Databand: those of the URI, or else of the environment."""
        if self.uri.username is not None:
            return {USER_VARIABLE: self.uri.username, PASSWORD_VARIABLE: self.uri.password or ""}
        names = (*TOKEN_VARIABLES, USER_VARIABLE, PASSWORD_VARIABLE)
        return {name: value for name in names if (value := os.environ.get(name))}

    def wrap_tracking(self, build: Callable[[], Any], enabled: Callable[[], bool]) -> Any:
        """Return the inner tracking store, whose accepted calls are copied to Databand."""
        return duplicate(
            build(),
            outbox_in_force(self.outbox),
            redact=redact,
            extra=current_attempt,
            enabled=enabled,
            kinds=RUN_KINDS,
        )

    def wrap_registry(self, build: Callable[[], Any], _enabled: Callable[[], bool]) -> Any:
        """Return the inner model registry; Databand has none."""
        return build()


def parse(uri: str) -> DatabandCopy:
    """Parse a composite URI.

    Raises:
        InvalidOptionError: The URI is not a Databand URI, has no host, or has an unknown query parameter.
    """
    return DatabandCopy(_uri.parse(uri))
