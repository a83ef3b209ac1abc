"""The model registry: read from the server if it responds; otherwise models are registered when it responds again.

The number of a version is the server's. A waiting version has a provisional number of sixteen
digits.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from mlflow_connections.secrets import get_logger
from mlflow_connections_events import entities, proxy

from . import _mlflow
from ._delivering import is_delivering
from ._inner_store import refuse
from ._methods import replaced_methods, while_enabled
from ._patience import Away
from ._server import DurableServer

logger = get_logger("mlflow_connections_durable")

_FLUSH_SECONDS = 5.0
_SMALLEST = 10**15
"""The smallest provisional number. The numbers are random: a clock may stand still or repeat a time."""


def durable_registry(
    server: DurableServer, inner: Any | None, enabled: Callable[[], bool] | None = None
) -> Any:
    """Return the model registry store of a server.

    Args:
        server: What this process shares of the server.
        inner: The server's own registry; None for `offline`.
        enabled: Returns whether the registry is still in force; None if it always is.
    """
    store = inner if inner is not None else _mlflow.registry_without_server()
    methods = DurableRegistry(server, inner).methods(store)
    if enabled is not None:
        methods = while_enabled(enabled, methods, store)
    return proxy(store, methods)


class DurableRegistry:
    """The methods of a model registry store that work without the server.

    Args:
        server: The state of the server in this process.
        inner: The server's own registry, or None for `offline`.
    """

    def __init__(self, server: DurableServer, inner: Any | None) -> None:
        self._server = server
        self._inner = inner
        # For a call that may only take as long as an attempt, and for one that is waited for.
        self._asking = None if inner is None else _mlflow.asking_registry(inner, limited=True)
        self._waiting = None if inner is None else _mlflow.asking_registry(inner, limited=False)

    def methods(self, store: Any) -> dict[str, Callable[..., Any]]:
        """Return the replaced methods of a store, by name."""
        return replaced_methods([self], store, self._forwarded)

    # ----- registered models

    def create_registered_model(
        self, name: str, tags: Any = None, description: str | None = None, *more: Any, **named: Any
    ) -> Any:
        """Create a registered model, now or once the server responds."""
        _mlflow.check_registered_name(name)
        try:
            return self._through("create_registered_model", name, tags, description, *more, **named)
        except Away:
            pass
        server = self._server
        if name in server.registered:
            raise _mlflow.refusal(
                f"Registered Model (name={name}) already exists.", "RESOURCE_ALREADY_EXISTS"
            )
        now = time.time_ns() // 1_000_000
        model = RegisteredModel(name, now, now, description, [], list(tags or []))
        with server.lock:
            server.registered[name] = model
            data = {"tags": entities.pairs(tags, entities.keep), "description": description}
            self._emit(name, "registered_model_created", data)
        return model

    def get_registered_model(self, name: str) -> Any:
        """Return a registered model."""
        try:
            return self._through("get_registered_model", name)
        except Away as away:
            if found := self._server.registered.get(name):
                return found
            refuse(self._server, away, f"the registered model {name}")

    def update_registered_model(
        self, name: str, description: str | None, *more: Any, **named: Any
    ) -> Any:
        """Set the description of a registered model."""
        try:
            return self._through("update_registered_model", name, description, *more, **named)
        except Away as away:
            if name not in self._server.registered:
                refuse(self._server, away, f"the registered model {name}")
        self._emit(name, "registered_model_updated", {"description": description})
        return self._server.registered[name]

    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        """Set a tag of a registered model."""
        data = {"key": tag.key, "value": str(tag.value)}
        self._write("set_registered_model_tag", (name, tag), name, "registered_model_tagged", data)

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> None:
        """Set an alias of a version."""
        _mlflow.check_alias(alias)
        self._server.aliases[name, alias] = str(version)
        data = {"alias": alias, "version": str(version)}
        real = self._number(name, version)
        call = None if real is None else (name, alias, real)
        self._write("set_registered_model_alias", call, name, "alias_set", data)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Delete an alias."""
        self._server.aliases.pop((name, alias), None)
        data = {"alias": alias}
        self._write("delete_registered_model_alias", (name, alias), name, "alias_deleted", data)

    # ----- versions

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> Any:
        """Create a version, now or once the server responds."""
        from mlflow.entities.model_registry import ModelVersionTag

        server = self._server
        number = str(_SMALLEST + uuid.uuid4().int % (9 * _SMALLEST))
        arguments = {
            "run_id": run_id and server.real(run_id),
            "run_link": run_link,
            "description": description,
            "local_model_path": local_model_path,
            "model_id": model_id and server.real(model_id),
        }
        unsure = False
        try:
            if (run_id and not arguments["run_id"]) or (model_id and not arguments["model_id"]):
                raise Away("The model waits for the server")  # noqa: TRY301 - as if the server said it
            known = run_id, model_id
            if self._uploads(source) and known != (arguments["run_id"], arguments["model_id"]):
                # The local files name provisional IDs; those on the server do not.
                raise Away("The model began without the server")  # noqa: TRY301
            place = self._place(source)
            key = _mlflow.version_source_tag(self._inner)
            marked = [*(tags or []), ModelVersionTag(key, f"{name}/{number}")]
            return self._through("create_model_version", name, place, tags=marked, **arguments)
        except Away as away:
            unsure = away.unsure
        _mlflow.check_version(self._inner, local_model_path)
        now = time.time_ns() // 1_000_000
        version = ModelVersion(
            name,
            number,
            now,
            now,
            **_mlflow.accepted_arguments(
                ModelVersion,
                {
                    "description": description,
                    "source": source,
                    "run_id": run_id,
                    "status": "READY",
                    "tags": list(tags or []),
                    "run_link": run_link,
                    "model_id": model_id,
                },
            ),
        )
        with server.lock:
            server.versions[name, number] = version
            self._emit(
                name,
                "version_created",
                {
                    "version": number,
                    "source": source,
                    "source_run": run_id or None,
                    "model_id": model_id or None,
                    "run_link": run_link or None,
                    "tags": entities.pairs(tags, entities.keep),
                    "description": description,
                    **({"attempted": True} if unsure else {}),
                },
            )
        logger.warning(
            "The model %s is registered once the MLflow server responds; the number of its version, "
            "%s, is provisional until then.",
            name,
            number,
        )
        return version

    def get_model_version(self, name: str, version: Any) -> Any:
        """Return a version."""
        if (real := self._number(name, version)) is None:
            return self._server.versions[name, str(version)]
        try:
            return self._through("get_model_version", name, real)
        except Away as away:
            if found := self._server.versions.get((name, str(version))):
                return found
            refuse(self._server, away, f"version {version} of {name}")

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        """Return the version that an alias names, if need be one that waits for the server."""
        server = self._server
        try:
            return self._through("get_model_version_by_alias", name, alias)
        except Away as away:
            if found := server.versions.get((name, server.aliases.get((name, alias), ""))):
                return found
            refuse(server, away, f"the alias {alias} of {name}")

    def get_model_version_download_uri(self, name: str, version: Any) -> str:
        """Return the URI of a version's files."""
        if (real := self._number(name, version)) is None:
            return str(self._server.versions[name, str(version)].source)
        try:
            return str(self._through("get_model_version_download_uri", name, real))
        except Away as away:
            refuse(self._server, away, f"version {version} of {name}")

    def update_model_version(self, name: str, version: Any, description: str | None) -> Any:
        """Set the description of a version."""
        real = self._number(name, version)
        data = {"version": str(version), "description": description}
        call = None if real is None else (name, real, description)
        found = self._write("update_model_version", call, name, "version_updated", data)
        return found or self._server.versions.get((name, str(version)))

    def set_model_version_tag(self, name: str, version: Any, tag: Any) -> None:
        """Set a tag of a version."""
        real = self._number(name, version)
        data = {"version": str(version), "key": tag.key, "value": str(tag.value)}
        call = None if real is None else (name, real, tag)
        self._write("set_model_version_tag", call, name, "version_tagged", data)

    def delete_model_version_tag(self, name: str, version: Any, key: str) -> None:
        """Delete a tag of a version."""
        real = self._number(name, version)
        data = {"version": str(version), "key": key}
        call = None if real is None else (name, real, key)
        self._write("delete_model_version_tag", call, name, "version_tag_deleted", data)

    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Move a version to a stage."""
        _mlflow.check_stages(self._inner)
        real = self._number(name, version)
        more = {"stage": stage, "archive_existing": bool(archive_existing_versions)}
        data = {"version": str(version), **more}
        call = None if real is None else (name, real, stage, archive_existing_versions)
        found = self._write(
            "transition_model_version_stage", call, name, "stage_transitioned", data
        )
        return found or self._server.versions.get((name, str(version)))

    # ----- the server

    def _number(self, name: str, version: Any) -> str | None:
        """Return the server's number of a version, or None while it has none."""
        server, known = self._server, f"{name}/{version}"
        if server.ids.get(known) is None:
            server.ids.refresh()
        if found := server.ids.get(known):
            return found
        if (name, str(version)) in server.versions:
            return None
        if len(str(version)) >= len(str(_SMALLEST)):
            raise MlflowException(
                f"Version {version} of {name} waits for its server, and this process did not create "
                "it.",
                RESOURCE_DOES_NOT_EXIST,
            )
        return str(version)

    def _place(self, source: str) -> str:
        """Return the server's URI of a source.

        Raises:
            Away: The source waits for the server.
        """
        ids = self._server.ids
        for root, target in ids.pairs().items():
            if "/" in root and (source == root or source.startswith(f"{root}/")):
                return target + source[len(root) :]
        return ids.replaced(source)

    def _through(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call the server's registry, once it has everything that was logged before.

        Raises:
            Away: It does not respond, or does not have everything yet.
        """
        server = self._server
        if self._inner is None:
            raise Away("There is no server: 'server' is 'offline'")
        # A request that nobody waits for could create another version once the server is back.
        is_short = method == "create_model_version" and not self._uploads(args[1])
        call = getattr(self._asking if is_short else self._waiting, method)
        kwargs = _mlflow.accepted_arguments(call, kwargs)
        if is_delivering():
            return getattr(self._inner, method)(*args, **kwargs)
        if server.catch_up(_FLUSH_SECONDS):
            raise Away("The server has not everything yet that was logged before")
        if is_short:
            return server.patience.attempt(lambda: call(*args, **kwargs))
        return server.patience.wait(lambda: call(*args, **kwargs), server.probe)

    def _emit(self, name: str, kind: str, data: Mapping[str, Any]) -> None:
        uri = _mlflow.registry_uri_of(self._inner, self._server.target)
        self._server.emit(name, kind, data if uri is None else {**data, "registry": uri})

    def _uploads(self, source: str) -> bool:
        """Return whether creating a version uploads the files of its model, which is no matter of seconds."""
        return _mlflow.uploads_models(self._inner) or source.startswith("file:")

    def _write(
        self,
        method: str,
        call: tuple[Any, ...] | None,
        name: str,
        kind: str,
        data: Mapping[str, Any],
    ) -> Any:
        """Write to the server, now or once it responds."""
        if call is not None:
            try:
                return self._through(method, *call)
            except Away:
                pass
        self._emit(name, kind, data)
        return None

    def _forwarded(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return self._through(name, *args, **kwargs)
            except Away as away:
                refuse(self._server, away, f"the result of {name}")

        return call
