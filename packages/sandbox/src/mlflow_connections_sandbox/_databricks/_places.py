"""Where artifacts are: as Databricks words it for clients, and as the MLflow server stores them.

A client is told `dbfs:/databricks/mlflow-tracking/<experiment>/<run>/artifacts`, the server behind
knows `mlflow-artifacts:/<experiment>/<run>/artifacts`; so MLflow's own pages show the files too.
Logged models are in `logged_models` there and in `models` here; traces stand beside the runs there
and are in `traces` here.
"""

import re
from typing import Any
from urllib.parse import unquote

from ._errors import invalid, missing

_STORED = "mlflow-artifacts:/"
_TOLD = "dbfs:/databricks/mlflow-tracking/"

# The keys whose values are locations. The text of a user's own parameter is never touched.
_LOCATIONS = frozenset({"artifact_location", "artifact_uri", "root_uri", "source"})
_LOCATION_TAG = "mlflow.artifactLocation"

_FILES_API = re.compile(
    r"/WorkspaceInternal/Mlflow/Artifacts/(?P<experiment>\d+)/"
    r"(?P<kind>Runs|LoggedModels)/(?P<id>[\w-]+)(?P<rest>/.*)?"
)


def tell(location: str) -> str:
    """Word a stored location as Databricks would; any other passes."""
    if not location.startswith(_STORED):
        return location
    path = re.sub(r"^(\d+)/models/", r"\1/logged_models/", location[len(_STORED) :])
    return _TOLD + re.sub(r"^(\d+)/traces/tr-", r"\1/tr-", path)


def store(location: str) -> str:
    """The way back of `tell`, also with a profile in it (`dbfs://profile@databricks/databricks/…`)."""
    location = re.sub(r"^dbfs://[^/]+@databricks/", "dbfs:/", location)
    if not location.startswith(_TOLD):
        return location
    path = re.sub(r"^(\d+)/logged_models/", r"\1/models/", location[len(_TOLD) :])
    return _STORED + re.sub(r"^(\d+)/tr-", r"\1/traces/tr-", path)


def path_of(location: str) -> str:
    """Give the path of a location below the server's artifacts.

    Raises:
        ApiError: The location is elsewhere.
    """
    stored = store(location)
    if not stored.startswith(_STORED):
        raise invalid(f"{location} is not managed by this workspace")
    return stored[len(_STORED) :]


def path_of_file(path: str) -> str:
    """Give the path below the server's artifacts for one of the Files API.

    Raises:
        ApiError: It is no artifact's.
    """
    match = _FILES_API.fullmatch(unquote(path))
    if match is None or ".." in path.split("/"):
        raise missing(f"The path {path} does not exist.")
    models = "models/" if match["kind"] == "LoggedModels" else ""
    return f"{match['experiment']}/{models}{match['id']}{match['rest'] or ''}"


def told(value: Any) -> Any:
    """Word every location in an answer as Databricks would."""
    if isinstance(value, list):
        return [told(each) for each in value]
    if not isinstance(value, dict):
        return value
    named = value.get("key") == _LOCATION_TAG
    return {
        key: tell(each)
        if isinstance(each, str) and (key in _LOCATIONS or key == _LOCATION_TAG or named)
        else told(each)
        for key, each in value.items()
    }
