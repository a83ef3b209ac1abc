"""Databand's sink meets the contract of sinks, against a misbehaving server."""

import json
from collections.abc import Hashable, Sequence

from mlflow_connections_databand.sink import open_sink
from mlflow_connections_outbox import Event
from mlflow_connections_outbox.testing import Request, SinkContract

RUN = "0123456789abcdef0123456789abcdef"


class TestDataband(SinkContract):
    """With a token, and metrics and params of one run."""

    sink = f"{open_sink.__module__}:{open_sink.__name__}"
    environ = {"DBND__CORE__DATABAND_ACCESS_TOKEN": "hunter2-the-token"}  # noqa: RUF012
    name = "databand"

    def events(self) -> list[Event]:
        """Return metrics with unique names, between events that need other requests."""
        context = {"experiment_name": "wine", "started": 1, "experiment_id": "1"}
        return [
            Event(
                *(RUN, "logged", 1_700_000_000_000 + n),
                {"run": context, "metrics": [[f"m{n}", 1.0, 1_700_000_000_000, n]]}
                | ({"params": {f"p{n}": "x"}} if n % 2 else {}),
            )
            for n in range(6)
        ]

    def received(self, requests: Sequence[Request]) -> list[Hashable]:
        """Return the names of the metrics."""
        return [
            row["metric"]["key"]
            for request in requests
            if request.path.endswith("/log_metrics")
            for row in json.loads(request.body)["metrics_info"]
        ]

    def key(self, event: Event) -> Hashable:
        """Return the name of the metric."""
        return str(event.data["metrics"][0][0])
