"""The keyword `databand`: an MLflow store, and a copy of every run for Databand."""

from collections.abc import Mapping
from typing import Any

from mlflow_connections import InvalidOptionError, Option
from mlflow_connections_events.connection import CompositeConnection, Front

from ._uri import TOKEN_VARIABLES, is_databand, parse, read_databand_url

VARIABLE = "MLFLOW_CONNECTIONS_DATABAND"
"""Holds the composite URI while a store that must keep its own URI is copied; children inherit it."""


class DatabandConnection(CompositeConnection):
    """Copies every run that MLflow accepts to Databand.

    `duplicate_tracking_to` is the MLflow store: a URI, a path, or the keyword of another connection
    whose options are in the environment. By default it is the current tracking URI. The variables are
    dbnd's own, so one configuration serves both.
    """

    variable = VARIABLE
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

    def front(self, values: Mapping[str, Any]) -> Front:
        """Return the store that is copied to Databand, and the token in a variable."""
        databand = read_databand_url(values["databand_url"])
        store = values["duplicate_tracking_to"]
        if store == "databand" or is_databand(store):
            raise InvalidOptionError(
                "'duplicate_tracking_to' must name an MLflow store, not Databand itself."
            )
        inner = self.server_of(store)
        token = values["access_token"]
        uri = databand._replace(inner=inner.tracking_uri or None)
        return Front(uri, inner, {TOKEN_VARIABLES[0]: token} if token else {})

    def inner_of(self, uri: str) -> str | None:
        """Return the store of a Databand URI, and any other URI unchanged."""
        return parse(uri).inner if is_databand(uri) else uri


connection = DatabandConnection()
"""The instance that is registered under the keyword."""
