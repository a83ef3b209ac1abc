"""The import path that the specification promises: `kedro_mlflow.config.connection`.

kedro-mlflow itself has no such module. Shipping a file inside its package would break an editable
installation of it, and a package of that name would make it look installed where it is not. A
module object in `sys.modules` does neither: the import system looks there first, before it
imports any parent.
"""

import sys
from types import ModuleType
from typing import Any

NAME = "kedro_mlflow.config.connection"


class _SpecifiedPath(ModuleType):
    """Becomes kedro-mlflow's own module if there is one, else offers the base class of core.

    Which of both is decided on the first look at an attribute, since only then is it worth finding
    out: kedro-mlflow takes a second to import.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        real = _real_module()
        if real is not None:
            return getattr(real, name)
        if name in {"KedroMlflowConnection", "Connection"}:
            from ._connection import Connection

            return Connection
        raise AttributeError(f"module {NAME!r} has no attribute {name!r}")


def install() -> None:
    """Offer the import path, unless somebody else already does. Costs microseconds, imports nothing."""
    if NAME not in sys.modules:
        module = _SpecifiedPath(
            NAME, "The base class of a connection, as the specification names it."
        )
        module.__all__ = ["KedroMlflowConnection"]  # type: ignore[attr-defined]
        sys.modules[NAME] = module


def _real_module() -> ModuleType | None:
    """Give kedro-mlflow's own module, should a version of it bring one, and let it take its place."""
    import importlib
    from importlib.util import find_spec

    placeholder = sys.modules.pop(NAME, None)
    try:
        if find_spec("kedro_mlflow") is not None and find_spec(NAME) is not None:
            return importlib.import_module(NAME)
    except ImportError:
        pass  # a kedro-mlflow that cannot be imported has no base class to offer either
    finally:
        if placeholder is not None:
            sys.modules.setdefault(NAME, placeholder)
    return None
