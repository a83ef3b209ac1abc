"""A connection turns a keyword, credentials and options into an MLflow tracking URI that works."""

TYPE_CHECKING = False  # what `typing` would say, at the price of half of this import

if TYPE_CHECKING:
    from ._connection import Connection, KedroMlflowConnection
    from ._discovery import KNOWN_DISTRIBUTIONS, Found, find, installed
    from ._errors import (
        AccessError,
        AmbiguousConnectionError,
        ConnectionsError,
        InvalidOptionError,
        MissingDependencyError,
        MissingOptionError,
        PluginLoadError,
        PluginTypeError,
        UnknownConnectionError,
        UnreachableError,
    )
    from ._options import Option, Places, Reading, read
    from ._resolve import Endpoint, names_connection, resolve
    from ._secrets import looks_secret, mask, mask_uri
    from ._use import Applied, Snapshot, export, set_uris, use

__all__ = [
    "KNOWN_DISTRIBUTIONS",
    "AccessError",
    "AmbiguousConnectionError",
    "Applied",
    "Connection",
    "ConnectionsError",
    "Endpoint",
    "Found",
    "InvalidOptionError",
    "KedroMlflowConnection",
    "MissingDependencyError",
    "MissingOptionError",
    "Option",
    "Places",
    "PluginLoadError",
    "PluginTypeError",
    "Reading",
    "Snapshot",
    "UnknownConnectionError",
    "UnreachableError",
    "export",
    "find",
    "installed",
    "looks_secret",
    "mask",
    "mask_uri",
    "names_connection",
    "read",
    "resolve",
    "set_uris",
    "use",
]

# Where each name is. A module is imported when one of its names is asked for: whoever needs the base
# class or one function does not pay for the rest.
_HOMES = {
    "AccessError": "._errors",
    "AmbiguousConnectionError": "._errors",
    "Applied": "._use",
    "Connection": "._connection",
    "ConnectionsError": "._errors",
    "Endpoint": "._resolve",
    "Found": "._discovery",
    "InvalidOptionError": "._errors",
    "KNOWN_DISTRIBUTIONS": "._discovery",
    "KedroMlflowConnection": "._connection",
    "MissingDependencyError": "._errors",
    "MissingOptionError": "._errors",
    "Option": "._options",
    "Places": "._options",
    "PluginLoadError": "._errors",
    "PluginTypeError": "._errors",
    "Reading": "._options",
    "Snapshot": "._use",
    "UnknownConnectionError": "._errors",
    "UnreachableError": "._errors",
    "export": "._use",
    "find": "._discovery",
    "installed": "._discovery",
    "looks_secret": "._secrets",
    "mask": "._secrets",
    "mask_uri": "._secrets",
    "names_connection": "._resolve",
    "read": "._options",
    "resolve": "._resolve",
    "set_uris": "._use",
    "use": "._use",
}


def __getattr__(name: str) -> object:
    """Import a public name from where it is (PEP 562), once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return __all__
