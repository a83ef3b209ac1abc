"""A workspace's artifact services: they say where an artifact lies, or is to lie.

A client asks here for an address, and then talks to the storage account with it.
"""

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from ._blobs import RUN_ORIGIN, STORE, Blobs, store_path
from ._errors import AzureError
from ._workspace import WORKSPACE_PATH

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from mlflow_connections_sandbox._mlflow_backend import MlflowBackend

    from ._workspace import Workspace


class Artifacts:
    """The artifact services of a workspace."""

    def __init__(self, workspace: "Workspace", blobs: Blobs, mlflow: "MlflowBackend") -> None:
        self._workspace = workspace
        self._blobs = blobs
        self._mlflow = mlflow

    def routes(self) -> "list[BaseRoute]":
        """What the workspace's host answers about artifacts."""
        found: list[BaseRoute] = []
        for base in (
            f"/history/v1.0{WORKSPACE_PATH}/experiments/{{experiment}}/runs/{{run}}/artifacts",
            f"/artifact/v2.0{WORKSPACE_PATH}/artifacts/{{origin}}/{{container}}",
        ):
            found += [
                Route(f"{base}/batch/metadata", self._create, methods=["POST"]),
                Route(f"{base}/contentinfo", self._content_information),
                Route(base, self._list),
            ]
        return found

    async def _create(self, request: "Request") -> "Response":
        self._workspace.authorize(request)
        origin, container = _place(request)
        paths = [each["path"] for each in (await request.json())["paths"]]
        return JSONResponse(
            {
                "artifacts": {p: self._artifact(origin, container, p) for p in paths},
                "artifactContentInformation": {
                    p: self._content(origin, container, p, "rcw") for p in paths
                },
                "errors": {},
            }
        )

    def _content_information(self, request: "Request") -> "Response":
        self._workspace.authorize(request)
        origin, container = _place(request)
        path = request.query_params.get("path", "")
        if path not in self._files(store_path(origin, container, "")):
            raise AzureError(404, "UserError", f"Artifact '{path}' does not exist.")
        return JSONResponse(self._content(origin, container, path, "r"))

    def _list(self, request: "Request") -> "Response":
        self._workspace.authorize(request)
        origin, container = _place(request)
        files = self._files(store_path(origin, container, ""))
        return JSONResponse({"value": [self._artifact(origin, container, p) for p in files]})

    def _artifact(self, origin: str, container: str, path: str) -> dict[str, Any]:
        return {
            "artifactId": f"{origin}/{container}/{path}",
            "origin": origin,
            "container": container,
            "path": path,
        }

    def _content(self, origin: str, container: str, path: str, rights: str) -> dict[str, Any]:
        blob = f"{origin}/{container}/{path}"
        return {
            "contentUri": self._blobs.signed(blob, rights),
            "origin": origin,
            "container": container,
            "path": path,
        }

    def _files(self, folder: str) -> list[str]:
        """Give the paths of all files below a folder of the real server's artifact store."""
        answer = self._mlflow.call("GET", STORE, params={"path": folder})
        # A store that keeps files has no folder before the first file.
        listed = answer.json().get("files", []) if answer.ok else []
        found = []
        for each in listed:
            if each["is_dir"]:
                below = self._files(f"{folder}/{each['path']}")
                found += [f"{each['path']}/{path}" for path in below]
            else:
                found.append(each["path"])
        return found


def _place(request: "Request") -> tuple[str, str]:
    """Give an artifact's origin and container, as AzureML names them."""
    asked = request.path_params
    if "run" in asked:
        return RUN_ORIGIN, f"{asked['experiment']}.{asked['run']}"
    return asked["origin"], asked["container"]
