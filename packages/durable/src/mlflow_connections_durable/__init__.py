"""MLflow that responds at once and delivers later: the keyword `durable`.

Calls that write become events of an outbox and return in microseconds; another process delivers
them to the server. Runs, models and experiments that are created while the server does not respond
have provisional IDs until it does.

- `_connection`: the keyword and its option; `_uri` and `_composite`: the URIs behind it.
- `_server`: the state of one server in this process, shared by its stores.
- `_patience`: calls to the server with a deadline, and silence after a failed one.
- `_local`: the runs, models and files that this process knows, for reads of its own writes.
- `_tracking`, `_registry`, `_artifacts`: MLflow's three interfaces on top of these. The methods of
  the tracking store are in `_experiments`, `_runs`, `_run_data`, `_logged_models` and `_traces`;
  other calls go to `_inner_store`.
- `_kept_files`: copies of artifacts until they are delivered.
- `sink`: delivery, in the shipper's process; `_commands`: commands of `mlflow-connections outbox`.

The names of this package are loaded on first use.
"""

from typing import TYPE_CHECKING

from mlflow_connections.lazy import lazy_names

if TYPE_CHECKING:
    from ._connection import Durable, connection

__all__ = ["Durable", "connection"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"Durable": "._connection", "connection": "._connection"},
)
