"""Artifact locations: Databricks' form for clients, and the MLflow server's.

A client reads `dbfs:/databricks/mlflow-tracking/<experiment>/<run>/artifacts`, and the server
stores `mlflow-artifacts:/<experiment>/<run>/artifacts`, so MLflow's own pages show the files too.
Logged models are in `logged_models` on Databricks and in `models` on the server; traces are next to
the runs on Databricks and in `traces` on the server.
"""

import re
from typing import Any
from urllib.parse import unquote

from ._errors import invalid, missing

_STORED = "mlflow-artifacts:/"
_PUBLIC = "dbfs:/databricks/mlflow-tracking/"

# The keys of locations. The text of a user's own parameter never changes.
_LOCATIONS = frozenset({"artifact_location", "artifact_uri", "root_uri", "source"})
_LOCATION_TAG = "mlflow.artifactLocation"

_FILES_API = re.compile(
    r"/WorkspaceInternal/Mlflow/Artifacts/(?P<experiment>\d+)/"
    r"(?P<kind>Runs|LoggedModels)/(?P<id>[\w-]+)(?P<rest>/.*)?"
)


def to_public(location: str) -> str:
    """Return the public form of a stored location; any other is returned unchanged."""
    if not location.startswith(_STORED):
        return location
    path = re.sub(r"^(\d+)/models/", r"\1/logged_models/", location[len(_STORED) :])
    return _PUBLIC + re.sub(r"^(\d+)/traces/tr-", r"\1/tr-", path)


def to_stored(location: str) -> str:
    """Return the stored form, also of `dbfs://profile@databricks/databricks/…`."""
    location = re.sub(r"^dbfs://[^/]+@databricks/", "dbfs:/", location)
    if not location.startswith(_PUBLIC):
        return location
    path = re.sub(r"^(\d+)/logged_models/", r"\1/models/", location[len(_PUBLIC) :])
    return _STORED + re.sub(r"^(\d+)/tr-", r"\1/traces/tr-", path)


def path_of(location: str) -> str:
    """Return the path of a location below the server's artifacts.

    Raises:
        ApiError: The location is not below them.
    """
    stored = to_stored(location)
    if not stored.startswith(_STORED):
        raise invalid(f"{location} is not managed by this workspace")
    return stored[len(_STORED) :]


def path_of_file(path: str) -> str:
    """Return the path, below the server's artifacts, of a path in the Files API.

    Raises:
        ApiError: It belongs to no artifact.
    """
    match = _FILES_API.fullmatch(unquote(path))
    if match is None or ".." in path.split("/"):
        raise missing(f"The path {path} does not exist.")
    models = "models/" if match["kind"] == "LoggedModels" else ""
    return f"{match['experiment']}/{models}{match['id']}{match['rest'] or ''}"


def with_public_locations(value: Any) -> Any:
    """Return a response with every location in its public form."""
    if isinstance(value, list):
        return [with_public_locations(each) for each in value]
    if not isinstance(value, dict):
        return value
    named = value.get("key") == _LOCATION_TAG
    return {
        key: to_public(each)
        if isinstance(each, str) and (key in _LOCATIONS or key == _LOCATION_TAG or named)
        else with_public_locations(each)
        for key, each in value.items()
    }
