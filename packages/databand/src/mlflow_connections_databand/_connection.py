"""The keyword `databand`: an MLflow store, and a copy of every run for Databand."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from mlflow_connections import Connection, Endpoint, InvalidOptionError, Option, resolve

from ._transparent import VARIABLE, is_transparent, make_ready
from ._uri import CompositeUri, is_composite, parse, read_databand_url

TOKEN_VARIABLE = "DBND__CORE__DATABAND_ACCESS_TOKEN"  # noqa: S105 - the name, not a token


class Databand(Connection):
    """Copies what MLflow accepts to Databand.

    `duplicate_tracking_to` is the MLflow store: a URI, a path, or the keyword of another connection
    whose options stand in the environment. Without it the current tracking URI is meant. The
    variables are dbnd's own, so one configuration serves both.
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
            env=TOKEN_VARIABLE,
            credential=True,
            secret=True,
        ),
    )

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Give the composite URI, or the store's own where MLflow must recognise that."""
        databand, inner = self._destination(credentials, options)
        if is_transparent(inner.tracking_uri):
            make_ready()
            return inner.tracking_uri
        return str(databand._replace(inner=inner.tracking_uri or None))

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Give the token, and what the inner connection needs."""
        databand, inner = self._destination(credentials, options)
        environment = dict(inner.environment)
        if token := self.values(credentials, options)["access_token"]:
            environment[TOKEN_VARIABLE] = token
        if is_transparent(inner.tracking_uri):
            environment[VARIABLE] = str(databand._replace(inner=inner.tracking_uri))
        return environment

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
    """Give the tracking URI that is in force, of a composite one its inner; None leaves it to MLflow."""
    utils = sys.modules.get("mlflow.tracking._tracking_service.utils")
    uri = getattr(utils, "_tracking_uri", None) or os.environ.get("MLFLOW_TRACKING_URI")
    return parse(uri).inner if uri and is_composite(uri) else uri or None


connection = Databand()
