"""Answer MLflow's search for Spark from memory in an environment without Spark.

If no registry URI is set, MLflow looks for one in an active Spark session: each fluent call, such
as `mlflow.log_metric`, tries `import pyspark` once or twice. Without Spark each attempt searches
every folder of `sys.path` and fails, which is most of the cost of the call. Setting a registry URI
would end the search, but would also keep models on this server after a program has switched to
another one.

`mlflow_connections.use` begins with it. In a child process that imports none of these packages, core's plugin
for MLflow's run contexts does, if the process has inherited a connection: `mlflow-connections run` marks the
tracking URI with which it starts a command.
"""

import os
import sys
from time import monotonic
from typing import Any

__all__ = ["INHERITED_VARIABLE", "is_inherited", "mark_of", "remember_absence"]

INHERITED_VARIABLE = "MLFLOW_CONNECTIONS_INHERITED"
"""Holds the mark of the tracking URI with which `mlflow-connections run` has started a command."""
_AUTHENTICATOR_VARIABLE = "MLFLOW_CONNECTIONS_AUTHENTICATOR"
"""As in `authentication`, whose import takes longer than all of this."""
_PACKAGE = "pyspark"
_SECONDS = 1.0
_IMPORTLIB = "<frozen importlib"


class _Absence:
    """A finder that makes MLflow's imports of pyspark fail at once for a second after a failed search.

    Imports by other code, and `importlib.util.find_spec`, are unaffected. A newly installed package
    is found after that second, after `importlib.invalidate_caches`, or at once if `sys.path` has
    changed.
    """

    def __init__(self) -> None:
        self._known: tuple[float, list[str]] = (0.0, [])

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002 - the protocol's
        """Raise the error of a missing module, or leave the search to the other finders.

        Raises:
            ModuleNotFoundError: MLflow searches, and the package is absent.
        """
        if name != _PACKAGE or not _is_asked_by_mlflow():
            return
        until, searched = self._known
        if monotonic() >= until or searched != sys.path:
            if self._is_present():
                return
            self._known = (monotonic() + _SECONDS, list(sys.path))
        raise ModuleNotFoundError(f"No module named {_PACKAGE!r}", name=_PACKAGE)

    def invalidate_caches(self) -> None:
        """Search again the next time."""
        self._known = (0.0, [])

    def _is_present(self) -> bool:
        finders: list[Any] = [each for each in sys.meta_path if each is not self]
        searches = [getattr(each, "find_spec", None) for each in finders]
        return any(search and search(_PACKAGE, None, None) is not None for search in searches)


def _is_asked_by_mlflow() -> bool:
    """Return whether an import statement in MLflow caused this search."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_IMPORTLIB):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")).startswith("mlflow.")


_absence = _Absence()


def remember_absence() -> None:
    """Answer MLflow's searches for Spark in this process from memory; a second call does nothing."""
    if _absence not in sys.meta_path:
        sys.meta_path.insert(0, _absence)


def mark_of(tracking_uri: str) -> str:
    """Return a short text that changes with a tracking URI, and does not contain its credentials."""
    from zlib import crc32

    return f"{crc32(tracking_uri.encode()):08x}"


def is_inherited() -> bool:
    """Return whether a connection is in force in this process by inheritance.

    A program may set another tracking URI for its own children, which then have no connection.
    """
    if _AUTHENTICATOR_VARIABLE in os.environ:
        return True
    mark = os.environ.get(INHERITED_VARIABLE)
    return mark is not None and mark == mark_of(os.environ.get("MLFLOW_TRACKING_URI", ""))
