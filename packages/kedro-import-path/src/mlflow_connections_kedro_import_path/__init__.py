"""Makes `kedro_mlflow.config.connection` importable in every script of an environment.

Installing this distribution adds a start-up file: `.pth` up to Python 3.14, `.start` from 3.15 on
(PEP 829). It calls `install`, which puts one module object into `sys.modules` and imports nothing,
since it runs in every interpreter of the environment.
"""

import sys

__all__ = ["install"]

_NAME = "kedro_mlflow.config.connection"
_OFFERED = ("KedroMlflowConnection", "Connection")


def install() -> None:
    """Create the module unless one is already loaded, within microseconds and without any import."""
    if _NAME not in sys.modules:
        module = type(sys)(_NAME, "The base class of a connection, by its specified import path.")
        # `importlib.util.find_spec` raises ValueError for a loaded module without a spec.
        module.__spec__ = type(sys.__spec__)(_NAME, None)
        module.__dict__["__getattr__"] = _get
        sys.modules[_NAME] = module


def _get(name: str) -> object:
    # Refuse before importing anything: code that loops over `sys.modules.values()` and reads each
    # module's `__file__` would fail if `sys.modules` grew during the loop.
    if name not in _OFFERED:
        raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
    from mlflow_connections.specified_path import look_up

    return look_up(name)
