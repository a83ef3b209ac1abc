"""Finding connections: the entry-point group `kedro_mlflow.connections`, read strictly.

Credentials go to whoever owns a keyword, so nothing is guessed: two owners are an error, and so is
a plugin that cannot be loaded or is no connection.
"""

import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ._errors import (
    AmbiguousConnectionError,
    PluginLoadError,
    PluginTypeError,
    UnknownConnectionError,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ._connection import Connection

__all__ = [
    "GROUP",
    "KNOWN_DISTRIBUTIONS",
    "MLFLOW_WORDS",
    "InstalledConnection",
    "find_connection",
    "installed_connections",
    "is_keyword",
    "names_connection",
    "rescan",
]

GROUP = "kedro_mlflow.connections"
"""The entry-point group in which connections are registered."""
_KEYWORD = re.compile(r"[A-Za-z_][\w.-]*")

MLFLOW_WORDS = frozenset({"databricks", "databricks-uc", "mlruns", "uc"})
"""Bare words that MLflow itself understands: Databricks, the Unity Catalog registries
(mlflow/utils/uri.py) and its default folder."""

KNOWN_DISTRIBUTIONS = {
    "azureml": "mlflow-connections-azureml",
    "databand": "mlflow-connections-databand",
    "databricks": "mlflow-connections-databricks",
    "snowflake": "mlflow-connections-snowflake",
}
"""Keywords of this family, so that a missing one can be answered with what to install."""


class InstalledConnection(NamedTuple):
    """A keyword, and who registers it.

    Attributes:
        keyword: What a user writes.
        target: The `module:object` behind it.
        distribution: The name of the distribution that registers it.
        version: That distribution's version.
        entry_point: The entry point itself, to load.
    """

    keyword: str
    target: str
    distribution: str
    version: str
    entry_point: "EntryPoint"


def is_keyword(value: str) -> bool:
    """Tell whether a value can be a keyword: one bare word, which no URI and no path with a slash is."""
    return _KEYWORD.fullmatch(value) is not None


def names_connection(value: str) -> bool:
    """Tell whether a value can only be the keyword of a connection, installed or not.

    A URI or a path is none, nor is a word of MLflow's own that no installed connection registers.
    """
    if not is_keyword(value):
        return False
    return value not in MLFLOW_WORDS or any(f.keyword == value for f in installed_connections())


def installed_connections() -> list[InstalledConnection]:
    """Give every registered keyword, sorted; one that is owned twice stands there twice.

    Nothing is imported. The scan reads the metadata of every distribution on `sys.path`, some
    milliseconds for 150 of them, so its result is kept until `sys.path` changes or `rescan` runs.
    """
    path = tuple(sys.path)
    if _scan.path != path:
        _scan.found, _scan.loaded, _scan.path = _scan_entry_points(), {}, path
    return _scan.found


def rescan() -> None:
    """Forget what was found, for a plugin that was installed into this very process."""
    _scan.path = None


class _Scan:
    path: tuple[str, ...] | None = None
    found: list[InstalledConnection] = []  # noqa: RUF012 - a module-level cell, never shared by instances
    loaded: dict[str, "Connection"] = {}  # noqa: RUF012


_scan = _Scan()


def _scan_entry_points() -> list[InstalledConnection]:
    from importlib.metadata import entry_points

    found = {
        # The same distribution seen through two entries of sys.path is one owner.
        (ep.name, ep.value, ep.dist.name if ep.dist else ""): InstalledConnection(
            ep.name,
            ep.value,
            ep.dist.name if ep.dist else "an unnamed distribution",
            ep.dist.version if ep.dist else "",
            ep,
        )
        for ep in reversed(list(entry_points(group=GROUP)))
    }
    return sorted(found.values(), key=lambda f: (f.keyword, f.distribution, f.target))


def find_connection(keyword: str) -> "Connection":
    """Load the one connection of a keyword.

    Raises:
        UnknownConnectionError: Nobody registers it.
        AmbiguousConnectionError: More than one distribution does.
        PluginLoadError: Its import failed; the cause is chained.
        PluginTypeError: What was loaded is no connection.
    """
    found = installed_connections()
    if (connection := _scan.loaded.get(keyword)) is not None:
        return connection
    owners = [f for f in found if f.keyword == keyword]
    if not owners:
        # It may have been installed since the scan, as notebooks do.
        rescan()
        owners = [f for f in installed_connections() if f.keyword == keyword]
    if not owners:
        raise UnknownConnectionError(_unknown(keyword))
    if len(owners) > 1:
        names = " and ".join(f"{o.distribution} {o.version} ({o.target})" for o in owners)
        raise AmbiguousConnectionError(
            f"The keyword '{keyword}' is registered by {names}. "
            "Credentials must go to only one of them: uninstall the other."
        )
    connection = _scan.loaded[keyword] = _load(owners[0])
    return connection


def _unknown(keyword: str) -> str:
    import difflib  # only an error pays for it

    names = sorted({f.keyword for f in _scan.found})
    cure = ""
    if close := difflib.get_close_matches(keyword, {*names, *KNOWN_DISTRIBUTIONS}, n=1):
        if close[0] != keyword:
            cure = f" Did you mean '{close[0]}'?"
        if close[0] not in names:
            cure += f" Run: pip install {KNOWN_DISTRIBUTIONS[close[0]]}."
    have = f"installed are {', '.join(names)}" if names else "none is installed"
    return (
        f"'{keyword}' is the keyword of no installed connection ({have}).{cure} "
        f"If you meant a folder, write './{keyword}'."
    )


def _load(found: InstalledConnection) -> "Connection":
    from .specified_path import install

    origin = f"'{found.keyword}' ({found.target}, from {found.distribution} {found.version})"
    # A plugin written from the specification imports its base class from kedro-mlflow's name.
    install()
    try:
        loaded: Any = found.entry_point.load()
        if isinstance(loaded, type):
            loaded = _instantiate(loaded, origin)
    except PluginTypeError:
        raise
    except Exception as error:
        raise PluginLoadError(
            f"Failed to load KedroMlflowConnection plugin {origin}: "
            f"{type(error).__name__}: {error}. Reinstall or uninstall {found.distribution}."
        ) from error
    # Duck typing on purpose: which class is the base depends on what was installed when.
    if not callable(getattr(loaded, "tracking_uri", None)):
        raise PluginTypeError(
            f"The plugin {origin} is a {type(loaded).__name__} without a method tracking_uri; "
            "its entry point must name a connection's instance or class."
        )
    return cast("Connection", loaded)


def _instantiate(cls: type, origin: str) -> Any:
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise PluginTypeError(
            f"The plugin {origin} is an abstract class: it does not implement {', '.join(missing)}."
        )
    return cls()
