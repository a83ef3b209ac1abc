"""A copy of each MLflow run for Databand: the connection `databand` and its composite URIs.

The names of this package are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._connection import DatabandConnection, connection
    from ._dbnd import databand_tracking

__all__ = ["DatabandConnection", "connection", "databand_tracking"]

_HOMES = {
    "DatabandConnection": "._connection",
    "connection": "._connection",
    # The only name that needs the extra `dbnd`.
    "databand_tracking": "._dbnd",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name], __package__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
