"""Unity Catalog's model registry, over MLflow's REST API for it.

The requests and responses are those of MLflow's databricks_uc_registry_service.proto. Models are
stored in the registry of the real MLflow server under their three-level names, which the workspace's
own registry does not allow, and their files in its artifact store.
"""

import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mlflow_connections_sandbox._kept import KeptValues
from mlflow_connections_sandbox._mlflow_backend import MlflowBackend

from ._errors import ApiError, endpoint_not_found, invalid
from ._tracking import USER, values_of

# The source of a version on the MLflow server. Newer servers allow no other run's or model's
# location in their own artifact store, so it is Databricks' location, and its path is that of the
# files.
_LOCATION = "dbfs:/unity-catalog/models/"
_FILES = "unity-catalog/"
_MODELS_API = re.compile(
    r"/Models/(?P<catalog>[^/]+)/(?P<schema>[^/]+)/(?P<model>[^/]+)/(?P<version>\d+)(?P<rest>/.*)?"
)
# https://docs.databricks.com/sql/language-manual/sql-ref-names.html, object names
_RESERVED = re.compile(r"[.,\-=/:]")
"""The characters that Unity Catalog refuses in the name of a tag: mlflow/recipes-examples#58."""
_NOT_IN_NAMES = re.compile(r"[\s/\x00-\x1f\x7f]")
_FILTER = re.compile(
    r"\s*(?P<key>name|run_id)\s*=\s*(?P<quote>['\"])(?P<value>[^'\"]*)(?P=quote)\s*"
)

Values = dict[str, Any]


class Details(NamedTuple):
    """The parts of a version that the MLflow server does not keep.

    Attributes:
        source: The location that its files were copied from, as the client sent it.
        run_tracking_server_id: The workspace of its run.
        is_ready: Whether its files are complete.
    """

    source: str
    run_tracking_server_id: str = ""
    is_ready: bool = False


class UnityCatalog:
    """The registry of one metastore.

    Attributes:
        is_enabled: Whether the workspace has a metastore.
        schemas: The schemas that exist, each after its catalog and a dot.
        has_default_storage: Whether files travel by signed URLs instead of the Files API.
    """

    def __init__(self, mlflow: MlflowBackend, kept: KeptValues) -> None:
        self.is_enabled = True
        self.schemas = {"main.default", "main.ml"}
        self.has_default_storage = False
        self._mlflow = mlflow
        self._kept = kept
        # By the location of a version's files, which is chosen before the version exists.
        noted = json.loads(kept.get("versions", lambda: "{}"))
        self._details = {location: Details(*values) for location, values in noted.items()}
        self._lock = threading.Lock()
        registered, versions = "registered-models", "model-versions"
        self._calls: dict[tuple[str, str], Callable[[Values], Values]] = {
            ("POST", f"{registered}/create"): self._create_model,
            ("PATCH", f"{registered}/update"): self._update_model,
            ("DELETE", f"{registered}/delete"): self._delete_model,
            ("GET", f"{registered}/get"): self._get_model,
            ("GET", f"{registered}/search"): self._search_models,
            ("POST", f"{registered}/set-tag"): self._passed(registered, "POST", "set-tag"),
            ("DELETE", f"{registered}/delete-tag"): self._passed(
                registered, "DELETE", "delete-tag"
            ),
            ("POST", f"{registered}/alias"): self._set_alias,
            ("DELETE", f"{registered}/alias"): self._passed(registered, "DELETE", "alias"),
            ("GET", f"{registered}/alias"): self._get_version_by_alias,
            ("POST", f"{versions}/create"): self._create_version,
            ("PATCH", f"{versions}/update"): self._update_version,
            ("DELETE", f"{versions}/delete"): self._delete_version,
            ("GET", f"{versions}/get"): self._get_version,
            ("GET", f"{versions}/search"): self._search_versions,
            ("POST", f"{versions}/set-tag"): self._passed(versions, "POST", "set-tag"),
            ("DELETE", f"{versions}/delete-tag"): self._passed(versions, "DELETE", "delete-tag"),
            ("POST", f"{versions}/generate-temporary-credentials"): self._credentials,
            ("GET", f"{versions}/get-download-uri"): self._download_uri,
            ("POST", f"{versions}/finalize"): self._finalize,
            ("POST", f"{versions}/emit-lineage"): self._emit_lineage,
            (
                "GET",
                f"{registered}:is-databricks-sdk-models-artifact-repository-enabled",
            ): self._is_files_api_used,
        }

    def answer(self, request: Request) -> Response:
        """Answer a request below `/api/2.0/mlflow/unity-catalog/`."""
        if not self.is_enabled:
            raise ApiError(
                404, "METASTORE_DOES_NOT_EXIST", "No metastore assigned for the current workspace."
            )
        call = self._calls.get((request.method, request.path_params["call"]))
        if call is None:
            raise endpoint_not_found(request.method, request.url.path)
        return JSONResponse(call(values_of(request)))

    def path_of_file(self, path: str, *, writes: bool) -> str:
        """Return the path, below the server's artifacts, of a model's file in the Files API.

        Args:
            path: A path below `/Models`.
            writes: Whether the file is written. A version that is ready never changes.

        Raises:
            ApiError: The version does not exist, or cannot be written or read yet.
        """
        match = _MODELS_API.fullmatch(unquote(path))
        if match is None or ".." in path.split("/"):
            raise ApiError(404, "NOT_FOUND", f"The path {path} does not exist.")
        name = f"{match['catalog']}.{match['schema']}.{match['model']}".lower()
        version = self._version(name, match["version"])
        if writes and self._detail(version).is_ready:
            raise ApiError(
                403, "PERMISSION_DENIED", f"Model version {name}/{match['version']} is read-only."
            )
        return _folder_of(version) + (match["rest"] or "")

    # Registered models

    def _create_model(self, values: Values) -> Values:
        name = self._name(values)
        _check_tags(values.get("tags"))
        body = {"name": name, "tags": values.get("tags"), "description": values.get("description")}
        return {
            "registered_model": _model(self._ask("POST", "registered-models/create", name, body))
        }

    def _update_model(self, values: Values) -> Values:
        name, new_name = self._name(values), values.get("new_name")
        if new_name is None and "description" not in values:
            raise invalid("At least one of new_name, description must be specified.")
        found: Values = {}
        if "description" in values:
            body = {"name": name, "description": values["description"]}
            found = self._ask("PATCH", "registered-models/update", name, body)
        if new_name is not None:
            new_name = self._checked_name(new_name)
            body = {"name": name, "new_name": new_name}
            found = self._ask("POST", "registered-models/rename", name, body)
        return {"registered_model": _model(found)}

    def _delete_model(self, values: Values) -> Values:
        name = self._name(values)
        self._ask("DELETE", "registered-models/delete", name, {"name": name})
        return {}

    def _get_model(self, values: Values) -> Values:
        name = self._name(values)
        found = self._ask("GET", "registered-models/get", name, params={"name": name})
        return {"registered_model": _model(found)}

    def _search_models(self, values: Values) -> Values:
        params = {
            "filter": "name LIKE '%.%.%'",
            "max_results": values.get("max_results", 100),
            "page_token": values.get("page_token", ""),
        }
        found = self._ask("GET", "registered-models/search", params=params)
        models = [_model({"registered_model": each}) for each in found.get("registered_models", [])]
        # A search returns neither aliases nor tags.
        kept = [{k: v for k, v in m.items() if k not in {"aliases", "tags"}} for m in models]
        return {"registered_models": kept, "next_page_token": found.get("next_page_token", "")}

    def _set_alias(self, values: Values) -> Values:
        name = self._name(values)
        self._version(name, _required(values, "version"))
        body = {key: _required(values, key) for key in ("alias", "version")}
        self._ask("POST", "registered-models/alias", name, {"name": name, **body})
        return {}

    def _get_version_by_alias(self, values: Values) -> Values:
        name = self._name(values)
        params = {"name": name, "alias": _required(values, "alias")}
        found = self._ask("GET", "registered-models/alias", name, params=params)
        return {"model_version": self._described(found["model_version"])}

    def _passed(self, kind: str, method: str, call: str) -> Callable[[Values], Values]:
        """Return an endpoint that the MLflow server has in the same form."""

        def passed(values: Values) -> Values:
            name = self._name(values)
            if kind == "model-versions":
                self._version(name, _required(values, "version"))
            if call == "set-tag":
                _check_tags([values])
            self._ask(method, f"{kind}/{call}", name, {**values, "name": name})
            return {}

        return passed

    # Versions

    def _create_version(self, values: Values) -> Values:
        name = self._name(values)
        source = _required(values, "source")
        _check_tags(values.get("tags"))
        location = f"{_LOCATION}{name.replace('.', '/')}/{secrets.token_hex(16)}"
        # First, so that a version that is interrupted here is not complete after a restart.
        self._note(location, Details(source, str(values.get("run_tracking_server_id", ""))))
        body = {
            "name": name,
            "source": location,
            "run_id": values.get("run_id"),
            "tags": values.get("tags"),
            "description": values.get("description"),
        }
        version = self._ask("POST", "model-versions/create", name, body)["model_version"]
        return {"model_version": self._described(version)}

    def _update_version(self, values: Values) -> Values:
        name, number = self._name(values), _required(values, "version")
        body = {"name": name, "version": number, "description": values.get("description", "")}
        found = self._ask("PATCH", "model-versions/update", name, body)
        return {"model_version": self._described(found["model_version"])}

    def _delete_version(self, values: Values) -> Values:
        name, number = self._name(values), _required(values, "version")
        self._version(name, number)
        body = {"name": name, "version": number}
        self._ask("DELETE", "model-versions/delete", name, body)
        return {}

    def _get_version(self, values: Values) -> Values:
        version = self._version(self._name(values), _required(values, "version"))
        return {"model_version": self._described(version)}

    def _search_versions(self, values: Values) -> Values:
        match = _FILTER.fullmatch(str(values.get("filter") or ""))
        if match is None:
            raise invalid(
                f"Unsupported filter query : `{values.get('filter', '')}`. Please specify your "
                "filter parameter in the format `name = 'model_name'` or `run_id = 'run_id'`."
            )
        value = match["value"]
        if match["key"] == "name":
            value = self._checked_name(value)
        params = {
            "filter": f"{match['key']} = '{value}'",
            "max_results": values.get("max_results", 100),
            "page_token": values.get("page_token", ""),
        }
        found = self._ask("GET", "model-versions/search", params=params)
        versions = [
            {k: v for k, v in self._described(each).items() if k not in {"aliases", "tags"}}
            for each in found.get("model_versions", [])
            if each["name"].count(".") == 2
        ]
        return {"model_versions": versions, "next_page_token": found.get("next_page_token", "")}

    def _credentials(self, values: Values) -> Values:
        version = self._version(self._name(values), _required(values, "version"))
        operation = values.get("operation")
        is_ready = self._detail(version).is_ready
        if operation not in {
            "MODEL_VERSION_OPERATION_READ",
            "MODEL_VERSION_OPERATION_READ_WRITE",
        }:
            raise invalid(f"Unsupported operation '{operation}'.")
        if operation == "MODEL_VERSION_OPERATION_READ" and not is_ready:
            raise _not_ready(version)
        # There is no cloud behind it: the workspace has default storage, or the Files API.
        return {"credentials": {"storage_mode": "DEFAULT_STORAGE"}}

    def _download_uri(self, values: Values) -> Values:
        version = self._version(self._name(values), _required(values, "version"))
        if not self._detail(version).is_ready:
            raise _not_ready(version)
        return {"artifact_uri": version["source"]}

    def _finalize(self, values: Values) -> Values:
        name, number = self._name(values), _required(values, "version")
        version = self._version(name, number)
        listed = self._mlflow.call(
            "GET", "/api/2.0/mlflow-artifacts/artifacts", params={"path": _folder_of(version)}
        )
        files = listed.json().get("files", []) if listed.ok else []
        if "MLmodel" not in {each["path"] for each in files}:
            raise invalid(f"Model version {name}/{number} has no MLmodel file.")
        self._note(version["source"], self._detail(version)._replace(is_ready=True))
        return {"model_version": self._described(version)}

    def _emit_lineage(self, values: Values) -> Values:
        self._version(self._name(values), _required(values, "version"))
        return {}

    def _is_files_api_used(self, values: Values) -> Values:  # noqa: ARG002 - as all calls
        used = not self.has_default_storage
        return {"is_databricks_sdk_models_artifact_repository_enabled": used}

    # Help

    def _name(self, values: Values) -> str:
        return self._checked_name(_required(values, "name"))

    def _checked_name(self, name: str) -> str:
        parts = name.split(".")
        if len(parts) != 3 or not all(parts):
            raise invalid(
                "Bad model name: please specify all three levels of the model in the form "
                "`catalog_name.schema_name.model_name`"
            )
        if _NOT_IN_NAMES.search(name) or max(map(len, parts)) > 255:
            raise invalid(f"'{name}' is not a valid name.")
        # Unity Catalog stores all object names in lower case.
        catalog, schema, _ = parts = [part.lower() for part in parts]
        if catalog not in {each.partition(".")[0] for each in self.schemas}:
            raise ApiError(404, "CATALOG_DOES_NOT_EXIST", f"Catalog '{catalog}' does not exist.")
        if f"{catalog}.{schema}" not in self.schemas:
            raise ApiError(
                404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{catalog}.{schema}' does not exist."
            )
        return ".".join(parts)

    def _version(self, name: str, number: str) -> Values:
        # Check the model first: it may be missing too.
        self._ask("GET", "registered-models/get", name, params={"name": name})
        params = {"name": name, "version": number}
        answer = self._mlflow.call("GET", "/api/2.0/mlflow/model-versions/get", params=params)
        if not answer.ok:
            raise ApiError(
                404, "NOT_FOUND", f"Model version {number} of model '{name}' does not exist."
            )
        version: Values = answer.json()["model_version"]
        return version

    def _detail(self, version: Values) -> Details:
        # A version that another stand-in has registered in this folder is complete.
        known = Details(version["source"], is_ready=True)
        with self._lock:
            return self._details.get(version["source"], known)

    def _note(self, location: str, detail: Details) -> None:
        with self._lock:
            self._details[location] = detail
            self._kept.put("versions", json.dumps(self._details))
            self._kept.write()

    def _described(self, version: Values) -> Values:
        detail = self._detail(version)
        aliases = [{"alias": a, "version": version["version"]} for a in version.get("aliases", [])]
        kept = ("name", "version", "creation_timestamp", "last_updated_timestamp", "run_id", "tags")
        return {
            **{key: version[key] for key in kept if key in version},
            "user_id": USER,
            "description": version.get("description", ""),
            "source": detail.source,
            "run_tracking_server_id": detail.run_tracking_server_id,
            "status": "READY" if detail.is_ready else "PENDING_REGISTRATION",
            "storage_location": version["source"],
            "aliases": aliases,
        }

    def _ask(
        self,
        method: str,
        call: str,
        name: str = "",
        json: Values | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Values:
        """Call the MLflow server's registry; its refusals become Unity Catalog's.

        Raises:
            ApiError: It refused.
        """
        answer = self._mlflow.call(method, f"/api/2.0/mlflow/{call}", json=json, params=params)
        got: Values = answer.json()
        if answer.ok:
            return got
        code = got.get("error_code")
        if code == "RESOURCE_ALREADY_EXISTS":
            raise ApiError(409, "ALREADY_EXISTS", f"Routine or Model '{name}' already exists.")
        if code == "RESOURCE_DOES_NOT_EXIST" and "alias" not in call:
            raise ApiError(404, "NOT_FOUND", f"Routine or Model '{name}' does not exist.")
        raise ApiError(answer.status_code, str(code), str(got.get("message")))


def _model(found: Values) -> Values:
    model: Values = found["registered_model"]
    kept = ("name", "creation_timestamp", "last_updated_timestamp", "description", "tags")
    aliases = [
        {"alias": each["alias"], "version": each["version"]} for each in model.get("aliases", [])
    ]
    return {
        **{key: model[key] for key in kept if key in model},
        "user_id": USER,
        "aliases": aliases,
    }


def _check_tags(tags: Any) -> None:
    for tag in tags or ():
        key = str(tag.get("key", ""))
        if _RESERVED.search(key):
            raise invalid(
                f"Tag name {key} contains one or more of the reserved characters: "
                "List(., ,, -, =, /, :)"
            )


def _folder_of(version: Values) -> str:
    """Return the folder of a version's files in the MLflow server's artifact store."""
    return _FILES + str(version["source"]).removeprefix(_LOCATION)


def _not_ready(version: Values) -> ApiError:
    place = f"{version['name']}/{version['version']}"
    return ApiError(
        400, "INVALID_STATE", f"Model version {place} is not ready: it has no files yet."
    )


def _required(values: Values, key: str) -> str:
    value = values.get(key)
    if value in (None, ""):
        raise invalid(f"Missing required field: {key}")
    return str(value)
