"""Resolve a keyword, credentials and options into an endpoint."""

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ._endpoint import Endpoint
from ._errors import (
    AmbiguousConnectionError,
    InvalidOptionError,
    PluginTypeError,
    UnknownConnectionError,
)
from .discovery import (
    MLFLOW_WORDS,
    find_connection,
    installed_connections,
    is_keyword,
    names_connection,
)
from .environment import check_environment, credential_variables, is_credential_variable
from .options import (
    DEFAULT_SOURCE_NAMES,
    Option,
    SourceNames,
    declared_options,
    read_options,
    refuse_misplaced,
    require,
)
from .secrets import looks_secret, mask_uri, remember, secret_values

if TYPE_CHECKING:
    from ._binder import Binder
    from ._connection import Connection
    from .named import NamedConnection

__all__ = ["resolve"]

DEFAULT = "$MLFLOW_CONNECTIONS_DEFAULT"
"""Selects the value of that environment variable, if no connection is given."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def resolve(
    tracking: "str | os.PathLike[str]" = DEFAULT,
    credentials: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    registry: "str | os.PathLike[str] | None" = None,
    source_names: SourceNames = DEFAULT_SOURCE_NAMES,
) -> Endpoint:
    """Turn a keyword, or a connection's name, into an endpoint; a URI or path passes through unchanged.

    Args:
        tracking: The name of a connection in a connections file, a keyword of an installed
            connection, or a URI or path for MLflow. A `Path` is never a name or a keyword. By
            default the value of the environment variable `MLFLOW_CONNECTIONS_DEFAULT`.
        credentials: Passed to the connection, before those of the connections file. Those named
            after a variable of MLflow or of a cloud's client, such as `MLFLOW_TRACKING_TOKEN`, are
            part of the endpoint's environment.
        options: Passed to the connection, before those of the connections file.
        registry: A keyword, URI or path for the model registry. None leaves it to MLflow.
        source_names: The wording of messages about the sources of credentials and options.

    Raises:
        UnknownConnectionError: No distribution registers the keyword, and no file has the name.
        AmbiguousConnectionError: Two distributions register the keyword, or a file has a connection
            of the same name.
        PluginLoadError: The connection's import failed.
        PluginTypeError: The plugin is not a connection, or returned an invalid result.
        MissingOptionError: Required options are missing; the message names all of them.
        InvalidOptionError: An option is unknown, misplaced or has a wrong value.
        AccessError: The command, file or keyring of a connections file refused a secret.
    """
    if tracking == DEFAULT:
        from .named import default_connection

        tracking = default_connection()
    if not credentials and not options and registry is None and _is_slashed(tracking):
        return Endpoint(_text(tracking))
    credentials, options = credentials or _NOTHING, options or _NOTHING
    named = named_connection(tracking)
    if named is not None:
        source_names = names_with(named, source_names, given=bool(credentials or options))
        refuse_written_secrets(named)
        credentials = {**named.read_credentials(), **credentials}
        options = {**named.read_options(), **options}
        tracking, registry = named.tracking, named.registry if registry is None else registry
    uses_options = bool(credentials or options)
    tracker = _connection(tracking, uses_options)
    registrar = None
    if registry is not None:
        # A registry such as `databricks-uc` uses none: they belong to the tracking connection, if
        # there is one.
        registrar = (
            tracker
            if registry == tracking
            else _connection(registry, uses_options and tracker is None)
        )
    if tracker is None and registrar is None:
        refuse_for_a_uri(_text(tracking), credentials, options, source_names)
    # By identity: an object that only looks like a connection need not be hashable.
    is_one = registrar is tracker
    found = _present(tracker, None if is_one else registrar)
    declared = [declared_options(connection) for connection in found]
    environ = _declared_variables(declared)
    _remember_credentials(declared, credentials)
    _check(declared, credentials, options, source_names, environ)
    environment = credential_variables(credentials, source_names.credentials)
    tracker = _prepared(tracker, credentials, options)
    registrar = tracker if is_one else _prepared(registrar, credentials, options)
    connections = _present(tracker, None if is_one else registrar)
    for connection in connections:
        environment |= _environment(connection, credentials, options)
    environment = {**_stripped_variables(declared, environ), **environment}
    remember(*secret_values(environment))
    inner = None if tracker is None else _inner(tracker, credentials, options)
    behind = () if inner is None else inner.binders
    return Endpoint(
        _text(tracking) if tracker is None else _uri(tracker, "tracking_uri", credentials, options),
        _registry_uri(tracker, registrar, registry, credentials, options),
        MappingProxyType(environment),
        (*behind, *_binders(connections, credentials, options)),
        inner,
    )


def _is_slashed(value: Any) -> bool:
    """Return whether a value can only be a URI or a path: a keyword or a name has no slash."""
    return isinstance(value, str) and "/" in value


def named_connection(value: Any) -> "NamedConnection | None":
    """Read the connection with a name from the connections files, or return None if there is none.

    Raises:
        AmbiguousConnectionError: The name is also a keyword or one of MLflow's own words.
        InvalidOptionError: A connections file is invalid.
    """
    if not isinstance(value, str) or not is_keyword(value):
        return None
    from .named import find_named_connection

    named = find_named_connection(value)
    if named is None:
        return None
    owners = [f"of {f.distribution}" for f in installed_connections() if f.keyword == value]
    if value in MLFLOW_WORDS:
        owners.append("of MLflow itself")
    if owners:
        raise AmbiguousConnectionError(
            f"'{value}' is both {named.place} and the keyword {' and '.join(owners)}: rename the "
            "connection in the file."
        )
    if named_twice := find_named_connection(named.tracking) if is_keyword(named.tracking) else None:
        raise InvalidOptionError(
            f"'connection' of {named.place} is '{named.tracking}', the name of another connection "
            f"({named_twice.place}): write a keyword, a URI or a path."
        )
    return named


def names_with(named: "NamedConnection", given_names: SourceNames, *, given: bool) -> SourceNames:
    """Return the wording of messages for a named connection, to which more values may be given."""
    names = named.source_names
    if not given:
        return names
    return names._replace(
        options=f"{names.options} or {given_names.options}",
        credentials=f"{names.credentials} or {given_names.credentials}",
    )


def refuse_written_secrets(named: "NamedConnection") -> None:
    """Refuse a secret that is written into a file, including one that only its declaration reveals.

    Raises:
        InvalidOptionError: The message names the key, never its value.
    """
    if not names_connection(named.tracking):
        return
    from .named import is_written_out, written_out

    for option in declared_options(find_connection(named.tracking)):
        value = named.credentials.get(option.name)
        if option.secret and value is not None and is_written_out(value):
            raise InvalidOptionError(written_out(option.name, named.place))


def _text(value: "str | os.PathLike[str]") -> str:
    return value if isinstance(value, str) else os.fspath(value)


def _connection(value: Any, uses_options: bool) -> "Connection | None":
    if isinstance(value, os.PathLike) and isinstance(os.fspath(value), str):
        return None
    if not isinstance(value, str) or not value.strip():
        raise InvalidOptionError(
            "A tracking or registry URI must be a keyword, a URI or a path, not "
            f"{repr(value) if isinstance(value, str) else type(value).__name__}."
        )
    # With credentials or options MLflow's own word is not sufficient: MLflow would ignore them.
    if names_connection(value) or (uses_options and value in MLFLOW_WORDS):
        return find_or_suggest(value)
    return None


def find_or_suggest(keyword: str) -> "Connection":
    """Import the connection of a keyword; the error for an unknown one lists the names in the files.

    Raises:
        ConnectionsError: One of the errors of `find_connection`.
    """
    try:
        return find_connection(keyword)
    except UnknownConnectionError as error:
        from .named import named_connections

        names = {named.name: named for named in named_connections()}
        if not names:
            raise
        raise UnknownConnectionError(
            f"{error} The connections files have {', '.join(names)}."
        ) from None


def refuse_for_a_uri(
    uri: str, credentials: Mapping[str, Any], options: Mapping[str, Any], source_names: SourceNames
) -> None:
    """Refuse options for a URI or path, and credentials that MLflow would not read.

    Raises:
        InvalidOptionError: The message names the keys, never their values.
    """
    if options:
        raise InvalidOptionError(
            f"{source_names.options} has {', '.join(map(repr, options))}, but "
            f"{mask_uri(uri)!r} is a URI or path, which takes no options: "
            "name a connection's keyword instead, or remove them."
        )
    unread = [key for key in credentials if not is_credential_variable(key)]
    if unread:
        raise InvalidOptionError(
            f"{source_names.credentials} has {', '.join(map(repr, unread))}, but {mask_uri(uri)!r} "
            "is a URI or path, for which only variables such as MLFLOW_TRACKING_TOKEN are read: "
            "name a connection's keyword instead, or the variable."
        )


def _declared_variables(declared: Sequence[Sequence[Option]]) -> dict[str, str]:
    """Read the variables of declared options, once for all their uses."""
    return {o.env: os.environ.get(o.env, "") for each in declared for o in each if o.env}


def _remember_credentials(
    declared: Sequence[Sequence[Option]], credentials: Mapping[str, Any]
) -> None:
    """Remember the credentials that may be secret; if a connection declares nothing, all may be."""
    if not declared or not all(declared):
        remember(credentials)
    remember(*(value for key, value in credentials.items() if looks_secret(str(key))))


def _stripped_variables(
    declared: Sequence[Sequence[Option]], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return, stripped, the credentials in the environment that have surrounding white space.

    The service's client reads these variables itself, and would send a line break in a header.
    """
    padded = {name: value.strip() for name, value in environ.items() if value.strip() != value}
    if not padded:
        return padded
    strippable = {o.env for each in declared for o in each if o.in_credentials and o.strip}
    return {name: value for name, value in padded.items() if name in strippable}


def _check(
    declared: Sequence[Sequence[Option]],
    credentials: Mapping[str, Any],
    options: Mapping[str, Any],
    source_names: SourceNames,
    environ: Mapping[str, str],
) -> None:
    everything = tuple(option for each in declared for option in each)
    # A connection that declares nothing may read any key, so none can be refused.
    refuse_misplaced(everything if all(declared) else (), credentials, options, source_names)
    require(read_options(everything, credentials, options, environ, source_names), source_names)


def _present(*connections: "Connection | None") -> list["Connection"]:
    return [connection for connection in connections if connection is not None]


def _prepared(
    connection: "Connection | None", credentials: Mapping[str, Any], options: Mapping[str, Any]
) -> "Connection | None":
    # An object that only looks like a connection need not have the method.
    call: Callable[..., Connection] | None = getattr(connection, "prepared", None)
    return call(credentials, options) if call else connection


def _uri(
    connection: "Connection",
    method: str,
    credentials: Mapping[str, Any],
    options: Mapping[str, Any],
) -> str:
    call = getattr(connection, method, None) or connection.tracking_uri
    uri = call(credentials, options)
    if not isinstance(uri, str) or not uri.strip():
        kind = "an empty string" if isinstance(uri, str) else type(uri).__name__
        raise PluginTypeError(
            f"{_name(connection)}.{method}() returned {kind}, not a URI; report it to its author."
        )
    return uri


def _registry_uri(
    tracker: "Connection | None",
    registrar: "Connection | None",
    registry: "str | os.PathLike[str] | None",
    credentials: Mapping[str, Any],
    options: Mapping[str, Any],
) -> str | None:
    if registrar is not None:
        return _uri(registrar, "registry_uri", credentials, options)
    if registry is not None:
        return _text(registry)
    # An object that only looks like a connection need not have the method.
    implied = getattr(tracker, "implied_registry_uri", None)
    uri: str | None = implied(credentials, options) if implied else None
    return uri


def _binders(
    connections: list["Connection"], credentials: Mapping[str, Any], options: Mapping[str, Any]
) -> "tuple[Binder, ...]":
    calls = [getattr(connection, "binder", None) for connection in connections]
    made = [call(credentials, options) for call in calls if call]
    return tuple(binder for binder in made if binder is not None)


def _inner(
    connection: "Connection", credentials: Mapping[str, Any], options: Mapping[str, Any]
) -> Endpoint | None:
    call = getattr(connection, "inner_endpoint", None)
    return call(credentials, options) if call else None


def _environment(
    connection: "Connection", credentials: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, str]:
    call = getattr(connection, "environment", None)
    return check_environment(call(credentials, options), _name(connection)) if call else {}


def _name(connection: "Connection") -> str:
    return f"{type(connection).__module__}.{type(connection).__qualname__}"
