"""The keyword `databand`: an MLflow store, and a copy of every run for Databand."""

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

from ._uri import TOKEN_VARIABLES, CompositeUri, is_composite, parse, read_databand_url

VARIABLE = "MLFLOW_CONNECTIONS_DATABAND"
"""Holds the composite URI while a store that must keep its own URI is copied; children inherit it."""


class DatabandConnection(Connection):
    """Copies every run that MLflow accepts to Databand.

    `duplicate_tracking_to` is the MLflow store: a URI, a path, or the keyword of another connection
    whose options are in the environment. By default it is the current tracking URI. The variables are
    dbnd's own, so one configuration serves both.
    """

    declared = (
        Option(
            "databand_url",
            "Databand's address, such as https://acme.databand.ai.",
            env="DBND__CORE__DATABAND_URL",
            required=True,
        ),
        Option(
            "duplicate_tracking_to",
            "The MLflow store: a URI, a path or a connection's keyword; by default the current one.",
            env="DBND__MLFLOW_TRACKING__DUPLICATE_TRACKING_TO",
        ),
        Option(
            "access_token",
            "A personal access token of Databand.",
            env=TOKEN_VARIABLES[0],
            credential=True,
            secret=True,
        ),
    )

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the composite URI, or the store's own if MLflow must recognise that."""
        from mlflow_connections_events import activate, keeps_its_uri

        databand, inner = self._destination(credentials, options)
        if keeps_its_uri(inner.tracking_uri):
            activate()
            return inner.tracking_uri
        return str(databand._replace(inner=inner.tracking_uri or None))

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the token, and the environment of the inner connection."""
        from mlflow_connections_events import keeps_its_uri

        databand, inner = self._destination(credentials, options)
        environment = dict(inner.environment)
        if token := self.values(credentials, options)["access_token"]:
            environment[TOKEN_VARIABLES[0]] = token
        if keeps_its_uri(inner.tracking_uri):
            environment[VARIABLE] = str(databand._replace(inner=inner.tracking_uri))
        return environment

    def inner_endpoint(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Endpoint | None:
        """Return the store that Databand gets a copy of."""
        _, inner = self._destination(credentials, options)
        if inner.tracking_uri == (current_tracking_uri() or ""):
            # What is in force may stand in front of it already.
            return inner._replace(tracking_uri=mlflow_state.tracking_uri() or "")
        return inner

    def _destination(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[CompositeUri, Endpoint]:
        values = self.values(credentials, options)
        return read_databand_url(values["databand_url"]), _store(values["duplicate_tracking_to"])


def _store(duplicate_tracking_to: str | None) -> Endpoint:
    if duplicate_tracking_to is None:
        return Endpoint(current_tracking_uri() or "")
    if duplicate_tracking_to == "databand" or is_composite(duplicate_tracking_to):
        raise InvalidOptionError(
            "'duplicate_tracking_to' must name an MLflow store, not Databand itself."
        )
    return resolve(duplicate_tracking_to)


def current_tracking_uri() -> str | None:
    """Return the tracking URI in force, of a Databand URI its inner store, or None if none is set."""
    uri = mlflow_state.tracking_uri()
    return parse(uri).inner if uri and is_composite(uri) else uri


connection = DatabandConnection()
"""The instance that is registered under the keyword."""
