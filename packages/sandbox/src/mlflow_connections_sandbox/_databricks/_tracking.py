"""MLflow's REST API of a Databricks workspace: forwarded, with the workspace's own rules."""

import json
import re
from typing import Any

import requests
from anyio import from_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mlflow_connections_sandbox._kept import KeptValues
from mlflow_connections_sandbox._mlflow_backend import MlflowBackend

from ._errors import ApiError, endpoint_not_found, invalid, missing
from ._places import to_stored, with_public_locations

USER = "sandbox@example.com"
"""The user of every token of the workspace."""

_DEFAULT_EXPERIMENT = "0"
_NOT_IN_NAMES = re.compile(r"[/.:]")


class Tracking:
    """Runs, experiments, logged models and the legacy registry.

    A workspace differs from a plain MLflow server: an experiment's name is a path in it, whose
    folder exists, and there is no default experiment.
    """

    def __init__(self, mlflow: MlflowBackend, kept: KeptValues) -> None:
        self._mlflow = mlflow
        self._kept = kept
        first = ["/", "/Shared", "/Users", f"/Users/{USER}"]
        self._folders = set(json.loads(kept.get("folders", lambda: json.dumps(first))))

    def forward(self, request: Request) -> Response:
        """Answer any call below `/api/<version>/mlflow/`."""
        path = request.url.path
        body = _body(request)
        self._check(path, {**request.query_params, **(body if isinstance(body, dict) else {})})
        answer = self.call(
            request.method, path + (f"?{request.url.query}" if request.url.query else ""), body
        )
        return _answer(request, answer)

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Send a request to the MLflow server."""
        if isinstance(body, dict) and isinstance(body.get("source"), str):
            body = {**body, "source": to_stored(body["source"])}
        return self._mlflow.call(method, path, json=body)

    def get(self, path: str, **query: str) -> Any:
        """Fetch an object from the MLflow server.

        Raises:
            ApiError: The server refused; the error has its own text.
        """
        answer = self._mlflow.call("GET", path, params=query)
        got = answer.json()
        if not answer.ok:
            raise ApiError(answer.status_code, got["error_code"], got["message"])
        return got

    def make_folder(self, request: Request) -> Response:
        """Answer `POST /api/2.0/workspace/mkdirs`: create the folder and its parents."""
        body = _body(request)
        path = body.get("path") if isinstance(body, dict) else None
        if not isinstance(path, str) or not path.startswith("/"):
            raise invalid(f"Path ({path}) doesn't start with '/'")
        self._add_folder(path)
        return JSONResponse({})

    def _add_folder(self, path: str) -> None:
        """Add a folder and its parents, which stay after a restart."""
        parts = path.strip("/").split("/")
        self._folders |= {"/" + "/".join(parts[:depth]) for depth in range(len(parts) + 1)}
        self._kept.put("folders", json.dumps(sorted(self._folders)))
        self._kept.write()

    def _check(self, path: str, values: dict[str, Any]) -> None:
        call = path.partition("/mlflow/")[2]
        if call in {"experiments/create", "experiments/update"}:
            self._check_name(values.get("new_name" if call.endswith("update") else "name"))
        if call.startswith(("registered-models/", "model-versions/")):
            _check_model_name(values.get("name"))
            _check_model_name(values.get("new_name"))
        if call == "experiments/get-by-name":
            _check_absolute(values.get("experiment_name"))
        if call == "runs/create" and not str(values.get("experiment_id") or "0").isdigit():
            raise invalid(f"Invalid experiment ID '{values['experiment_id']}'.")
        if str(values.get("experiment_id", "")) == _DEFAULT_EXPERIMENT or (
            call == "runs/create" and not values.get("experiment_id")
        ):
            raise missing(f"No experiment was found. Node ID {_DEFAULT_EXPERIMENT} does not exist.")

    def _check_name(self, name: Any) -> None:
        if name is None:
            return  # the server's own error is the clearer one
        _check_absolute(name)
        folder = name.rpartition("/")[0] or "/"
        if folder not in self._folders:
            raise missing(f"Parent directory {folder} does not exist.")


def _check_absolute(name: Any) -> None:
    if not isinstance(name, str) or not name.startswith("/"):
        # The wording is Databricks': see mlflow/mlflow#8269.
        raise invalid(
            f"Got an invalid experiment name '{name}'. An experiment name must be an absolute path "
            "within the Databricks workspace, e.g. '/Users/<some-username>/my-experiment'."
        )


def _check_model_name(name: Any) -> None:
    if isinstance(name, str) and (not name or _NOT_IN_NAMES.search(name)):
        # The wording is Databricks': see databricks/mlops-stacks#131.
        raise invalid(
            f"Invalid name '{name}'. A workspace registered model name must be a non-empty UTF-8 "
            "string and cannot contain forward slashes(/), periods(.), or colons(:). If trying to "
            "access models in the Unity Catalog, make sure to install version 2.4.1 or above of "
            "the MLflow Python client, then configure the MLflow client to access models in Unity "
            "Catalog via mlflow.set_registry_uri('databricks-uc') before accessing models."
        )


def _answer(request: Request, answer: requests.Response) -> Response:
    try:
        content = answer.json()
    except ValueError:
        if answer.status_code in {404, 405}:
            # The workspace has no API that this version of the MLflow server lacks.
            raise endpoint_not_found(request.method, request.url.path) from None
        return Response(answer.content, answer.status_code, media_type="text/plain")
    if isinstance(content, dict) and isinstance(content.get("experiments"), list):
        content["experiments"] = [
            e for e in content["experiments"] if e.get("experiment_id") != _DEFAULT_EXPERIMENT
        ]
    for kind in ("registered_models", "model_versions"):
        if isinstance(content, dict) and isinstance(content.get(kind), list):
            # Models of Unity Catalog, which are stored next to the workspace's own.
            content[kind] = [each for each in content[kind] if "." not in each.get("name", "")]
    return JSONResponse(with_public_locations(content), answer.status_code)


def values_of(request: Request) -> dict[str, Any]:
    """Return the parameters of a call, from its query (where a key may repeat) or its JSON body.

    Raises:
        ApiError: The body is not a JSON object.
    """
    if request.method == "GET":
        return {
            key: found if len(found := request.query_params.getlist(key)) > 1 else found[0]
            for key in request.query_params
        }
    values = _body(request)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ApiError(400, "MALFORMED_REQUEST", "Invalid JSON given in the body.")
    return values


def _body(request: Request) -> Any:
    raw = from_thread.run(request.body)
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        raise ApiError(400, "MALFORMED_REQUEST", "Invalid JSON given in the body.") from None
