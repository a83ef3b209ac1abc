"""The stores behind a mirror URI: the primary's, whose accepted calls are copied."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from mlflow_connections_events import duplicate, duplicate_registry, inner_tracking_uri
from mlflow_connections_outbox import Destination, Outbox, outbox_in_force, shared_outbox

from . import _uri
from ._credentials import (
    SERVERS_VARIABLE,
    MirroredServer,
    address,
    copy_in_force,
    named_after,
    note_names,
    secrets_of,
)

SINK = "mlflow_connections_mirror.sink:open_sink"
"""The function that opens the sink; spools name it."""


class MirrorCopy(NamedTuple):
    """Copies the runs of a primary server to a second one.

    Attributes:
        uri: The parsed mirror URI.
    """

    uri: _uri.MirrorUri

    @property
    def inner(self) -> str | None:
        """The primary's URI or path, or None for the tracking URI in force."""
        return self.uri.primary

    def outbox(self) -> Outbox:
        """Return the outbox of the copy; the URIs' credentials are not stored on the disk.

        Each primary has its own: their events need different credentials, and their experiments and versions
        have the same IDs.
        """
        primary = self.uri.primary or inner_tracking_uri(str(self.uri))
        destination = Destination(
            named_after(address(MirroredServer(primary, {}))),
            address(copy_in_force(self.uri.copy)),
            SINK,
        )
        outbox = shared_outbox(destination, secrets_of(primary, self.uri.copy))
        if named := os.environ.get(SERVERS_VARIABLE):
            # Without a disk there is no later process either.
            with suppress(OSError):
                note_names(outbox.state, named)
        return outbox

    def wrap_tracking(self, build: Callable[[], Any], enabled: Callable[[], bool]) -> Any:
        """Return the primary's tracking store, whose accepted calls are copied."""
        return duplicate(build(), outbox_in_force(self.outbox), enabled=enabled)

    def wrap_registry(self, build: Callable[[], Any], enabled: Callable[[], bool]) -> Any:
        """Return the primary's model registry, whose accepted calls are copied."""
        return duplicate_registry(build(), outbox_in_force(self.outbox), enabled=enabled)


def parse(uri: str) -> MirrorCopy:
    """Parse a mirror URI.

    Raises:
        InvalidOptionError: It names no copy, an unknown parameter, or one server twice.
    """
    return MirrorCopy(_uri.parse(uri))
