"""The runs, models and files that this process knows, for reads of its own writes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mlflow_connections_events.entities import more_of_metric

from ._mlflow import accepted_arguments, metric_entities

MAX_POINTS = 200_000
"""The number of metric points that are kept for a run's history; beyond it the server is read."""

_NOTHING: Mapping[str, Any] = {}
Point = tuple[int, int, float]
"""Step, time and value: the greatest of a metric's points is its latest."""


class LocalRun:
    """A run as this process knows it.

    Attributes:
        run_id: The ID by which the process knows it.
        is_whole: Whether this process created it, so that all its data is known.
        is_seen: Whether anything but its ID is known.
        is_provisional: Whether the ID is not the server's.
        status: MLflow's name of its status.
        stage: `active` or `deleted`.
        latest: The latest point of each metric, with MLflow 3's additional data.
        history: All points of each metric in order of arrival, or None if there were too many.
    """

    def __init__(
        self,
        run_id: str,
        experiment_id: str,
        *,
        user: str = "",
        name: str | None = None,
        start: int = 0,
        end: int | None = None,
        status: str = "RUNNING",
        stage: str = "active",
        artifact_uri: str = "",
        tags: Mapping[str, str] | None = None,
        is_whole: bool = False,
        is_seen: bool = True,
        is_provisional: bool = False,
    ) -> None:
        self.run_id = run_id
        self.experiment_id = experiment_id
        self.user, self.name, self.start, self.end = user, name, start, end
        self.status, self.stage, self.artifact_uri = status, stage, artifact_uri
        self.is_whole, self.is_seen, self.is_provisional = is_whole, is_seen, is_provisional
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = dict(tags or {})
        self.latest: dict[str, tuple[Point, Mapping[str, Any]]] = {}
        self.history: dict[str, dict[tuple[Any, ...], None]] | None = {} if is_whole else None
        self.datasets: list[Any] = []
        self.input_models: list[Any] = []
        self.output_models: list[Any] = []
        self._points = 0

    @classmethod
    def of(cls, run: Any, *, is_whole: bool) -> "LocalRun":
        """Return the local state of a run that the server returned."""
        info = run.info
        local = cls(
            info.run_id,
            str(info.experiment_id),
            user=info.user_id or "",
            name=getattr(info, "run_name", None),
            start=info.start_time or 0,
            end=info.end_time,
            status=info.status,
            stage=info.lifecycle_stage,
            artifact_uri=info.artifact_uri or "",
            tags=run.data.tags,
            is_whole=is_whole,
        )
        local.params.update(run.data.params)
        for metric in metric_entities(run):
            more = more_of_metric(metric) or _NOTHING
            local.latest[metric.key] = ((metric.step, metric.timestamp, metric.value), more)
        inputs, outputs = getattr(run, "inputs", None), getattr(run, "outputs", None)
        local.datasets += getattr(inputs, "dataset_inputs", None) or []
        local.input_models += getattr(inputs, "model_inputs", None) or []
        local.output_models += getattr(outputs, "model_outputs", None) or []
        return local

    def add_metrics(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add metrics as rows of events: key, value, time, step, and optional data."""
        for row in rows:
            key, point = row[0], (row[3], row[2], row[1])
            more = row[4] if len(row) > 4 else _NOTHING
            latest = self.latest.get(key)
            if latest is None or point >= latest[0]:
                self.latest[key] = (point, more)
            if self.history is not None:
                points = self.history.get(key)
                if points is None:
                    points = self.history[key] = {}
                # The server also keeps one of several equal points.
                before = len(points)
                points[(*point, *more.values()) if more else point] = None
                self._points += len(points) - before
                if self._points > MAX_POINTS:
                    self.history = None

    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; the tag with the name renames the run, as on a server."""
        self.tags.update(tags)
        self.name = tags.get("mlflow.runName", self.name)

    def rename(self, name: str) -> None:
        """Set the name, which a server repeats as a tag."""
        self.name = self.tags["mlflow.runName"] = name

    def info(self) -> Any:
        """Return MLflow's entity of the run's metadata."""
        from mlflow.entities import RunInfo

        arguments = {
            "run_uuid": self.run_id,
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "user_id": self.user,
            "status": self.status,
            "start_time": self.start,
            "end_time": self.end,
            "lifecycle_stage": self.stage,
            "artifact_uri": self.artifact_uri,
            "run_name": self.name,
        }
        return RunInfo(**accepted_arguments(RunInfo, arguments))

    def entity(self) -> Any:
        """Return MLflow's entity of the whole run."""
        from mlflow.entities import Param, Run, RunData, RunInputs, RunTag

        data = RunData(
            [self._metric(key, *found) for key, found in self.latest.items()],
            [Param(k, v) for k, v in self.params.items()],
            [RunTag(k, v) for k, v in self.tags.items()],
        )
        inputs = accepted_arguments(
            RunInputs,
            {"dataset_inputs": list(self.datasets), "model_inputs": list(self.input_models)},
        )
        arguments: dict[str, Any] = {"run_inputs": RunInputs(**inputs)}
        if self.output_models:
            from mlflow.entities import RunOutputs

            arguments["run_outputs"] = RunOutputs(list(self.output_models))
        return Run(self.info(), data, **accepted_arguments(Run, arguments))

    def points(self, key: str) -> list[Any] | None:
        """Return the whole history of a metric, or None if this process does not know it."""
        if self.history is None:
            return None
        return [self._metric(key, (s, t, v), {}) for s, t, v, *_ in self.history.get(key, ())]

    def _metric(self, key: str, point: Point, more: Mapping[str, Any]) -> Any:
        from mlflow.entities import Metric

        step, timestamp, value = point
        return Metric(key, value, timestamp, step, **accepted_arguments(Metric, dict(more)))


class LocalFile(NamedTuple):
    """A file that this process has logged.

    Attributes:
        size: Its size in bytes.
        upload: The upload that keeps its copy; empty for a small file, which has none.
        content: The content of a small file, unless it was dropped after delivery.
    """

    size: int
    upload: str
    content: bytes | None = None


class LocalFiles:
    """The files of a run or a model that this process has logged.

    Attributes:
        files: By the path below the owner's root.
    """

    def __init__(self) -> None:
        self.files: dict[str, LocalFile] = {}

    def forget_contents(self) -> None:
        """Drop the contents of small files, because the server has them."""
        self.files = {path: file._replace(content=None) for path, file in self.files.items()}

    def listed(self, folder: str) -> dict[str, int | None]:
        """Return the entries of a folder: files with their size, folders with None."""
        prefix = f"{folder}/" if folder else ""
        found: dict[str, int | None] = {}
        for path, file in list(self.files.items()):
            if path.startswith(prefix):
                name, slash, _ = path[len(prefix) :].partition("/")
                found[prefix + name] = None if slash else file.size
        return found
