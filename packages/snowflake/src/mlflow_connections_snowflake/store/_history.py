"""The values of metrics that this process logged. MLflow's own history answers to GET alone."""

from collections import defaultdict

from mlflow.entities import Metric

MOST = 100_000
"""Values that are remembered in all, 24 MB with MLflow 3.17; what goes beyond drops the oldest run's."""


class History:
    """Remembers what was logged in this process."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[Metric]]] = {}
        self._whole: set[str] = set()
        self._count = 0

    def begin(self, run_id: str) -> None:
        """Remember a run that nobody else can have logged to, since it was just created."""
        self._values[run_id] = defaultdict(list)
        self._whole.add(run_id)

    def add(self, run_id: str, metrics: list[Metric]) -> None:
        """Remember values."""
        values = self._values.setdefault(run_id, defaultdict(list))
        for metric in metrics:
            values[metric.key].append(metric)
        self._count += len(metrics)
        while self._count > MOST:
            oldest = next(iter(self._values))
            self._count -= sum(map(len, self._values.pop(oldest).values()))
            self._whole.discard(oldest)

    def end(self, run_id: str) -> None:
        """Take into account that somebody else may go on with a run."""
        self._whole.discard(run_id)

    def of(self, run_id: str, key: str) -> tuple[list[Metric], bool]:
        """Give the values of a metric, and whether these are certainly all."""
        return list(self._values.get(run_id, {}).get(key, ())), run_id in self._whole
