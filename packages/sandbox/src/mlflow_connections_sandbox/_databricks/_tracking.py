"""MLflow's REST API as a Databricks workspace offers it: forwarded, with the workspace's own rules."""

import json
from typing import Any

import requests
from anyio import from_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mlflow_connections_sandbox._mlflow_backend import MlflowBackend

from ._errors import ApiError, endpoint_not_found, invalid, missing
from ._places import store, told

USER = "sandbox@example.com"
"""Who every token of the workspace belongs to."""

_DEFAULT_EXPERIMENT = "0"


class Tracking:
    """Runs, experiments, logged models and the legacy registry.

    A workspace differs from a plain MLflow server: an experiment's name is a path in it, whose
    folder exists, and there is no default experiment.
    """

    def __init__(self, mlflow: MlflowBackend) -> None:
        self._mlflow = mlflow
        self._folders = {"/", "/Shared", "/Users", f"/Users/{USER}"}

    def forward(self, request: Request) -> Response:
        """Answer any call below `/api/<version>/mlflow/`."""
        path = request.url.path
        body = _body(request)
        if "/mlflow/unity-catalog/" in path:
            raise ApiError(
                404,
                "METASTORE_DOES_NOT_EXIST",
                "No metastore assigned for the current workspace.",
            )
        self._check(path, {**request.query_params, **(body if isinstance(body, dict) else {})})
        answer = self.call(
            request.method, path + (f"?{request.url.query}" if request.url.query else ""), body
        )
        return _answer(request, answer)

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Ask the MLflow server."""
        if isinstance(body, dict) and isinstance(body.get("source"), str):
            body = {**body, "source": store(body["source"])}
        return self._mlflow.call(method, path, json=body)

    def get(self, path: str, **query: str) -> Any:
        """Ask the MLflow server for something; its refusals pass.

        Raises:
            ApiError: It refused.
        """
        answer = self._mlflow.call("GET", path, params=query)
        got = answer.json()
        if not answer.ok:
            raise ApiError(answer.status_code, got["error_code"], got["message"])
        return got

    def make_folder(self, request: Request) -> Response:
        """Answer `POST /api/2.0/workspace/mkdirs`: the folder and all above it."""
        body = _body(request)
        path = body.get("path") if isinstance(body, dict) else None
        if not isinstance(path, str) or not path.startswith("/"):
            raise invalid(f"Path ({path}) doesn't start with '/'")
        parts = path.strip("/").split("/")
        self._folders |= {"/" + "/".join(parts[:depth]) for depth in range(len(parts) + 1)}
        return JSONResponse({})

    def _check(self, path: str, values: dict[str, Any]) -> None:
        call = path.partition("/mlflow/")[2]
        if call in {"experiments/create", "experiments/update"}:
            self._check_name(values.get("new_name" if call.endswith("update") else "name"))
        if call == "experiments/get-by-name":
            _check_absolute(values.get("experiment_name"))
        if str(values.get("experiment_id", "")) == _DEFAULT_EXPERIMENT or (
            call == "runs/create" and not values.get("experiment_id")
        ):
            raise missing(f"No experiment was found. Node ID {_DEFAULT_EXPERIMENT} does not exist.")

    def _check_name(self, name: Any) -> None:
        if name is None:
            return  # the server's own refusal says it best
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


def _answer(request: Request, answer: requests.Response) -> Response:
    try:
        content = answer.json()
    except ValueError:
        if answer.status_code in {404, 405}:
            # What an MLflow server of this version does not know, the workspace does not know.
            raise endpoint_not_found(request.method, request.url.path) from None
        return Response(answer.content, answer.status_code, media_type="text/plain")
    if isinstance(content, dict) and isinstance(content.get("experiments"), list):
        content["experiments"] = [
            e for e in content["experiments"] if e.get("experiment_id") != _DEFAULT_EXPERIMENT
        ]
    return JSONResponse(told(content), answer.status_code)


def _body(request: Request) -> Any:
    raw = from_thread.run(request.body)
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        raise ApiError(400, "MALFORMED_REQUEST", "Invalid JSON given in the body.") from None
