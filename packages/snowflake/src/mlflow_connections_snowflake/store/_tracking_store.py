"""The tracking store: fluent MLflow over external functions, what is logged sent in batches."""

import atexit
import logging
import weakref

import mlflow

# Snowpark closes its sessions at exit. Imported here, it does so after what this module does then.
import snowflake.snowpark  # noqa: F401
from mlflow.store.tracking.abstract_store import AbstractStore

from ._api import Api
from ._bridge import SCHEME, Bridge
from ._experiments import Experiments
from ._logging import Logging
from ._models import LoggedModels
from ._refusals import refuse_the_rest
from ._runs import Runs

_logger = logging.getLogger(__name__)

stores: "weakref.WeakSet[SnowflakeTrackingStore]" = weakref.WeakSet()
"""Every store of this process, so that all can be flushed."""


class SnowflakeTrackingStore(Experiments, Runs, Logging, LoggedModels, AbstractStore):
    """MLflow's tracking store inside Snowflake.

    Logging waits for company; everything else happens at once, and reading sends first what waits.

    Args:
        store_uri: The tracking URI, which describes the bridge.
    """

    def __init__(self, store_uri: str) -> None:
        AbstractStore.__init__(self)
        self.bridge, _ = Bridge.from_uri(store_uri)
        LoggedModels.__init__(self, Api(self.bridge))
        stores.add(self)


refuse_the_rest(
    SnowflakeTrackingStore,
    AbstractStore,
    kept=frozenset({"search_runs", "log_metric_async", "log_param_async", "set_tag_async"}),
)


@atexit.register
def _at_exit() -> None:
    """End the active run as MLflow does at exit, but while there still is a session; then flush."""
    try:
        if stores and mlflow.get_tracking_uri().startswith(f"{SCHEME}:"):
            mlflow.end_run()
        for store in list(stores):
            store.flush()
    except Exception as error:  # noqa: BLE001 - the process ends: telling is all that is left
        _logger.critical("Not everything that was logged could be sent: %s", error)
