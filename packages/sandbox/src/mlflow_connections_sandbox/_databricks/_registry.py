"""The files of a version in the workspace's legacy registry, which clients ask for apart."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ._artifacts import Artifacts
from ._places import path_of
from ._tracking import Tracking


class Registry:
    """`model-versions/list-artifacts` and `get-signed-download-uri`; all else is forwarded."""

    def __init__(self, tracking: Tracking, artifacts: Artifacts) -> None:
        self._tracking = tracking
        self._artifacts = artifacts

    def list_artifacts(self, request: Request) -> Response:
        """List a folder of a version; paths are relative to the version."""
        below = request.query_params.get("path", "").strip("/")
        found = self._artifacts.list_below(f"{self._root(request)}/{below}".rstrip("/"))
        files = [{**each, "path": f"{below}/{each['path']}".lstrip("/")} for each in found]
        return JSONResponse({"files": files} if files else {})

    def signed_download(self, request: Request) -> Response:
        """Give a URL at which one file of a version can be read."""
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
