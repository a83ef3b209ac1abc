"""A copy of MLflow runs for a second MLflow server: the keyword `mirror` and the command that moves runs.

The names of this package are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._connection import Mirror, connection

__all__ = ["Mirror", "connection"]

_HOMES = {"Mirror": "._connection", "connection": "._connection"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name], __package__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
