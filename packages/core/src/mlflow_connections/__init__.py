"""A connection turns a keyword, credentials and options into a working MLflow tracking URI.

This package exports the names that users type. Authors of connections find the others in the public
modules: `discovery`, `mlflow_state`, `options`, `secrets`, `reports` and `testing`.
"""

TYPE_CHECKING = (
    False  # `typing.TYPE_CHECKING` without importing `typing`, which is half of this import's cost
)

if TYPE_CHECKING:
    from ._binder import *  # noqa: F403 - its `__all__`
    from ._connection import *  # noqa: F403 - its `__all__`
    from ._endpoint import *  # noqa: F403 - its `__all__`
    from ._errors import *  # noqa: F403 - its `__all__`
    from ._resolve import *  # noqa: F403 - its `__all__`
    from ._use import *  # noqa: F403 - its `__all__`
    from .options import Option as Option

# The module of each public name. A module is imported on the first access to one of its names, so
# that a caller of the base class or one function does not pay for the rest.
_MODULES = {
    "_binder": ("Binder",),
    "_connection": ("Connection", "KedroMlflowConnection"),
    "_endpoint": ("Endpoint",),
    "_errors": (
        "AccessError",
        "AmbiguousConnectionError",
        "BoundaryError",
        "ConnectionsError",
        "InvalidOptionError",
        "MissingDependencyError",
        "MissingOptionError",
        "PluginLoadError",
        "PluginTypeError",
        "UnknownConnectionError",
        "UnreachableError",
    ),
    "_resolve": ("resolve",),
    "_use": ("Applied", "use"),
    "options": ("Option",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - type checkers read the star imports above


def __getattr__(name: str) -> object:
    """Import a public name from its module (PEP 562), once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return __all__
