"""Answer MLflow's search for Spark from memory in an environment without Spark.

If no registry URI is set, MLflow looks for one in an active Spark session: each fluent call, such
as `mlflow.log_metric`, tries `import pyspark` once or twice. Without Spark each attempt searches
every folder of `sys.path` and fails, which is most of the cost of the call. Setting a registry URI
would end the search, but would also keep models on this server after a program has switched to
another one.
"""

import sys
from time import monotonic
from typing import Any

__all__ = ["remember_absence"]

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
