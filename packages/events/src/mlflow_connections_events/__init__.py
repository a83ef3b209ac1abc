"""MLflow's calls as events: a vocabulary, a recorder, composite URIs and replay into an MLflow server.

A library without a keyword, for packages that copy or delay logged data:

* `vocabulary` lists the kinds of events and their data. A sink imports it without MLflow.
* `duplicate` returns a store that behaves as before and whose accepted calls become events.
* `composite` registers URIs that name an inner store; `plugin` contains the functions that MLflow's
  entry-point groups name for them. `connection` has the base class of the keywords that resolve to
  such URIs.
* `proxy` returns an object that equals another one except for a few methods.
* `is_unity_catalog` recognizes a registry of Databricks that gets a model's files from its client.
* `keeps_its_uri` and `activate` are for stores whose own tracking URI must stay in force.

MLflow imports this package whenever it is imported itself, so each name is loaded on first use.
"""

from typing import TYPE_CHECKING

from mlflow_connections.lazy import lazy_names

if TYPE_CHECKING:
    from ._duplicate import EventLog, Redact, duplicate, duplicate_registry
    from ._inner import inner_tracking_uri
    from ._mlflow import is_unity_catalog
    from ._proxy import proxy
    from ._transparent import activate, keeps_its_uri
    from .composite import Composite, inner_of, is_composite

__all__ = [
    "Composite",
    "EventLog",
    "Redact",
    "activate",
    "duplicate",
    "duplicate_registry",
    "inner_of",
    "inner_tracking_uri",
    "is_composite",
    "is_unity_catalog",
    "keeps_its_uri",
    "proxy",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Composite": ".composite",
        "EventLog": "._duplicate",
        "Redact": "._duplicate",
        "activate": "._transparent",
        "duplicate": "._duplicate",
        "duplicate_registry": "._duplicate",
        "inner_of": ".composite",
        "inner_tracking_uri": "._inner",
        "is_composite": ".composite",
        "is_unity_catalog": "._mlflow",
        "keeps_its_uri": "._transparent",
        "proxy": "._proxy",
    },
)
