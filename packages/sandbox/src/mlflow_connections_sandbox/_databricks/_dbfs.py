"""DBFS, for experiments whose artifact location the user chose."""

import posixpath
import shutil
from pathlib import Path
from typing import Any

from anyio import from_thread
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from ._errors import ApiError, missing

_MANAGED = "/databricks/mlflow-"


class Dbfs:
    """Files in a folder of this machine, behind the calls that MLflow's client makes.

    Attributes:
        root: That folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def status(self, request: Request) -> Response:
        """Answer `GET /api/2.0/dbfs/get-status`."""
        path = request.query_params.get("path", "")
        return JSONResponse(self._describe(self._existing(path)))

    def list_folder(self, request: Request) -> Response:
        """Answer `GET /api/2.0/dbfs/list`; the list of a file is the file itself."""
        file = self._existing(request.query_params.get("path", ""))
        children = sorted(file.iterdir()) if file.is_dir() else [file]
        files = [self._describe(child) for child in children]
        return JSONResponse({"files": files} if files else {})

    def file(self, request: Request) -> Response:
        """Answer `/dbfs/<path>`: GET reads, POST writes."""
        path = "/" + request.path_params["path"]
        if request.method == "GET":
            file = self._existing(path)
            if file.is_dir():
                raise ApiError(400, "INVALID_PARAMETER_VALUE", f"{path} is a directory")
            return FileResponse(file)
        if request.method != "POST":
            raise ApiError(405, "BAD_REQUEST", f"{request.method} is not supported")
        file = self._local(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".part")

        async def receive() -> None:
            with partial.open("wb") as out:
                async for chunk in request.stream():
                    out.write(chunk)

        from_thread.run(receive)
        shutil.move(partial, file)
        return JSONResponse({})

    def _existing(self, path: str) -> Path:
        file = self._local(path)
        if not file.exists():
            raise missing(f"No file or directory exists on path {path}.")
        return file

    def _local(self, path: str) -> Path:
        normal = posixpath.normpath("/" + path.removeprefix("dbfs:").lstrip("/"))
        if normal.startswith(_MANAGED):
            raise ApiError(403, "PERMISSION_DENIED", f"No operations allowed on {normal}.")
        return self.root / normal.lstrip("/")

    def _describe(self, file: Path) -> dict[str, Any]:
        is_dir = file.is_dir()
        return {
            "path": "/" + file.relative_to(self.root).as_posix().removeprefix("."),
            "is_dir": is_dir,
            "file_size": 0 if is_dir else file.stat().st_size,
        }
