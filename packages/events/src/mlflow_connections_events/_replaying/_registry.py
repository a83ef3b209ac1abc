"""Applying the events of the model registry: registered models, their versions and aliases."""

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_connections_events._mlflow import accepted_arguments, is_unity_catalog
from mlflow_connections_events.ids import (
    CATALOG_SERVER_TAG,
    CATALOG_SOURCE_TAG,
    SERVER_TAG,
    SOURCE_TAG,
    is_copy_of_version,
)
from mlflow_connections_outbox import Event, Rejected

from ._outcome import CREATED_BEFORE, error_code, unless_gone
from ._runs import RunApplier
from ._target import ReplayTarget

_LOGGED_MODEL = re.compile(r"(?:^models:|/models)/(m-[0-9a-f]{32})(?:/|$)")
_READY = "READY"
_VERSIONS_TAG = "mlflow.modelVersions"


class RegistryApplier:
    """Applies the events of the model registry.

    Args:
        target: The server.
        runs: Finds the source runs of versions.
    """

    def __init__(self, target: ReplayTarget, runs: RunApplier) -> None:
        self._target = target
        self._ids = target.ids
        self._own_ids = target.own_ids
        self._runs = runs

    def handlers(self) -> Mapping[str, Callable[[Event], None]]:
        """Return the function for each kind of event."""
        return {
            "registered_model_created": self._registered_model_created,
            "registered_model_updated": self._registered_model_updated,
            "registered_model_tagged": self._registered_model_tagged,
            "registered_model_tag_deleted": self._registered_model_tag_deleted,
            "registered_model_deleted": self._registered_model_deleted,
            "version_created": self._version_created,
            "version_updated": self._version_updated,
            "version_tagged": self._version_tagged,
            "version_tag_deleted": self._version_tag_deleted,
            "version_deleted": self._version_deleted,
            "stage_transitioned": self._stage_transitioned,
            "alias_set": self._alias_set,
            "alias_deleted": self._alias_deleted,
        }

    def _registry_of(self, event: Event) -> Any:
        """Return the registry that an event names, if its IDs are the server's own, or the usual one."""
        return self._target.registry(event.data.get("registry") if self._own_ids else None)

    # ----- registered models

    def _registered_model_created(self, event: Event) -> None:
        from mlflow.entities.model_registry import RegisteredModelTag

        tags = [RegisteredModelTag(k, v) for k, v in event.data["tags"].items()]
        try:
            self._registry_of(event).create_registered_model(
                event.stream, tags, event.data["description"]
            )
        except Exception as error:
            if error_code(error) not in CREATED_BEFORE:
                raise

    def _registered_model_updated(self, event: Event) -> None:
        if new_name := event.data.get("new_name"):
            self._registry_of(event).rename_registered_model(event.stream, new_name)
        else:
            self._registry_of(event).update_registered_model(
                event.stream, event.data["description"]
            )

    def _registered_model_tagged(self, event: Event) -> None:
        from mlflow.entities.model_registry import RegisteredModelTag

        tag = RegisteredModelTag(event.data["key"], event.data["value"])
        self._registry_of(event).set_registered_model_tag(event.stream, tag)

    def _registered_model_tag_deleted(self, event: Event) -> None:
        key = event.data["key"]
        unless_gone(lambda: self._registry_of(event).delete_registered_model_tag(event.stream, key))

    def _registered_model_deleted(self, event: Event) -> None:
        unless_gone(lambda: self._registry_of(event).delete_registered_model(event.stream))

    # ----- versions

    def _version_created(self, event: Event) -> None:
        from mlflow.entities.model_registry import ModelVersionTag

        data, registry = event.data, self._registry_of(event)
        source = f"{event.stream}/{data['version']}"
        if self._ids.get(source):
            return
        version = self._target.found(
            event, source, lambda: self._find_version(registry, event.stream, source, data)
        )
        model = self._model_of(data)
        if version is None:
            tags = {**data["tags"], _source_tag(registry): source}
            if self._target.source:
                tags[_server_tag(registry)] = self._target.source
            more = {"model_id": model} if model else {}
            run = data.get("source_run")
            create = registry.create_model_version
            version = create(
                name=event.stream,
                source=self._ids.place_of(data["source"]),
                run_id=self._runs.id_of(run, data.get("run", {})) if run else None,
                tags=[ModelVersionTag(k, self._ids.replaced(v)) for k, v in tags.items()],
                run_link=data.get("run_link"),
                description=data.get("description"),
                **accepted_arguments(create, more),
            )
        if model and is_unity_catalog(registry):
            self._name_version(model, event.stream, str(version.version))
        self._ids.put(source, str(version.version))

    def _name_version(self, model_id: str, name: str, number: str) -> None:
        """Add a version to the tag of its logged model, as MLflow's client does.

        A registry of the same server writes it itself; Unity Catalog does not know the model.
        """
        from mlflow.entities import LoggedModelTag

        def write() -> None:
            tags = self._target.tracking.get_logged_model(model_id).tags
            noted = json.loads(tags.get(_VERSIONS_TAG) or "[]")
            version = {"name": name, "version": number}
            if version not in noted:
                tag = LoggedModelTag(_VERSIONS_TAG, json.dumps([*noted, version]))
                self._target.tracking.set_logged_model_tags(model_id, [tag])

        unless_gone(write)

    def _model_of(self, data: Mapping[str, Any]) -> str | None:
        """Return the destination's ID of the logged model that a version was made from, or None."""
        if model := data.get("model_id"):
            return self._target.model(model)
        # MLflow's database does not keep the ID, but its server requires it for such a source.
        named = _LOGGED_MODEL.search(data["source"])
        return self._ids.get(named[1]) if named else None

    def _find_version(self, registry: Any, name: str, source: str, data: Mapping[str, Any]) -> Any:
        """Return the version of a source, unless its creation ended before its files were uploaded."""
        token, key, is_catalog = None, _source_tag(registry), is_unity_catalog(registry)
        while True:
            found = registry.search_model_versions(
                f"name = '{name}'", max_results=1_000, page_token=token
            )
            for each in found:
                # Unity Catalog's search returns no tags.
                version = registry.get_model_version(name, each.version) if is_catalog else each
                if version.tags.get(key) != source:
                    continue
                if not is_copy_of_version(version, data, self._ids, self._target.source):
                    continue
                if not is_catalog or version.status == _READY:
                    return version
                unless_gone(functools.partial(registry.delete_model_version, name, version.version))
            if not (token := found.token):
                return None

    def _number(self, event: Event) -> str:
        source = f"{event.stream}/{event.data['version']}"
        if known := self._ids.get(source):
            return known
        if self._own_ids:
            return str(event.data["version"])
        raise Rejected(f"The model version {source} was not announced to the destination.", [0])

    def _version_updated(self, event: Event) -> None:
        version = self._number(event)
        self._registry_of(event).update_model_version(
            event.stream, version, event.data["description"]
        )

    def _version_tagged(self, event: Event) -> None:
        from mlflow.entities.model_registry import ModelVersionTag

        tag = ModelVersionTag(event.data["key"], self._ids.replaced(event.data["value"]))
        self._registry_of(event).set_model_version_tag(event.stream, self._number(event), tag)

    def _version_tag_deleted(self, event: Event) -> None:
        version, key = self._number(event), event.data["key"]
        unless_gone(
            lambda: self._registry_of(event).delete_model_version_tag(event.stream, version, key)
        )

    def _version_deleted(self, event: Event) -> None:
        version = self._number(event)
        unless_gone(lambda: self._registry_of(event).delete_model_version(event.stream, version))

    def _stage_transitioned(self, event: Event) -> None:
        data, version = event.data, self._number(event)
        self._registry_of(event).transition_model_version_stage(
            event.stream, version, data["stage"], data["archive_existing"]
        )

    # ----- aliases

    def _alias_set(self, event: Event) -> None:
        version = self._number(event)
        self._registry_of(event).set_registered_model_alias(
            event.stream, event.data["alias"], version
        )

    def _alias_deleted(self, event: Event) -> None:
        alias = event.data["alias"]
        unless_gone(
            lambda: self._registry_of(event).delete_registered_model_alias(event.stream, alias)
        )


def _server_tag(registry: Any) -> str:
    return CATALOG_SERVER_TAG if is_unity_catalog(registry) else SERVER_TAG


def _source_tag(registry: Any) -> str:
    return CATALOG_SOURCE_TAG if is_unity_catalog(registry) else SOURCE_TAG
