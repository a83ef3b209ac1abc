"""Every error of the family: one base class, each combined with the fitting builtin exception.

A message names the fault, its place and the remedy. It never contains a secret.
"""

__all__ = [
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
]


class ConnectionsError(Exception):
    """The base of every error that an mlflow-connections package raises on purpose.

    Its message passes through `secrets.mask`, at its creation and again when it is shown.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_masked(each) if isinstance(each, str) else each for each in args))

    def __str__(self) -> str:
        """Return the message itself: a KeyError would show its repr, including quotes."""
        return _masked(str(self.args[0])) if self.args else ""


def _masked(text: str) -> str:
    from .secrets import mask  # only an error needs this

    return mask(text)


class UnknownConnectionError(ConnectionsError, LookupError):
    """No installed distribution registers the keyword."""


class AmbiguousConnectionError(ConnectionsError, LookupError):
    """More than one installed distribution registers the keyword."""


class PluginLoadError(ConnectionsError, ImportError):
    """The object behind a keyword could not be imported."""


class PluginTypeError(ConnectionsError, TypeError):
    """The object behind a keyword is not a connection, or returned something other than a URI."""


class MissingOptionError(ConnectionsError, KeyError):
    """One or more required options have no value in any of their sources."""


class InvalidOptionError(ConnectionsError, ValueError):
    """An option, a credential or a setting has an invalid value or is in the wrong place."""


class AccessError(ConnectionsError, PermissionError):
    """The service behind a connection refused the credentials, or they lack permission."""


class UnreachableError(ConnectionsError, ConnectionError):
    """The service behind a connection did not respond, or not in time."""


class MissingDependencyError(ConnectionsError, ImportError):
    """A requested feature needs a distribution that is not installed."""


class BoundaryError(ConnectionsError, RuntimeError):
    """Another server cannot be used now: a run, a thread or a task still uses the first one."""
