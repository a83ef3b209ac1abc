"""What the parts of the tracking store share."""

from mlflow_connections_snowflake._calls import JsonObject

from ._api import Api, mlflow_errors
from ._history import History
from ._lookups import Lookups
from ._outgoing import Outgoing


class Part:
    """One part of the tracking store.

    Args:
        api: MLflow's REST API, through the bridge.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lookups = Lookups(api)
        self._history = History()
        self._outgoing = Outgoing(self._send, api.bridge.flush_seconds, api.bridge.burst)
        self._known_params: dict[str, dict[str, str]] = {}

    def _send(self, body: JsonObject) -> None:
        # The generic function, not that for batches: a value may be tied to a model or a dataset.
        with self._api.client() as client:
            client.call("runs/log-batch", body)

    def _flush(self, run_id: str) -> None:
        with mlflow_errors():
            self._outgoing.flush(run_id)

    def _flush_all(self) -> None:
        with mlflow_errors():
            self._outgoing.flush_all()
