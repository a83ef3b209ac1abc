"""The keyword `mirror`: an MLflow server, and a copy of every run for a second one."""

from collections.abc import Mapping
from typing import Any

from mlflow_connections import Endpoint, InvalidOptionError, Option
from mlflow_connections_events.connection import CompositeConnection, Front

from ._credentials import (
    COPY_VARIABLE,
    SERVERS_VARIABLE,
    MirroredServer,
    absolute,
    address,
    names_of,
    packed,
)
from ._uri import SCHEME, MirrorUri, parse

VARIABLE = "MLFLOW_CONNECTIONS_MIRROR"
"""Holds the mirror URI while a primary that must keep its own URI is copied; children inherit it."""


class Mirror(CompositeConnection):
    """Copies every run that the primary accepts to a second MLflow server.

    Both are a URI, a path, the name of a connection, or a keyword whose options are in the environment.
    The copy is faithful: nothing is masked.
    """

    variable = VARIABLE
    declared = (
        Option(
            "primary",
            "The server that answers: a URI, a path, a connection's name or a keyword; by default the "
            "current tracking URI.",
        ),
        Option(
            "copy",
            "The server to copy to: a URI, a path, a connection's name or a keyword.",
            required=True,
        ),
    )

    def front(self, values: Mapping[str, Any]) -> Front:
        """Return the primary, with the copy's environment in one variable and both servers' names in another."""
        primary = self._server("primary", values["primary"])
        # Its outage must not stop the primary's programs.
        copy = self._server("copy", values["copy"], may_be_down=True)
        copy = copy._replace(tracking_uri=absolute(copy.tracking_uri))
        both = (MirroredServer(each.tracking_uri, each.environment) for each in (primary, copy))
        if len({address(each) for each in both}) == 1:
            raise InvalidOptionError(
                "'primary' and 'copy' name the same server; name another one as 'copy'."
            )
        own = {SERVERS_VARIABLE: names_of(values["primary"], values["copy"])}
        copys = dict(copy.environment)
        if copy.authenticator is not None:
            copys |= copy.authenticator.lasting_variables()
        if copys:
            own[COPY_VARIABLE] = packed(copy.tracking_uri, copys)
        return Front(MirrorUri(primary.tracking_uri or None, copy.tracking_uri), primary, own)

    def inner_of(self, uri: str) -> str | None:
        """Return the primary of a mirror URI, and any other URI unchanged."""
        return parse(uri).primary if _is_mirror(uri) else uri

    def _server(self, option: str, named: str | None, *, may_be_down: bool = False) -> Endpoint:
        if named is not None and (named == SCHEME or _is_mirror(named)):
            raise InvalidOptionError(f"'{option}' must name an MLflow server, not a mirror.")
        return self.server_of(named, may_be_down=may_be_down)


def _is_mirror(uri: str) -> bool:
    return uri.startswith(f"{SCHEME}://")


connection = Mirror()
"""The instance that is registered under the keyword."""
