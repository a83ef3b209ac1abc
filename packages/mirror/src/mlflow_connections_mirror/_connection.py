"""The keyword `mirror`: an MLflow server, and a copy of every run for a second one."""

from collections.abc import Mapping
from typing import Any

from mlflow_connections import (
    Connection,
    Endpoint,
    InvalidOptionError,
    Option,
    mlflow_state,
    resolve,
)

from ._credentials import COPY_VARIABLE, SERVERS_VARIABLE, names_of, packed
from ._uri import SCHEME, MirrorUri, parse

VARIABLE = "MLFLOW_CONNECTIONS_MIRROR"
"""Holds the mirror URI while a primary that must keep its own URI is copied; children inherit it."""


class Mirror(Connection):
    """Copies every run that the primary accepts to a second MLflow server.

    Both are a URI, a path, the name of a connection, or a keyword whose options are in the environment.
    The copy is faithful: nothing is masked.
    """

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

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the mirror URI, or the primary's own if MLflow must recognise that."""
        from mlflow_connections_events import activate, keeps_its_uri

        primary, copy = self._servers(credentials, options)
        if keeps_its_uri(primary.tracking_uri):
            activate()
            return primary.tracking_uri
        return str(MirrorUri(primary.tracking_uri or None, copy.tracking_uri))

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the primary's environment, the copy's in one variable, and how both were named."""
        from mlflow_connections_events import keeps_its_uri

        primary, copy = self._servers(credentials, options)
        values = self.values(credentials, options)
        named = names_of(values["primary"], values["copy"])
        environment = {**primary.environment, SERVERS_VARIABLE: named}
        copys = dict(copy.environment)
        if copy.authenticator is not None:
            copys |= copy.authenticator.lasting_variables()
        if copys:
            environment[COPY_VARIABLE] = packed(copy.tracking_uri, copys)
        if keeps_its_uri(primary.tracking_uri):
            environment[VARIABLE] = str(MirrorUri(primary.tracking_uri, copy.tracking_uri))
        return environment

    def inner_endpoint(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Endpoint | None:
        """Return the primary."""
        inner, _ = self._servers(credentials, options)
        if inner.tracking_uri == (current_tracking_uri() or ""):
            # What is in force may stand in front of it already.
            return inner._replace(tracking_uri=mlflow_state.tracking_uri() or "")
        return inner

    def _servers(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[Endpoint, Endpoint]:
        values = self.values(credentials, options)
        primary = _resolved("primary", values["primary"])
        copy = _resolved("copy", values["copy"])
        if primary.tracking_uri == copy.tracking_uri:
            raise InvalidOptionError(
                "'primary' and 'copy' name the same server; name another one as 'copy'."
            )
        return primary, copy


def _resolved(option: str, server: str | None) -> Endpoint:
    if server is None:
        return Endpoint(current_tracking_uri() or "")
    if server == SCHEME or server.startswith(f"{SCHEME}://"):
        raise InvalidOptionError(f"'{option}' must name an MLflow server, not a mirror.")
    return resolve(server)


def current_tracking_uri() -> str | None:
    """Return the tracking URI in force, of a mirror URI its primary, or None if none is set."""
    uri = mlflow_state.tracking_uri()
    return parse(uri).primary if uri and uri.startswith(f"{SCHEME}://") else uri


connection = Mirror()
"""The instance that is registered under the keyword."""
