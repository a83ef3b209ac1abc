"""The import path that the specification promises: `kedro_mlflow.config.connection`.

kedro-mlflow itself has no such module. Shipping a file inside its package would break an editable
installation of it, and a package of that name would make it look installed where it is not. A
module object in `sys.modules` does neither: the import system looks there first, before it
imports any parent.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

NAME = "kedro_mlflow.config.connection"
OFFERED = ("KedroMlflowConnection", "Connection")


def install() -> None:
    """Offer the import path, unless somebody else already does. Costs microseconds, imports nothing."""
    if NAME not in sys.modules:
        module = ModuleType(NAME, "The base class of a connection, as the specification names it.")
        # `importlib.util.find_spec` refuses a module in `sys.modules` that has none.
        module.__spec__ = type(sys.__spec__)(NAME, None)
        module.__dict__["__getattr__"] = look_up
        sys.modules[NAME] = module


def look_up(name: str) -> Any:
    """Give an attribute of kedro-mlflow's own module if it has one, else the base class of core.

    Which of both is found out on the first look, and without importing kedro-mlflow, which takes a
    second. Any other name is refused without a look: tools ask every module for this and that.
    """
    if name == "__all__":
        return [OFFERED[0]]
    if name in OFFERED:
        real = _real_module()
        if real is not None:
            return getattr(real, name)
        from ._connection import Connection

        return Connection
    raise AttributeError(f"module {NAME!r} has no attribute {name!r}")


def _real_module() -> ModuleType | None:
    """Give kedro-mlflow's own module, should a version of it bring one, and let it take its place."""
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
