"""Artifacts that a workspace manages: signed URLs, the Files API, and files of registered models."""

import hashlib
import hmac
import secrets
import time
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mlflow_connections_sandbox._kept import KeptValues
from mlflow_connections_sandbox._mlflow_backend import MlflowBackend

from ._errors import ApiError, endpoint_not_found, invalid, missing
from ._places import path_of, path_of_file
from ._tracking import Tracking, values_of
from ._unity_catalog import UnityCatalog

SIGNED_SECONDS = 3600
"""How long a signed URL is valid."""

_ROOT = "/api/2.0/mlflow-artifacts/artifacts"


class WorkspaceArtifacts:
    """Reads and writes files in the MLflow server's artifact store, without storing any itself."""

    def __init__(
        self,
        url: str,
        mlflow: MlflowBackend,
        tracking: Tracking,
        unity_catalog: UnityCatalog,
        kept: KeptValues,
    ) -> None:
        self._url = url
        self._mlflow = mlflow
        self._tracking = tracking
        self._unity_catalog = unity_catalog
        # A signed URL outlives a restart.
        self._key = kept.get("storage_key", lambda: secrets.token_hex(32)).encode()

    def run_credentials(self, request: Request) -> Response:
        """Answer `artifacts/credentials-for-read` and `-write`: a signed URL per path."""
        values = values_of(request)
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
            for path in _paths(values_of(request).get("paths"))
        ]
        return JSONResponse({"credentials": credentials})

    def trace_credentials(self, request: Request) -> Response:
        """Answer `traces/{id}/credentials-for-data-download` and `-upload`."""
        trace = self._tracking.get(f"/api/3.0/mlflow/traces/{request.path_params['request_id']}")
        root = path_of(trace["trace"]["trace_info"]["tags"]["mlflow.artifactLocation"])
        method = "GET" if request.url.path.endswith("-download") else "PUT"
        path = str(values_of(request).get("path") or "traces.json")
        return JSONResponse({"credential_info": self._credential(method, root, path)})

    def signed_download(self, path: str) -> str:
        """Return a URL that reads a stored file without a token, for a limited time."""
        return self._sign("GET", path)

    def list_below(self, path: str) -> list[dict[str, Any]]:
        """Fetch the direct children of a stored folder; their `path` is only their name."""
        answer = self._mlflow.call("GET", _ROOT, params={"path": path})
        if answer.status_code == 404:
            return []
        # The server omits values that are false or zero.
        return [
            {"is_dir": False, **({} if each.get("is_dir") else {"file_size": 0}), **each}
            for each in answer.json().get("files", [])
        ]

    def signed(self, request: Request) -> Response:
        """Answer a signed URL, as a cloud's storage does."""
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
        path = self._path("/" + request.path_params["path"], writes=request.method == "PUT")
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
        """Answer the Files API for one folder: GET lists it, HEAD checks that it exists."""
        named = "/" + request.path_params["path"].rstrip("/")
        files = self.list_below(self._path(named))
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

    def url(self, request: Request) -> Response:
        """Answer `fs/create-upload-url` and `fs/create-download-url`: a signed URL for one file."""
        if request.method != "POST":
            raise endpoint_not_found(request.method, request.url.path)
        path = values_of(request).get("path")
        if not isinstance(path, str) or not path.startswith("/"):
            raise invalid(f"The path {path} is not absolute.")
        writes = request.url.path.endswith("upload-url")
        signed = self._sign("PUT" if writes else "GET", self._path(path, writes=writes))
        return JSONResponse({"url": signed, "headers": []})

    def _path(self, path: str, *, writes: bool = False) -> str:
        if path.startswith("/Models/"):
            return self._unity_catalog.path_of_file(path, writes=writes)
        return path_of_file(path)

    def _credential(self, method: str, root: str, path: str) -> dict[str, Any]:
        if ".." in path.split("/") or path.startswith("/"):
            raise invalid(f"Invalid artifact path '{path}'")
        # The only type that means a plain PUT or GET of any size.
        return {"signed_uri": self._sign(method, f"{root}/{path}"), "type": "GCP_SIGNED_URL"}

    def _sign(self, method: str, path: str) -> str:
        expires = str(int(time.time()) + SIGNED_SECONDS)
        signature = self._signature(method, path, expires)
        return f"{self._url}/storage/{expires}/{signature}/{quote(path)}"

    def _signature(self, method: str, path: str, expires: str) -> str:
        signed = f"{method}\n{expires}\n{path}".encode()
        return hmac.new(self._key, signed, hashlib.sha256).hexdigest()


def _paths(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value or "")]


class Registry:
    """The files of a version in the workspace's legacy registry, whose other calls are forwarded."""

    def __init__(self, tracking: Tracking, artifacts: WorkspaceArtifacts) -> None:
        self._tracking = tracking
        self._artifacts = artifacts

    def list_artifacts(self, request: Request) -> Response:
        """Answer `model-versions/list-artifacts`; paths are relative to the version."""
        below = request.query_params.get("path", "").strip("/")
        found = self._artifacts.list_below(f"{self._root(request)}/{below}".rstrip("/"))
        files = [{**each, "path": f"{below}/{each['path']}".lstrip("/")} for each in found]
        return JSONResponse({"files": files} if files else {})

    def signed_download(self, request: Request) -> Response:
        """Answer `model-versions/get-signed-download-uri`: a URL that reads one file of a version."""
        path = f"{self._root(request)}/{request.query_params.get('path', '')}"
        return JSONResponse({"signed_uri": self._artifacts.signed_download(path)})

    def _root(self, request: Request) -> str:
        query = {key: request.query_params.get(key, "") for key in ("name", "version")}
        got = self._tracking.get("/api/2.0/mlflow/model-versions/get-download-uri", **query)
        location: str = got["artifact_uri"]
        if location.startswith("models:/m-"):
            model_id = location.partition("models:/")[2]
            model = self._tracking.get(f"/api/2.0/mlflow/logged-models/{model_id}")
            location = model["model"]["info"]["artifact_uri"]
        return path_of(location)
