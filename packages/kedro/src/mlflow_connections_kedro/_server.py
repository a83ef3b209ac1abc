"""The settings under `server` in mlflow.yml, in either spelling, with environment variables as defaults."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mlflow_connections import InvalidOptionError
from mlflow_connections.discovery import (
    KNOWN_DISTRIBUTIONS,
    installed_connections,
    names_connection,
)
from mlflow_connections.secrets import mask_uri

from ._config import ConfigFiles

KEYS = (
    "tracking_uri",
    "registry_uri",
    "credentials",
    "connection",
    "mlflow_tracking_uri",
    "mlflow_registry_uri",
    "request_header_provider",
)
"""Every key of `server`: first the specification's, then those that only kedro-mlflow has."""


class Value(NamedTuple):
    """A URI, path or keyword as the user wrote it.

    Attributes:
        text: The text.
        key: The key of `server`, or the environment variable.
        place: The name of its source in messages.
    """

    text: str
    key: str
    place: str

    @property
    def from_environment(self) -> bool:
        """Whether it was read from an environment variable."""
        return self.key.isupper()

    @property
    def is_connection(self) -> bool:
        """Whether it names a connection.

        In kedro-mlflow's own keys and in environment variables, a bare word has always been a
        folder. There, only the keyword of an installed connection or of one of this family counts;
        if such a package is missing, the error names it.
        """
        if not names_connection(self.text):
            return False
        if not self.from_environment and not self.key.startswith("mlflow_"):
            return True
        return self.text in KNOWN_DISTRIBUTIONS or any(
            f.keyword == self.text for f in installed_connections()
        )


class Server(NamedTuple):
    """The settings of a session.

    Attributes:
        tracking: For the tracking URI, or None if neither mlflow.yml nor the environment has one.
        registry: For the registry URI; None leaves it to MLflow.
        credentials: The name of an entry of credentials.yml.
        options: The mapping under `connection`.
    """

    tracking: Value | None
    registry: Value | None
    credentials: str | None
    options: Mapping[str, Any]

    @property
    def connections(self) -> list[Value]:
        """The values that name a connection."""
        return [v for v in (self.tracking, self.registry) if v is not None and v.is_connection]


def read_server(
    config: Mapping[str, Any], files: ConfigFiles, environ: Mapping[str, str], *, strict: bool
) -> Server:
    """Return the validated settings.

    Args:
        config: The content of mlflow.yml, all environments merged.
        files: Names the file in messages.
        environ: The environment variables.
        strict: Whether every unknown key is refused. With kedro-mlflow, whose own version refuses
            unknown keys, only a misspelling of a known key is.

    Raises:
        InvalidOptionError: A value has the wrong type, two disagree, or a key is unknown; the
            message names the file.
    """
    _refuse_misspelled_section(config, files)
    server = config.get("server")
    server = {} if server is None else server
    if not isinstance(server, Mapping):
        raise InvalidOptionError(
            f"'server' in {files.name('mlflow', 'server')} must be a mapping of keys to values, "
            f"not {_kind(server)}."
        )
    _refuse_unknown(server, files, strict=strict)
    tracking = _value("tracking_uri", "MLFLOW_TRACKING_URI", server, files, environ)
    registry = _value("registry_uri", "MLFLOW_REGISTRY_URI", server, files, environ)
    options = server.get("connection")
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise InvalidOptionError(
            f"'server.connection' in {files.name('mlflow', 'server', 'connection')} must be a "
            f"mapping of options to values, not {_kind(options)}."
        )
    read = Server(tracking, registry, _credentials(server, files), options)
    if options and not read.connections:
        raise InvalidOptionError(_unused_options(read, files))
    return read


def _value(
    key: str,
    variable: str,
    server: Mapping[str, Any],
    files: ConfigFiles,
    environ: Mapping[str, str],
) -> Value | None:
    given = {k: server[k] for k in (key, f"mlflow_{key}") if server.get(k) is not None}
    for name, text in given.items():
        if not isinstance(text, str) or not text.strip():
            raise InvalidOptionError(
                f"'server.{name}' in {files.name('mlflow', 'server', name)} must be a keyword, a URI "
                f"or a path, not {'an empty text' if isinstance(text, str) else _kind(text)}."
            )
    if len(set(given.values())) > 1:
        both = " and ".join(f"server.{name} ({mask_uri(text)!r})" for name, text in given.items())
        raise InvalidOptionError(
            f"{both} in {files.name('mlflow', 'server', key)} disagree: keep server.{key} only."
        )
    if given:
        name, text = next(iter(given.items()))
        return Value(text, name, f"server.{name} in {files.name('mlflow', 'server', name)}")
    if text := environ.get(variable, "").strip():
        return Value(text, variable, f"the environment variable {variable}")
    return None


def _credentials(server: Mapping[str, Any], files: ConfigFiles) -> str | None:
    name = server.get("credentials")
    if name is None or (isinstance(name, str) and name.strip()):
        return name
    # The value is not shown: it may be the credentials themselves.
    raise InvalidOptionError(
        f"'server.credentials' in {files.name('mlflow', 'server', 'credentials')} must be the name "
        f"of an entry of credentials.yml, not {_kind(name)}."
    )


def _refuse_misspelled_section(config: Mapping[str, Any], files: ConfigFiles) -> None:
    if "server" in config:
        return
    from difflib import get_close_matches  # a file without the section is rare

    for key in get_close_matches("server", list(map(str, config)), n=1, cutoff=0.8):
        raise InvalidOptionError(
            f"'{key}' in {files.name('mlflow', key)} is an unknown key; did you mean 'server'?"
        )


def _refuse_unknown(server: Mapping[str, Any], files: ConfigFiles, *, strict: bool) -> None:
    for key in server:
        if key not in KEYS:
            from difflib import get_close_matches  # only an error needs this

            close = get_close_matches(str(key), KEYS, n=1, cutoff=0.6 if strict else 0.8)
            if not close and not strict:
                continue
            fix = f"did you mean '{close[0]}'?" if close else f"it takes {', '.join(KEYS[:4])}."
            raise InvalidOptionError(
                f"'server.{key}' in {files.name('mlflow', 'server', str(key))} is an unknown key; {fix}"
            )


def _unused_options(server: Server, files: ConfigFiles) -> str:
    place = files.name("mlflow", "server", "connection")
    names = ", ".join(repr(str(name)) for name in server.options)
    if server.tracking is None:
        return (
            f"'server.connection' in {place} has {names}, but no connection is named: write its "
            "keyword under server.tracking_uri."
        )
    return (
        f"'server.connection' in {place} has {names}, but {mask_uri(server.tracking.text)!r} "
        f"({server.tracking.place}) is not the keyword of a connection: write a keyword there, or "
        "remove the options."
    )


def _kind(value: object) -> str:
    names = {list: "a list", dict: "a mapping", bool: "true or false", str: "text"}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"the number {value}"
    return names.get(type(value), f"a {type(value).__name__}")
