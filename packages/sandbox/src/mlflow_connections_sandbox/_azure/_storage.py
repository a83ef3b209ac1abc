"""Artifacts: the workspace's services that locate them, and the storage account that holds them.

A client asks the workspace for an address, and then talks to the storage account, where each blob is
behind a shared access signature. The bytes are in the real MLflow server's artifact store. Protocol:
https://learn.microsoft.com/rest/api/storageservices/put-blob, put-block-list and get-blob.
"""

import hashlib
import hmac
import re
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ._errors import AzureError
from ._workspace import WORKSPACE_PATH

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from mlflow_connections_sandbox._kept import KeptValues
    from mlflow_connections_sandbox._mlflow_backend import MlflowBackend

    from ._account import AzureAccount
    from ._workspace import WorkspaceServer

STORE = "/api/2.0/mlflow-artifacts/artifacts"
RUN_ORIGIN = "ExperimentRun"
MODEL_ORIGIN = "LoggedModel"
_CONTAINER = "azureml"
_SAS_VERSION = "2021-12-02"
_SAS_SECONDS = 3600
_BLOCK_IDS = re.compile(r"<(?:Latest|Uncommitted|Committed)>([^<]+)<")


class Blobs:
    """The one container of the account."""

    def __init__(
        self, account: "AzureAccount", mlflow: "MlflowBackend", kept: "KeptValues"
    ) -> None:
        self._account = account
        self._mlflow = mlflow
        # A signature outlives a restart.
        self._key = kept.get("storage_key", lambda: secrets.token_hex(32)).encode()
        self._blocks: dict[str, dict[str, bytes]] = {}

    def routes(self) -> "list[BaseRoute]":
        """Return the routes of the storage account's host."""
        return [Route("/{container}/{blob:path}", self._blob, methods=["GET", "PUT"])]

    def signed(self, blob: str, rights: str) -> str:
        """Return an address that grants rights on one blob for an hour.

        Args:
            blob: Its name.
            rights: Letters of a shared access signature: `r` to read, `w` to write.
        """
        grant = {
            "sv": _SAS_VERSION,
            "sr": "b",
            "sp": rights,
            "se": str(int(time.time()) + _SAS_SECONDS),
        }
        query = urlencode({**grant, "sig": self._signature(blob, grant)})
        return f"https://{self._account.blob_host}/{_CONTAINER}/{quote(blob)}?{query}"

    def _signature(self, blob: str, grant: dict[str, str]) -> str:
        text = "\n".join((blob, *(grant[name] for name in ("sv", "sr", "sp", "se"))))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def _check(self, request: "Request", blob: str, right: str) -> None:
        grant = {name: values[0] for name, values in parse_qs(request.url.query).items()}
        try:
            expected = self._signature(blob, grant)
        except KeyError:
            raise AzureError(409, "PublicAccessNotPermitted", "A signature is needed.") from None
        if (
            not hmac.compare_digest(grant.get("sig", ""), expected)
            or int(grant["se"]) < time.time()
        ):
            raise AzureError(403, "AuthenticationFailed", "The signature is not valid.")
        if right not in grant["sp"]:
            raise AzureError(403, "AuthorizationPermissionMismatch", "Not permitted to do this.")

    def _blob(self, request: "Request") -> "Response":
        blob = request.path_params["blob"]
        if request.path_params["container"] != _CONTAINER:
            raise AzureError(404, "ContainerNotFound", "There is no such container.")
        if "x-ms-version" not in request.headers:
            raise AzureError(400, "InvalidHeaderValue", "x-ms-version is missing.")
        self._check(request, blob, "r" if request.method == "GET" else "w")
        origin, _, rest = blob.partition("/")
        container, _, path = rest.partition("/")
        store = f"{STORE}/{quote(store_path(origin, container, path))}"
        if request.method == "GET":
            return self._read(request, store)
        return self._write(request, blob, store)

    def _write(self, request: "Request", blob: str, store: str) -> "Response":
        from anyio import from_thread

        body = from_thread.run(request.body)
        what = request.query_params.get("comp")
        if what == "block":
            self._blocks.setdefault(blob, {})[request.query_params["blockid"]] = body
            return Response(status_code=201)
        if what == "blocklist":
            blocks = self._blocks.pop(blob, {})
            body = b"".join(blocks[name] for name in _BLOCK_IDS.findall(body.decode()))
        elif request.headers.get("x-ms-blob-type") != "BlockBlob":
            raise AzureError(400, "MissingRequiredHeader", "x-ms-blob-type must be BlockBlob.")
        if request.headers.get("if-none-match") == "*" and self._mlflow.call("GET", store).ok:
            raise AzureError(409, "BlobAlreadyExists", "The specified blob already exists.")
        answer = self._mlflow.call("PUT", store, data=body)
        if not answer.ok:
            raise AzureError(500, "InternalError", f"The MLflow server: {answer.status_code}.")
        return Response(status_code=201, headers=_blob_headers(body))

    def _read(self, request: "Request", store: str) -> "Response":
        answer = self._mlflow.call("GET", store)
        if not answer.ok:
            raise AzureError(404, "BlobNotFound", "The specified blob does not exist.")
        body, headers = answer.content, _blob_headers(answer.content)
        asked = re.fullmatch(
            r"bytes=(\d+)-(\d*)",
            request.headers.get("x-ms-range") or request.headers.get("range") or "",
        )
        if asked is None:
            return Response(body, headers=headers)
        first = int(asked[1])
        if first >= len(body):
            raise AzureError(416, "InvalidRange", "The range is invalid.")
        last = min(int(asked[2] or len(body)), len(body) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return Response(body[first : last + 1], 206, headers)


def store_path(origin: str, container: str, path: str) -> str:
    """Return the path in the real server's artifact store, where MLflow itself would look."""
    first, _, second = container.partition(".")
    place = {
        RUN_ORIGIN: f"{first}/{second}/artifacts",
        MODEL_ORIGIN: f"{first}/models/{second}",
    }.get(origin, f"{origin}/{container}")
    return f"{place}/{path}" if path else place


def _blob_headers(body: bytes) -> dict[str, str]:
    return {
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"',
        "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT",
        "x-ms-version": _SAS_VERSION,
        "x-ms-blob-type": "BlockBlob",
        "x-ms-request-server-encrypted": "true",
    }


class ArtifactStorage:
    """The artifact services of a workspace."""

    def __init__(
        self, workspace: "WorkspaceServer", blobs: "Blobs", mlflow: "MlflowBackend"
    ) -> None:
        self._workspace = workspace
        self._blobs = blobs
        self._mlflow = mlflow

    def routes(self) -> "list[BaseRoute]":
        """Return the routes of the workspace's host for artifacts."""
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
        """Fetch the paths of all files below a folder of the real server's artifact store."""
        answer = self._mlflow.call("GET", STORE, params={"path": folder})
        # A store of files has no folder before the first file.
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
    """Return an artifact's origin and container, as AzureML names them."""
    asked = request.path_params
    if "run" in asked:
        return RUN_ORIGIN, f"{asked['experiment']}.{asked['run']}"
    return asked["origin"], asked["container"]
