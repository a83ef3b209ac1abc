"""The import path that the specification promises: `kedro_mlflow.config.connection`.

kedro-mlflow has no such module. A file inside its package would break an editable installation of
it, and a package of that name would make kedro-mlflow look installed. A module object in
`sys.modules` does neither: the import system looks there first, before it imports any parent.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["NAME", "install", "look_up"]

NAME = "kedro_mlflow.config.connection"
"""The module's name."""
_OFFERED = ("KedroMlflowConnection", "Connection")


def install() -> None:
    """Create the module unless one is already loaded, within microseconds and without any import."""
    if NAME not in sys.modules:
        module = ModuleType(NAME, "The base class of a connection, by its specified import path.")
        # `importlib.util.find_spec` raises ValueError for a loaded module without a spec.
        module.__spec__ = type(sys.__spec__)(NAME, None)
        module.__dict__["__getattr__"] = look_up
        sys.modules[NAME] = module


def look_up(name: str) -> Any:
    """Return the base class, the only attribute of the module.

    The base class is that of kedro-mlflow's own module if a version of it has one, else
    `mlflow_connections.Connection`. The check does not import kedro-mlflow, which takes a second.

    Raises:
        AttributeError: Any other name, before anything is imported: code that loops over
            `sys.modules.values()` reads each module's `__file__`, and must not change the
            dictionary.
    """
    if name == "__all__":
        return [_OFFERED[0]]
    if name not in _OFFERED:
        raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
    own = _kedro_mlflows_own()
    if own is not None:
        return getattr(own, name)
    from ._connection import Connection

    return Connection


def _kedro_mlflows_own() -> ModuleType | None:
    """Import kedro-mlflow's own module in place of this one, or return None if it has none."""
    from importlib import import_module
    from importlib.util import find_spec

    spec = find_spec("kedro_mlflow")
    folders = (spec.submodule_search_locations if spec else None) or ()
    module, package = "config/connection.py", "config/connection/__init__.py"
    if not any(Path(f, module).exists() or Path(f, package).exists() for f in folders):
        return None
    placeholder = sys.modules.pop(NAME, None)
    try:
        return import_module(NAME)
    except BaseException:
        if placeholder is not None:
            sys.modules[NAME] = placeholder
        raise
