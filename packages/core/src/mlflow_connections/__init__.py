"""A connection turns a keyword, credentials and options into an MLflow tracking URI that works."""

from ._connection import Connection, KedroMlflowConnection
from ._discovery import Found, find, installed
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
from ._resolve import Endpoint, resolve
from ._secrets import looks_secret, mask, mask_uri
from ._use import Applied, use

__all__ = [
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
    "UnknownConnectionError",
    "UnreachableError",
    "find",
    "installed",
    "looks_secret",
    "mask",
    "mask_uri",
    "read",
    "resolve",
    "use",
]
