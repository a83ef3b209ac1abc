"""A connection turns a keyword, credentials and options into an MLflow tracking URI that works."""

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
