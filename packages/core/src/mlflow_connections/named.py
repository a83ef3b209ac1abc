"""Connections by name, for scripts and shells, where no mlflow.yml names a connection.

    [connections.prod]
    connection = "azureml"
    workspace_name = "forecasts"
    credentials = { tenant_id = "...", client_secret = { env = "ML_SECRET" } }

The nearest `mlflow-connections.toml`, or `[tool.mlflow-connections]` in `pyproject.toml`, above the
working directory belongs to the project; one more file belongs to the user. Secrets are never written
into a file: a table names the source of each; see `SecretSource`.
"""

import os
import re
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ._errors import InvalidOptionError, MissingDependencyError, MissingOptionError
from ._secret_sources import SecretSource, names_source, parse_source
from .options import SourceNames
from .secrets import looks_secret, mask_uri, remember

__all__ = [
    "DEFAULT_VARIABLE",
    "FILE_VARIABLE",
    "PROJECT_FILE",
    "NamedConnection",
    "SecretSource",
    "default_connection",
    "find_named_connection",
    "named_connections",
    "user_file",
]

PROJECT_FILE = "mlflow-connections.toml"
"""The name of a project's file."""

FILE_VARIABLE = "MLFLOW_CONNECTIONS_FILE"
"""A path: that file is read instead of the project's and the user's."""

DEFAULT_VARIABLE = "MLFLOW_CONNECTIONS_DEFAULT"
"""The name, keyword or URI to use if none is given."""

# Keys of a connection's table that are not options; an option with such a name belongs below
# `options`.
_KEYS = ("connection", "registry", "credentials", "options")
_SECTION = r"""(?m)^\s*\[+\s*tool\s*\.\s*["']?mlflow-connections\b"""

Content = Mapping[str, Any]


class NamedConnection(NamedTuple):
    """One `[connections.NAME]` of a file, before its secrets are read.

    Attributes:
        name: The name.
        tracking: The keyword, URI or path under `connection`.
        registry: The keyword, URI or path under `registry`, or None if there is none.
        options: Its options, as written.
        credentials: Its credentials, as written.
        file: The path of the file.
        table: The table in the file, such as `[connections.prod]`.
    """

    name: str
    tracking: str
    registry: str | None
    options: Mapping[str, Any]
    credentials: Mapping[str, Any]
    file: str
    table: str

    @property
    def place(self) -> str:
        """The table and its file, for messages."""
        return f"{self.table} in {self.file}"

    @property
    def source_names(self) -> SourceNames:
        """The names of its options and credentials in messages."""
        return SourceNames(
            options=self.place,
            credentials=f"the credentials of {self.place}",
            remedy="move it below 'credentials' there",
        )

    def read_options(self) -> dict[str, Any]:
        """Read the options, with the values that are stored elsewhere.

        Raises:
            ConnectionsError: A variable is not set, a file is missing, or a command failed.
        """
        return self._read(self.options)

    def read_credentials(self) -> dict[str, Any]:
        """Read the credentials: variables, files and the keyring; commands are run.

        Raises:
            ConnectionsError: A variable is not set, a file is missing, or a command failed.
        """
        read = self._read(self.credentials)
        remember(*(read[key] for key, each in self.credentials.items() if each != read[key]))
        return read

    def _read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self._read_one(key, value) for key, value in values.items()}

    def _read_one(self, key: str, value: Any) -> Any:
        if isinstance(value, SecretSource):
            return value.read(f"'{key}' of {self.place}", self.file)
        if isinstance(value, Mapping):
            return {name: self._read_one(f"{key}.{name}", each) for name, each in value.items()}
        return value

    def __repr__(self) -> str:
        """Hide the values: a connection without declared options may read secrets under any name."""
        return f"NamedConnection({self.name!r}, {mask_uri(self.tracking)!r}, {self.place!r})"


def default_connection() -> str:
    """Return the value of `MLFLOW_CONNECTIONS_DEFAULT`.

    Raises:
        MissingOptionError: It is not set.
    """
    value = os.environ.get(DEFAULT_VARIABLE, "").strip()
    if not value or value == f"${DEFAULT_VARIABLE}":
        raise MissingOptionError(
            f"No connection is given: name one, or set the environment variable {DEFAULT_VARIABLE}."
        )
    return value


def find_named_connection(name: str) -> NamedConnection | None:
    """Read the connection with a name, or return None if no file has it.

    The project's file takes precedence over the user's.

    Raises:
        InvalidOptionError: A file is not a valid connections file, or contains secrets.
        MissingDependencyError: Python 3.10 needs `tomli` to read a file.
    """
    for path, content, prefix in _files():
        if name in (tables := _tables(path, content)):
            return _parse(name, tables[name], path, prefix)
    return None


def named_connections() -> list[NamedConnection]:
    """Read every named connection, sorted by name; a user's is omitted if the project has one of the name.

    Raises:
        InvalidOptionError: A file is not a valid connections file, or contains secrets.
        MissingDependencyError: Python 3.10 needs `tomli` to read a file.
    """
    found: dict[str, NamedConnection] = {}
    for path, content, prefix in _files():
        for name, table in _tables(path, content).items():
            if name not in found:
                found[name] = _parse(name, table, path, prefix)
    return [found[name] for name in sorted(found)]


def user_file() -> str:
    """Return the path of the user's file, in the configuration folder of the platform."""
    return _user_file(os.path.expanduser("~"))


def _user_file(home: str) -> str:
    if os.name == "nt":
        folder = os.environ.get("APPDATA") or os.path.join(home, "AppData", "Roaming")
    elif sys.platform == "darwin":
        folder = os.path.join(home, "Library", "Application Support")
    else:
        folder = os.environ.get("XDG_CONFIG_HOME", "")
        if not os.path.isabs(folder):  # as the folder's specification requires
            folder = os.path.join(home, ".config")
    return os.path.join(folder, "mlflow-connections", "connections.toml")


def _files() -> Iterator[tuple[str, Content, str]]:
    """Read the project's and the user's file; yields path, content and the prefix of its tables."""
    if chosen := os.environ.get(FILE_VARIABLE):
        path = os.path.abspath(os.path.expanduser(chosen))
        if (status := _status(path)) is None:
            raise MissingOptionError(
                f"The environment variable {FILE_VARIABLE} names {path}, which does not exist."
            )
        yield path, _content(path, status), ""
        return
    home = os.path.expanduser("~")
    yield from _project_file(home)
    path = _user_file(home)
    if status := _status(path):
        yield path, _content(path, status), ""


def _project_file(home: str) -> Iterator[tuple[str, Content, str]]:
    try:
        folder = start = os.getcwd()
    except FileNotFoundError:  # the working directory was removed
        return
    while True:
        looked = _look(folder)
        if folder != start and (folder == home or looked.is_open_to_all):
            return
        found = []
        for path, prefix in looked.files:
            if (status := _status(path)) and (content := _content(path, status)) is not None:
                found.append((path, content, prefix))
        if len(found) > 1:
            raise InvalidOptionError(
                f"Both {found[0][0]} and [tool.mlflow-connections] in {found[1][0]} hold "
                "connections: keep one of them."
            )
        yield from found
        if found or looked.is_repository or folder == home:
            return
        folder, last = os.path.dirname(folder), folder
        if folder == last:
            return


class _Folder(NamedTuple):
    """The state of a folder that could be a project's.

    Attributes:
        state: The state at the time of the last check; see `_state`.
        files: The paths of the files that may hold connections, each with the prefix of its tables.
        is_repository: Whether it is the root of a Git repository.
        is_open_to_all: Whether another user could have put a file there, as into /tmp.
    """

    state: "_State"
    files: tuple[tuple[str, str], ...]
    is_repository: bool
    is_open_to_all: bool


_folders: dict[str, _Folder] = {}
_State = tuple[int, int, int, int]
_SETTLED = 2_000_000_000  # nanoseconds, far above the resolution of a file system's clock


def _state(status: os.stat_result) -> _State:
    """Return values that change with a file's content, or with a folder's entries and permissions."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_settled(state: _State) -> bool:
    """Return whether a later change can no longer have the same times."""
    return time.time_ns() - max(state[2:]) > _SETTLED


def _look(folder: str) -> _Folder:
    """Search for the files in a folder, again only after it was changed."""
    try:
        status = os.stat(folder)
    except OSError:
        return _Folder((0, 0, 0, 0), (), False, True)
    state = _state(status)
    known = _folders.get(folder)
    if known is not None and known.state == state:
        return known
    candidates = ((PROJECT_FILE, ""), ("pyproject.toml", "tool.mlflow-connections."))
    paths = [(os.path.join(folder, name), prefix) for name, prefix in candidates]
    looked = _Folder(
        state,
        # A link is listed before its target exists, whose creation does not change this folder.
        tuple((path, prefix) for path, prefix in paths if os.path.lexists(path)),
        os.path.exists(os.path.join(folder, ".git")),
        os.name == "posix" and bool(status.st_mode & stat.S_IWOTH),
    )
    if _is_settled(state):
        _folders[folder] = looked
    return looked


def _status(path: str) -> os.stat_result | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


_contents: dict[str, tuple[_State, Any]] = {}


def _content(path: str, status: os.stat_result) -> Any:
    """Read a file, once for each state of it; None for a pyproject.toml without the section."""
    state = _state(status)
    known = _contents.get(path)
    if known is not None and known[0] == state:
        return known[1]
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidOptionError(f"{path} cannot be read: {why}.") from None
    is_pyproject = os.path.basename(path) == "pyproject.toml"
    content: Any = None
    if not is_pyproject or re.search(_SECTION, text):
        content = _parse_toml(text, path)
        if is_pyproject:
            content = content.get("tool", {}).get("mlflow-connections")
    if _is_settled(state):
        _contents[path] = (state, content)
    return content


def _parse_toml(text: str, path: str) -> Content:
    from importlib import import_module

    try:
        reader = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError:
        raise MissingDependencyError(
            f"Reading {path} needs tomli on Python 3.10: pip install 'mlflow-connections[toml]'."
        ) from None
    try:
        content: Content = reader.loads(text)
    except ValueError as error:
        # The parser quotes a key or a place, never a value.
        raise InvalidOptionError(f"{path} is not valid TOML: {error}.") from None
    return content


def _tables(path: str, content: Content) -> Mapping[str, Any]:
    unknown = [key for key in content if key != "connections"]
    tables = content.get("connections", {})
    if unknown or not isinstance(tables, Mapping):
        wrong = (
            f"has {', '.join(map(repr, unknown))}" if unknown else "has 'connections' as a value"
        )
        raise InvalidOptionError(
            f"{path} {wrong}; it holds tables [connections.NAME] and nothing else."
        )
    return tables


def _parse(name: str, table: Any, path: str, prefix: str) -> NamedConnection:
    header = f"[{prefix}connections.{name}]"
    place = f"{header} in {path}"
    if not isinstance(table, Mapping):
        raise InvalidOptionError(f"{place} must be a table with the key 'connection'.")
    tracking, registry = table.get("connection"), table.get("registry")
    _check_uri("connection", tracking, place)
    if registry is not None:
        _check_uri("registry", registry, place)
    groups = {key: table.get(key, {}) for key in ("options", "credentials")}
    for key, group in groups.items():
        if not isinstance(group, Mapping):
            raise InvalidOptionError(f"'{key}' of {place} must be a table.")
    flat = {key: value for key, value in table.items() if key not in _KEYS}
    if twice := sorted(flat.keys() & groups["options"].keys()):
        raise InvalidOptionError(f"'{twice[0]}' is given twice in {place}: remove one of them.")
    options = _values({**flat, **groups["options"]}, place)
    credentials = _values(groups["credentials"], place)
    _refuse_written(credentials, place)
    return NamedConnection(name, str(tracking), registry, options, credentials, path, header)


def _check_uri(key: str, value: Any, place: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidOptionError(f"'{key}' of {place} must be a keyword, a URI or a path.")
    _refuse_secret_in_uri(key, value, place)


def _refuse_written(credentials: Mapping[str, Any], place: str) -> None:
    """Refuse the credentials whose names indicate a secret."""
    for key, value in credentials.items():
        if is_written_out(value) and looks_secret(key):
            raise InvalidOptionError(written_out(key, place))
        for inner, each in value.items() if isinstance(value, Mapping) else ():
            if is_written_out(each) and looks_secret(inner):
                raise InvalidOptionError(written_out(f"{key}.{inner}", place))


def is_written_out(value: Any) -> bool:
    """Return whether a value, or a part of it, is in the file itself."""
    if isinstance(value, Mapping):
        return any(is_written_out(each) for each in value.values())
    return not isinstance(value, SecretSource)


def written_out(key: str, place: str) -> str:
    """Return the message for a secret that is written into a file."""
    return (
        f"'{key}' of {place} is a secret, which is not written into a file: name its source, as in "
        f'{key} = {{ env = "VARIABLE" }}; file, command and keyring are the others.'
    )


def _values(group: Mapping[str, Any], place: str) -> dict[str, Any]:
    return {key: _value(key, value, place) for key, value in group.items()}


def _value(key: str, value: Any, place: str) -> Any:
    """Return a value with its sources parsed, or a mapping or list of plain values."""
    if isinstance(value, Mapping):
        inner = [each for each in value.values() if not isinstance(each, str | list)]
        if not value or names_source(value) or not all(isinstance(i, Mapping) for i in inner):
            return parse_source(value, f"'{key}' of {place}")
        return {name: _value(f"{key}.{name}", each, place) for name, each in value.items()}
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, str | bool | int | float):
            raise InvalidOptionError(
                f"'{key}' of {place} must be text, a number, true or false, a list of these, or a "
                "table that names a source."
            )
        if isinstance(each, str):
            _refuse_secret_in_uri(key, each, place)
    return value


def _refuse_secret_in_uri(key: str, value: str, place: str) -> None:
    if mask_uri(value) != value:
        raise InvalidOptionError(
            f"'{key}' of {place} has a secret inside its URI: take it out and give it as a "
            "credential, or name a source for the whole value."
        )
