"""Earlier copies on the destination, found with few searches, so that only the rest is sent."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

from mlflow_connections_events.entities import trace_id
from mlflow_connections_events.ids import (
    COPIED_TAG,
    SOURCE_TAG,
    IdMap,
    is_copy_of_version,
    may_be_from,
)
from mlflow_connections_events.replay import unless_missing
from mlflow_connections_outbox import Event

from ._reader import Item, digest, paged

_VERSIONS = "mlflow.modelVersions"
_FEW = 3
"""Up to this number, copies are searched one by one; beyond it, all copies of their experiment are listed."""
_PARTS = {
    "inputs_logged": "inputs",
    "outputs_logged": "inputs",
    "artifacts_uploaded": "files",
}
_ENDED = frozenset({"FINISHED", "FAILED", "KILLED", "READY"})
_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "NOT_IMPLEMENTED"})


class Existing:
    """Finds the earlier copies of items.

    Args:
        client: An `MlflowClient` of the destination.
        ids: The map of IDs, to which it adds those of the copies.
        expect_absent: Called with the IDs of items that have no copy.
        source: The address of the source.
    """

    def __init__(
        self,
        client: Any,
        ids: IdMap,
        expect_absent: Callable[[Iterable[str]], None],
        source: str,
    ) -> None:
        self._source = source
        self._client = client
        self._ids = ids
        self._expect_absent = expect_absent
        self._experiments: dict[str, Any] = {}
        self._copies: dict[tuple[str, str], Any] = {}
        self._new: set[tuple[str, str]] = set()
        self._versions: dict[str, dict[str, Any]] = {}
        self._registered: dict[str, Any] = {}

    def look_up(self, items: Iterable[Item]) -> None:
        """Search for the copies of items, all of one experiment."""
        sought: dict[str, list[Item]] = {}
        for item in items:
            sought.setdefault(item.kind, []).append(item)
        name = next(item.experiment_name for each in sought.values() for item in each)
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            self._experiments[name] = experiment
            if experiment.lifecycle_stage != "active":
                # Nothing can be copied, which the first attempt reports.
                return
        for kind, search in _SEARCHES.items():
            wanted = sought.get(kind, [])
            if not wanted:
                continue
            found = self._search(search, experiment, wanted) if experiment is not None else {}
            if found is not None:
                self._learn(kind, wanted, found)

    def _search(
        self, search: "Search", experiment: Any, items: Sequence[Item]
    ) -> "dict[str, list[_Copy]] | None":
        """Return copies by the ID of their source, or None if the server cannot search for them.

        A server that lacks the endpoint, as AzureML lacks those of logged models and traces, has none.
        """
        place = str(experiment.experiment_id)
        filters = [f"tags.`{SOURCE_TAG}` = '{item.id}'" for item in items]
        if len(items) > _FEW:
            filters = [f"tags.`{SOURCE_TAG}` LIKE '%'"]
        try:
            return unless_missing(lambda: self._found(search, place, filters)) or {}
        except Exception as error:
            if str(getattr(error, "error_code", "")) not in _REFUSED:
                raise
        try:
            # Not every version can compare tags of traces or models: all of them are listed.
            return self._found(search, place, [""])
        except Exception as error:
            if str(getattr(error, "error_code", "")) not in _REFUSED:
                raise
            return None

    def _found(
        self, search: "Search", place: str, filters: Sequence[str]
    ) -> "dict[str, list[_Copy]]":
        found: dict[str, list[_Copy]] = {}
        for each in filters:
            for entity, tags in search(self._client, place, each):
                if SOURCE_TAG in tags:
                    found.setdefault(str(tags[SOURCE_TAG]), []).append((entity, tags))
        return found

    def _copy_of(self, item: Item, found: "Sequence[_Copy]") -> Any:
        """Return the copy of an item among those of items with its ID, perhaps of other servers."""
        started = item.announcement and item.announcement.data.get("start_time")
        for entity, tags in found:
            is_same = item.kind == "run" and entity.info.start_time == started
            if is_same or may_be_from(tags, self._source):
                return entity
        return None

    def _learn(
        self, kind: str, items: Iterable[Item], found: "Mapping[str, Sequence[_Copy]]"
    ) -> None:
        new = []
        for item in items:
            copy = self._copy_of(item, found.get(item.id, ()))
            if copy is None:
                new.append(item.id)
                self._new.add((kind, item.id))
                continue
            self._copies[kind, item.id] = copy
            target, place = _PLACES[kind](copy)
            source = item.announcement and item.announcement.data.get(_PLACE_KEYS.get(kind, ""))
            if source and place:
                self._ids.put(source.rstrip("/"), place.rstrip("/"))
            if target != item.id:
                self._ids.put(item.id, target)
        self._expect_absent(new)

    def has(self, item: Item) -> bool:
        """Return whether an item is known to have a copy."""
        return (item.kind, item.id) in self._copies or (
            item.kind == "experiment" and item.name in self._experiments
        )

    def files_of_whole(self, item: Item) -> int | None:
        """Return how many files an item has, or None if it was not copied completely before."""
        copy = self._copies.get((item.kind, item.id))
        if copy is None or not item.digest:
            return None
        noted, _, files = copy.tags.get(COPIED_TAG, "").partition(" files=")
        return int(files) if noted == item.digest and files.isdecimal() else None

    def whole(self, item: Item, events: Iterable[Event]) -> str:
        """Return the note that an item was copied completely."""
        return f"{item.digest} files={sum(event.data.get('count', 0) for event in events)}"

    def is_deleted(self, item: Item) -> bool:
        """Return whether the copy of a run is deleted."""
        copy = self._copies.get((item.kind, item.id))
        if item.kind != "run" or copy is None:
            return False
        return bool(copy.info.lifecycle_stage == "deleted")

    # ----- what is left to send

    def rest(self, item: Item, events: Sequence[Event]) -> list[Event]:
        """Return those of an item's events that the destination needs, with a note of its resulting state."""
        if item.kind == "run":
            return list(self._rest_of_run(item, events))
        if item.kind == "model":
            return list(self._rest_of_model(item, events))
        if item.kind == "registered model":
            return list(self._rest_of_registered(item, events))
        if item.kind == "experiment" and item.name in self._experiments:
            tags = self._experiments[item.name].tags
            return [e for e in events if tags.get(e.data["key"]) != e.data["value"]]
        return list(events)

    def _rest_of_run(self, item: Item, events: Sequence[Event]) -> Iterator[Event]:
        run = self._copies.get(("run", item.id))
        is_new = ("run", item.id) in self._new
        # Files of a running run may change and keep their size.
        now = _digests(events, files=events[-1].data["status"] in _ENDED)
        kept = self._changed_parts(events, now, run.data.tags if run is not None else {})
        state = kept.pop()
        for event in kept:
            data = event.data
            if run is not None:
                data = _without(data, "params", run.data.params)
                data = _without(data, "tags", run.data.tags, self._ids.replaced)
            elif is_new and "tags" in data:
                # The others were copied with the run.
                tags = {k: v for k, v in data["tags"].items() if self._ids.replaced(v) != v}
                data = {**data, "tags": tags}
            if event.kind != "logged" or any(data.get(k) for k in ("metrics", "params", "tags")):
                yield event._replace(data=data)
        if run is None or run.data.tags.get(COPIED_TAG) != now:
            note = {"tags": {COPIED_TAG: now}, "run": state.data["run"]}
            yield state._replace(kind="logged", data=note, id=f"{state.id} note")
        if self._is_state_new(state, run, is_new=is_new):
            yield state

    def _is_state_new(self, state: Event, run: Any, *, is_new: bool) -> bool:
        status, end = state.data["status"], state.data["end_time"] or None
        if run is None:
            return not is_new or (status, end) != ("RUNNING", None)
        info = run.info
        known = (info.status, info.end_time or None, info.run_name)
        return bool(known != (status, end, state.data["run_name"]))

    def _changed_parts(
        self, events: Sequence[Event], now: str, tags: Mapping[str, str]
    ) -> list[Event]:
        """Leave out the parts that were already copied, according to the note in the tags."""
        known = set(tags.get(COPIED_TAG, "").split())
        same = {part.partition("=")[0] for part in now.split() if part in known}
        return [event for event in events if _part(event) not in same]

    def _rest_of_model(self, item: Item, events: Sequence[Event]) -> Iterator[Event]:
        model = self._copies.get(("model", item.id))
        logged = events[-1]
        now = _digests(events, files=logged.data["status"] in _ENDED)
        tags = model.tags if model is not None else {}
        *files, _ = self._changed_parts(events, now, tags)
        yield from files
        wanted = {k: self._ids.replaced(v) for k, v in logged.data["tags"].items()}
        wanted[COPIED_TAG] = now
        if (
            model is not None
            and all(_is_same_tag(key, tags.get(key), value) for key, value in wanted.items())
            and str(getattr(model.status, "value", model.status)) == logged.data["status"]
        ):
            return
        data = {**logged.data, "tags": {**logged.data["tags"], COPIED_TAG: now}}
        yield logged._replace(data=data)

    # ----- the model registry

    def look_up_registered(self, item: Item, events: Iterable[Event]) -> None:
        """Search for a registered model and its versions, which are created by the events."""
        created = {
            f"{item.name}/{event.data['version']}": event.data
            for event in events
            if event.kind == "version_created"
        }
        name = item.name
        search = self._client.search_model_versions
        found = list(paged(search, filter_string=f"name = '{name}'"))
        self._versions[name] = {}
        for version in found:
            source = version.tags.get(SOURCE_TAG)
            data = created.get(source)
            if data and is_copy_of_version(version, data, self._ids, self._source):
                self._versions[name][source] = version
                self._ids.put(source, str(version.version))
        if found:
            self._registered[name] = self._client.get_registered_model(name)

    def _rest_of_registered(self, item: Item, events: Sequence[Event]) -> Iterator[Event]:
        model, versions = self._registered.get(item.name), self._versions.get(item.name, {})
        numbers = [e.data["version"] for e in events if e.kind == "version_created"]
        self._expect_absent(
            f"{item.name}/{number}" for number in numbers if f"{item.name}/{number}" not in versions
        )
        for event in events:
            if event.kind.startswith("registered_model"):
                if not _is_known_of_model(event, model):
                    yield event
                continue
            version = versions.get(f"{item.name}/{event.data['version']}")
            if version is None:
                # Its tags and its description were sent with its creation.
                if event.kind not in {"version_updated", "version_tagged"}:
                    yield event
            elif not self._is_known_of_version(event, version, model):
                yield event

    def _is_known_of_version(self, event: Event, version: Any, model: Any) -> bool:
        data = event.data
        if event.kind == "version_created":
            return True
        if event.kind == "version_updated":
            return bool((version.description or None) == data["description"])
        if event.kind == "version_tagged":
            return bool(version.tags.get(data["key"]) == self._ids.replaced(data["value"]))
        if event.kind == "stage_transitioned":
            return bool(version.current_stage == data["stage"])
        return str((model.aliases or {}).get(data["alias"])) == str(version.version)


def _is_known_of_model(event: Event, model: Any) -> bool:
    if model is None:
        # A new one is created with everything that it has.
        return False
    if event.kind == "registered_model_created":
        return True
    if event.kind == "registered_model_updated":
        return bool((model.description or None) == event.data["description"])
    return bool(model.tags.get(event.data["key"]) == event.data["value"])


def _is_same_tag(key: str, known: str | None, wanted: str) -> bool:
    """Return whether a logged model has a tag; servers and clients write numbers of versions in two ways."""
    if known is None or key != _VERSIONS:
        return known == wanted
    return _versions_in(known) == _versions_in(wanted)


def _versions_in(tag: str) -> set[tuple[str, str]]:
    # A client may add what its server has written already.
    return {(each["name"], str(each["version"])) for each in json.loads(tag)}


def _part(event: Event) -> str:
    return _PARTS.get(event.kind) or ("metrics" if "metrics" in event.data else "")


def _digests(events: Iterable[Event], *, files: bool) -> str:
    """Return the text of a note: a digest for each part."""
    parts: dict[str, list[Any]] = {"metrics": [], "inputs": [], "files": []}
    for event in events:
        if part := _part(event):
            data = {k: v for k, v in event.data.items() if k not in {"run", "source"}}
            parts[part] += data["metrics"] if part == "metrics" else [data]
    # A server returns equal times in any order.
    parts["metrics"].sort(key=repr)
    if not files:
        del parts["files"]
    return " ".join(f"{part}={digest(data)}" for part, data in parts.items())


def _without(
    data: Mapping[str, Any],
    part: str,
    known: Mapping[str, str],
    replaced: Callable[[str], str] = str,
) -> Mapping[str, Any]:
    if part not in data:
        return data
    kept = {k: v for k, v in data[part].items() if known.get(k) != replaced(v)}
    return {**data, part: kept}


# ----- searches: the destination's entities with their tags

_Copy = tuple[Any, Mapping[str, str]]
"""An entity of the destination with its tags."""

Search = Callable[[Any, str, str], Iterator[tuple[Any, Mapping[str, str]]]]


def _runs(client: Any, place: str, filter_string: str) -> Iterator[tuple[Any, Mapping[str, str]]]:
    from mlflow.entities import ViewType

    where = {"experiment_ids": [place], "run_view_type": ViewType.ALL, "max_results": 1_000}
    for run in paged(client.search_runs, filter_string=filter_string, **where):
        yield run, run.data.tags


def _models(client: Any, place: str, filter_string: str) -> Iterator[tuple[Any, Mapping[str, str]]]:
    where = {"experiment_ids": [place], "filter_string": filter_string}
    for model in paged(client.search_logged_models, **where):
        yield model, model.tags


def _traces(client: Any, place: str, filter_string: str) -> Iterator[tuple[Any, Mapping[str, str]]]:
    search = client.search_traces
    named = "locations" if "locations" in signature(search).parameters else "experiment_ids"
    where = {named: [place], "filter_string": filter_string, "max_results": 500}
    for trace in paged(search, include_spans=False, **where):
        yield trace.info, trace.info.tags


_SEARCHES: Mapping[str, Search] = {"run": _runs, "model": _models, "trace": _traces}
_PLACE_KEYS = {"run": "artifact_uri", "model": "artifact_location"}
_PLACES: Mapping[str, Callable[[Any], tuple[str, str | None]]] = {
    "run": lambda run: (run.info.run_id, run.info.artifact_uri),
    "model": lambda model: (model.model_id, model.artifact_location),
    "trace": lambda info: (trace_id(info), None),
}
