"""Find connections: the entry-point group `kedro_mlflow.connections`, read strictly.

Credentials go to the owner of a keyword, so nothing is guessed: two owners are an error, as is a
plugin that cannot be loaded or is not a connection.
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
from .secrets import masked

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

    from ._connection import Connection

__all__ = [
    "GROUP",
    "KNOWN_DISTRIBUTIONS",
    "MLFLOW_WORDS",
    "InstalledConnection",
    "find_connection",
    "installed_connections",
    "is_keyword",
    "is_reserved",
    "names_connection",
    "rescan",
]

GROUP = "kedro_mlflow.connections"
"""The entry-point group in which connections are registered."""
_KEYWORD = r"[A-Za-z_][\w.-]*"

MLFLOW_WORDS = frozenset({"databricks", "databricks-uc", "mlruns", "uc"})
"""Bare words that MLflow itself understands: Databricks, the Unity Catalog registries
(mlflow/utils/uri.py) and its default folder."""

KNOWN_DISTRIBUTIONS = {
    "azureml": "mlflow-connections-azureml",
    "databand": "mlflow-connections-databand",
    "databricks": "mlflow-connections-databricks",
    "http": "mlflow-connections-http",
    "durable": "mlflow-connections-durable",
    "mirror": "mlflow-connections-mirror",
    "snowflake": "mlflow-connections-snowflake",
}
"""The distribution of each keyword of this family, named in the error if a keyword is not installed."""


class InstalledConnection(NamedTuple):
    """A registered keyword and its distribution.

    Attributes:
        keyword: The word that a user writes.
        target: The `module:object` behind it.
        distribution: The name of the distribution that registers it.
        version: The distribution's version.
        entry_point: The entry point to load.
    """

    keyword: str
    target: str
    distribution: str
    version: str
    entry_point: "EntryPoint"


def is_keyword(value: str) -> bool:
    """Return whether a value can be a keyword: one bare word, unlike any URI or path with a slash."""
    return re.fullmatch(_KEYWORD, value) is not None


def names_connection(value: str) -> bool:
    """Return whether a value can only be the keyword of a connection, installed or not.

    URIs and paths are not keywords, nor are MLflow's own words unless their distribution is installed.
    """
    if not is_keyword(value):
        return False
    return value not in MLFLOW_WORDS or value in _scanned().owners


def installed_connections() -> list[InstalledConnection]:
    """Read every registered keyword, sorted; a keyword with two owners is listed twice.

    Nothing is imported. The scan reads the metadata of every distribution on `sys.path`, which
    takes some milliseconds for 150 of them, so its result is cached until `sys.path` changes or
    `rescan` is called.
    """
    return _scanned().found


def rescan() -> None:
    """Drop the cached scan, for a plugin that was installed while this process runs."""
    _scan.path = None


class _Scan:
    """The last scan, and the connections that were imported since.

    Attributes:
        path: `sys.path` at the time of the scan, or None if the next call must scan.
        found: The registered keywords.
        owners: Those that their distributions may register, by keyword.
        loaded: The imported connections, by keyword.
    """

    def __init__(self) -> None:
        self.path: tuple[str, ...] | None = None
        self.found: list[InstalledConnection] = []
        self.owners: dict[str, list[InstalledConnection]] = {}
        self.loaded: dict[str, Connection] = {}


_scan = _Scan()


def _scanned() -> _Scan:
    """Return the last scan, or the result of another one after `sys.path` has changed."""
    path = tuple(sys.path)
    if _scan.path != path:
        _scan.found, _scan.owners, _scan.loaded, _scan.path = _scan_entry_points(), {}, {}, path
        for found in _scan.found:
            if not is_reserved(found):
                _scan.owners.setdefault(found.keyword, []).append(found)
    return _scan


def _scan_entry_points() -> list[InstalledConnection]:
    from importlib.metadata import distribution, distributions

    # `entry_points()` parses the entry points of every distribution, which takes half as long
    # again.
    seen = [dist for dist in distributions() if GROUP in (dist.read_text("entry_points.txt") or "")]
    found = {}
    for dist in reversed(seen):
        name = _read_metadata(dist, "Name")
        # Another distribution of the name may come first on sys.path, and is the one imported.
        first = distribution(name) if name else dist
        version = _read_metadata(first, "Version")
        for ep in first.entry_points:
            if ep.group == GROUP:
                # The same distribution seen through two entries of sys.path is one owner.
                found[ep.name, ep.value, name] = InstalledConnection(
                    ep.name, ep.value, name or "an unnamed distribution", version, ep
                )
    return sorted(found.values(), key=lambda f: (f.keyword, f.distribution, f.target))


def _read_metadata(dist: "Distribution", key: str) -> str:
    """Read a value of a distribution's metadata; empty if it is missing, as in a broken environment."""
    try:
        metadata = dist.metadata
    except FileNotFoundError:  # Python 3.14, without the file
        return ""
    return metadata[key] if key in metadata else ""  # noqa: SIM401 - before Python 3.12 it has no get


def is_reserved(found: InstalledConnection) -> bool:
    """Return whether a distribution registers one of MLflow's own words without being its owner."""
    if found.keyword not in MLFLOW_WORDS:
        return False
    name = re.sub(r"[-_.]+", "-", found.distribution).lower()
    return KNOWN_DISTRIBUTIONS.get(found.keyword) != name


def find_connection(keyword: str) -> "Connection":
    """Import the connection of a keyword, once.

    Raises:
        UnknownConnectionError: No distribution registers it, or it is a word of MLflow's own.
        AmbiguousConnectionError: More than one distribution registers it.
        PluginLoadError: Its import failed; the cause is chained.
        PluginTypeError: The loaded object is not a connection.
    """
    if (connection := _scanned().loaded.get(keyword)) is not None:
        return connection
    owners = _scan.owners.get(keyword)
    if not owners:
        # A notebook may have installed it since the last scan.
        rescan()
        owners = _scanned().owners.get(keyword)
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
    import difflib  # only an error needs this

    if takers := [f.distribution for f in _scan.found if f.keyword == keyword]:
        return (
            f"'{keyword}' is a word of MLflow's own, which {' and '.join(takers)} cannot register: "
            "uninstall it, or report it to its author."
        )
    names = sorted({f.keyword for f in _scan.found if not is_reserved(f)})
    fix = ""
    if close := difflib.get_close_matches(keyword, {*names, *KNOWN_DISTRIBUTIONS}, n=1):
        if close[0] != keyword:
            fix = f" Did you mean '{close[0]}'?"
        if close[0] not in names:
            fix += f" Run: pip install {KNOWN_DISTRIBUTIONS[close[0]]}."
    have = f"installed are {', '.join(names)}" if names else "none is installed"
    return (
        f"'{keyword}' is not the keyword of an installed connection ({have}).{fix} "
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
    except Exception as error:  # noqa: BLE001 - raised again
        raise PluginLoadError(
            f"Failed to load KedroMlflowConnection plugin {origin}: "
            f"{type(error).__name__}: {error}. Reinstall or uninstall {found.distribution}."
        ) from masked(error)
    # Duck typing on purpose: the base class differs with and without kedro-mlflow.
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
