"""Artifacts that a workspace manages: signed URLs, and the Files API that newer clients try first."""

import hashlib
import hmac
import json
import secrets
import time
from typing import Any
from urllib.parse import quote

from anyio import from_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mlflow_connections_sandbox._mlflow_backend import MlflowBackend

from ._errors import ApiError, invalid, missing
from ._places import path_of, path_of_file
from ._tracking import Tracking

SIGNED_SECONDS = 3600
"""How long a signed URL works."""

_ROOT = "/api/2.0/mlflow-artifacts/artifacts"


class Artifacts:
    """Reads and writes what the MLflow server stores; the bytes are never kept here."""

    def __init__(self, url: str, mlflow: MlflowBackend, tracking: Tracking) -> None:
        self._url = url
        self._mlflow = mlflow
        self._tracking = tracking
        self._key = secrets.token_bytes(32)

    def run_credentials(self, request: Request) -> Response:
        """Answer `artifacts/credentials-for-read` and `-write`: a signed URL per path."""
        values = _values(request)
        run = self._tracking.get("/api/2.0/mlflow/runs/get", run_id=str(values.get("run_id", "")))
        root = path_of(run["run"]["info"]["artifact_uri"])
        method = "GET" if request.url.path.endswith("-read") else "PUT"
        infos = [
            {**self._credential(method, root, path), "run_id": values["run_id"], "path": path}
            for path in _paths(values.get("path"))
        ]
        return JSONResponse({"credential_infos": infos})

    def model_credentials(self, request: Request) -> Response:
        """Answer `logged-models/{id}/artifacts/credentials-for-download` and `-upload`."""
        model_id = request.path_params["model_id"]
        model = self._tracking.get(f"/api/2.0/mlflow/logged-models/{model_id}")
        root = path_of(model["model"]["info"]["artifact_uri"])
        method = "GET" if request.url.path.endswith("-download") else "PUT"
        credentials = [
            {"credential_info": {**self._credential(method, root, path), "path": path}}
            for path in _paths(_values(request).get("paths"))
        ]
        return JSONResponse({"credentials": credentials})

    def trace_credentials(self, request: Request) -> Response:
        """Answer `traces/{id}/credentials-for-data-download` and `-upload`."""
        trace = self._tracking.get(f"/api/3.0/mlflow/traces/{request.path_params['request_id']}")
        root = path_of(trace["trace"]["trace_info"]["tags"]["mlflow.artifactLocation"])
        method = "GET" if request.url.path.endswith("-download") else "PUT"
        path = str(_values(request).get("path") or "traces.json")
        return JSONResponse({"credential_info": self._credential(method, root, path)})

    def signed_download(self, path: str) -> str:
        """Give a URL at which a stored file can be read without a token, for a while."""
        return self._sign("GET", path)

    def list_below(self, path: str) -> list[dict[str, Any]]:
        """Give the direct children of a stored folder; their `path` is their bare name."""
        answer = self._mlflow.call("GET", _ROOT, params={"path": path})
        if answer.status_code == 404:
            return []
        # The server leaves out what is false or zero.
        return [
            {"is_dir": False, **({} if each.get("is_dir") else {"file_size": 0}), **each}
            for each in answer.json().get("files", [])
        ]

    def signed(self, request: Request) -> Response:
        """Answer at a signed URL, as a cloud's storage does."""
        parts = request.path_params
        due = self._signature(request.method, parts["path"], parts["expires"])
        if "authorization" in request.headers:
            return Response("Only one auth mechanism allowed", 400)
        if not hmac.compare_digest(due, parts["signature"]):
            return Response("SignatureDoesNotMatch", 403)
        if int(parts["expires"]) < time.time():
            return Response("Request has expired", 403)
        return self._mlflow.forward(request, f"{_ROOT}/{quote(parts['path'])}")

    def file(self, request: Request) -> Response:
        """Answer the Files API for one file: GET, HEAD, PUT."""
        path = path_of_file("/" + request.path_params["path"])
        if request.method == "POST":
            raise ApiError(501, "NOT_IMPLEMENTED", "Multipart uploads are not available.")
        answer = self._mlflow.forward(request, f"{_ROOT}/{quote(path)}")
        if answer.status_code == 404:
            raise missing(f"The file {path} does not exist.")
        return (
            Response(status_code=204)
            if request.method == "PUT" and answer.status_code == 200
            else answer
        )

    def folder(self, request: Request) -> Response:
        """Answer the Files API for one folder: GET lists it, HEAD tells whether it exists."""
        named = "/" + request.path_params["path"].rstrip("/")
        files = self.list_below(path_of_file(named))
        if not files:
            raise missing(f"The directory {named} does not exist.")
        if request.method == "HEAD":
            return Response()
        contents = [
            {
                "path": f"{named}/{each['path']}",
                "name": each["path"],
                "is_directory": each["is_dir"],
                **({} if each["is_dir"] else {"file_size": int(each["file_size"])}),
            }
            for each in files
        ]
        return JSONResponse({"contents": contents})

    def _credential(self, method: str, root: str, path: str) -> dict[str, Any]:
        if ".." in path.split("/") or path.startswith("/"):
            raise invalid(f"Invalid artifact path '{path}'")
        # Of the types a client knows, this one is a plain PUT or GET for a file of any size.
        return {"signed_uri": self._sign(method, f"{root}/{path}"), "type": "GCP_SIGNED_URL"}

    def _sign(self, method: str, path: str) -> str:
        expires = str(int(time.time()) + SIGNED_SECONDS)
        signature = self._signature(method, path, expires)
        return f"{self._url}/storage/{expires}/{signature}/{quote(path)}"

    def _signature(self, method: str, path: str, expires: str) -> str:
        signed = f"{method}\n{expires}\n{path}".encode()
        return hmac.new(self._key, signed, hashlib.sha256).hexdigest()


def _values(request: Request) -> dict[str, Any]:
    """Give the parameters of a call, from its query (where a key may repeat) or its JSON body."""
    if request.method == "GET":
        return {
            key: found if len(found := request.query_params.getlist(key)) > 1 else found[0]
            for key in request.query_params
        }
    raw = from_thread.run(request.body)
    try:
        values = json.loads(raw or b"{}")
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ApiError(400, "MALFORMED_REQUEST", "Invalid JSON given in the body.")
    return values


def _paths(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value or "")]
