"""The recorder of a model registry: each call that the registry has accepted becomes an event."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_connections_events import entities
from mlflow_connections_events._proxy import Arguments
from mlflow_connections_events.entities import Redact
from mlflow_connections_outbox import Event

from ._calls import EventLog, Record, recorded_methods, recording


class RegistryRecorder:
    """Records the accepted calls of one model registry store.

    Args:
        store: The store whose results are passed to the caller.
        log: Returns the log that receives the next event.
        redact: Applied to each tag, description and URI.
        enabled: Nothing is recorded while it returns false.
    """

    def __init__(
        self,
        store: Any,
        log: Callable[[], EventLog],
        redact: Redact,
        enabled: Callable[[], bool],
    ) -> None:
        self._store = store
        self._log = log
        self._redact = redact
        self._enabled = enabled

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return the recording function for each recorded method of the store, by name."""
        records: dict[str, Record] = {
            "create_registered_model": self._create_model,
            "update_registered_model": lambda a, _: self._emit(
                a["name"], "registered_model_updated", {"description": a["description"]}
            ),
            "rename_registered_model": lambda a, _: self._emit(
                a["name"], "registered_model_updated", {"new_name": a["new_name"]}
            ),
            "delete_registered_model": lambda a, _: self._emit(
                a["name"], "registered_model_deleted", {}
            ),
            "set_registered_model_tag": lambda a, _: self._emit(
                a["name"], "registered_model_tagged", self._tag(a["tag"])
            ),
            "delete_registered_model_tag": lambda a, _: self._emit(
                a["name"], "registered_model_tag_deleted", {"key": a["key"]}
            ),
            "create_model_version": self._create_version,
            "update_model_version": lambda a, _: self._emit_version(
                "version_updated", a, {"description": a["description"]}
            ),
            "delete_model_version": lambda a, _: self._emit_version("version_deleted", a, {}),
            "set_model_version_tag": lambda a, _: self._emit_version(
                "version_tagged", a, self._tag(a["tag"])
            ),
            "delete_model_version_tag": lambda a, _: self._emit_version(
                "version_tag_deleted", a, {"key": a["key"]}
            ),
            "transition_model_version_stage": lambda a, _: self._emit_version(
                "stage_transitioned",
                a,
                {"stage": a["stage"], "archive_existing": bool(a["archive_existing_versions"])},
            ),
            "set_registered_model_alias": lambda a, _: self._emit_version(
                "alias_set", a, {"alias": a["alias"]}
            ),
            "delete_registered_model_alias": lambda a, _: self._emit(
                a["name"], "alias_deleted", {"alias": a["alias"]}
            ),
        }
        return recorded_methods(self._store, records, recording(self._enabled))

    def _emit(self, name: str, kind: str, data: Mapping[str, Any]) -> None:
        self._log().append(Event(name, kind, time.time_ns() // 1_000_000, data))

    def _emit_version(self, kind: str, arguments: Arguments, data: Mapping[str, Any]) -> None:
        self._emit(arguments["name"], kind, {"version": str(arguments["version"]), **data})

    def _tag(self, tag: Any) -> dict[str, str]:
        return {"key": str(tag.key), "value": self._redact(str(tag.key), str(tag.value))}

    def _create_model(self, arguments: Arguments, _: Any) -> None:
        data = {
            "tags": entities.pairs(arguments.get("tags"), self._redact),
            "description": arguments.get("description"),
        }
        self._emit(arguments["name"], "registered_model_created", data)

    def _create_version(self, arguments: Arguments, version: Any) -> None:
        data = {
            "version": str(version.version),
            "source": self._redact("source", arguments["source"]),
            "source_run": arguments.get("run_id") or None,
            "model_id": arguments.get("model_id") or None,
            "run_link": arguments.get("run_link") or None,
            "tags": entities.pairs(arguments.get("tags"), self._redact),
            "description": arguments.get("description"),
        }
        self._emit(arguments["name"], "version_created", data)
