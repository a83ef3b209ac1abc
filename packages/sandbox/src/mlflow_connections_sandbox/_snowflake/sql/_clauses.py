"""The kinds of objects, the clauses of each, and the readers of the clauses."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mlflow_connections_sandbox._snowflake._errors import (
    Name,
    compilation,
    invalid_property,
    invalid_value,
)

from ._reader import SqlReader


class Kind(NamedTuple):
    """A kind of object.

    Attributes:
        domain: The kind as in grants.
        level: The level that holds it: ACCOUNT, DATABASE or SCHEMA.
        privilege: The privilege on that level that creating it needs.
        clauses: Each clause, and the reader of its value.
        required: The required clauses.
        signature: Whether it has arguments.
    """

    domain: str
    level: str
    privilege: str
    clauses: Mapping[str, str]
    required: tuple[str, ...] = ()
    signature: bool = False


_COMMENT = {"COMMENT": "string"}
_API = {
    "API_PROVIDER": "word",
    "API_AWS_ROLE_ARN": "string",
    "AZURE_TENANT_ID": "string",
    "AZURE_AD_APPLICATION_ID": "string",
    "GOOGLE_AUDIENCE": "string",
    "API_KEY": "string",
    "API_ALLOWED_PREFIXES": "strings",
    "API_BLOCKED_PREFIXES": "strings",
    "ENABLED": "boolean",
}
_STORAGE = {
    "TYPE": "word",
    "STORAGE_PROVIDER": "word",
    "STORAGE_AWS_ROLE_ARN": "string",
    "STORAGE_AWS_EXTERNAL_ID": "string",
    "STORAGE_AWS_OBJECT_ACL": "string",
    "AZURE_TENANT_ID": "string",
    "STORAGE_ALLOWED_LOCATIONS": "strings",
    "STORAGE_BLOCKED_LOCATIONS": "strings",
    "ENABLED": "boolean",
}
_NULLS = {"NULLS": "nulls", "VOLATILITY": "volatility"}

KINDS: Mapping[str, Kind] = {
    "API INTEGRATION": Kind(
        "INTEGRATION",
        "ACCOUNT",
        "CREATE INTEGRATION",
        {**_API, **_COMMENT},
        ("API_PROVIDER", "API_ALLOWED_PREFIXES", "ENABLED"),
    ),
    "STORAGE INTEGRATION": Kind(
        "INTEGRATION",
        "ACCOUNT",
        "CREATE INTEGRATION",
        {**_STORAGE, **_COMMENT},
        ("TYPE", "STORAGE_PROVIDER", "STORAGE_ALLOWED_LOCATIONS", "ENABLED"),
    ),
    "EXTERNAL ACCESS INTEGRATION": Kind(
        "INTEGRATION",
        "ACCOUNT",
        "CREATE INTEGRATION",
        {
            "ALLOWED_NETWORK_RULES": "names",
            "ALLOWED_AUTHENTICATION_SECRETS": "names_or_word",
            "ENABLED": "boolean",
            **_COMMENT,
        },
        ("ALLOWED_NETWORK_RULES", "ENABLED"),
    ),
    "SECURITY INTEGRATION": Kind(
        "INTEGRATION",
        "ACCOUNT",
        "CREATE INTEGRATION",
        {
            "TYPE": "word",
            "AUTH_TYPE": "word",
            "OAUTH_TOKEN_ENDPOINT": "string",
            "OAUTH_AUTHORIZATION_ENDPOINT": "string",
            "OAUTH_CLIENT_AUTH_METHOD": "word",
            "OAUTH_CLIENT_ID": "string",
            "OAUTH_CLIENT_SECRET": "string",
            "OAUTH_GRANT": "string",
            "OAUTH_ACCESS_TOKEN_VALIDITY": "integer",
            "OAUTH_ALLOWED_SCOPES": "strings",
            "ENABLED": "boolean",
            **_COMMENT,
        },
        ("TYPE", "AUTH_TYPE", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "ENABLED"),
    ),
    "EXTERNAL FUNCTION": Kind(
        "FUNCTION",
        "SCHEMA",
        "CREATE FUNCTION",
        {
            "API_INTEGRATION": "name",
            "HEADERS": "pairs",
            "CONTEXT_HEADERS": "words",
            "MAX_BATCH_ROWS": "integer",
            "COMPRESSION": "word",
            "REQUEST_TRANSLATOR": "name",
            "RESPONSE_TRANSLATOR": "name",
            "AS": "body",
            **_NULLS,
            **_COMMENT,
        },
        ("API_INTEGRATION", "AS"),
        signature=True,
    ),
    "FUNCTION": Kind(
        "FUNCTION",
        "SCHEMA",
        "CREATE FUNCTION",
        {"LANGUAGE": "language", "AS": "body", **_NULLS, **_COMMENT},
        ("LANGUAGE", "AS"),
        signature=True,
    ),
    "PROCEDURE": Kind(
        "PROCEDURE",
        "SCHEMA",
        "CREATE PROCEDURE",
        {
            "LANGUAGE": "language",
            "RUNTIME_VERSION": "string",
            "PACKAGES": "strings",
            "ARTIFACT_REPOSITORY": "name",
            "IMPORTS": "strings",
            "HANDLER": "string",
            "EXTERNAL_ACCESS_INTEGRATIONS": "names",
            "SECRETS": "secrets",
            "EXECUTE": "rights",
            "AS": "body",
            **_NULLS,
            **_COMMENT,
        },
        ("LANGUAGE", "RUNTIME_VERSION", "PACKAGES", "HANDLER"),
        signature=True,
    ),
    "STAGE": Kind(
        "STAGE",
        "SCHEMA",
        "CREATE STAGE",
        {
            "URL": "string",
            "STORAGE_INTEGRATION": "name",
            "ENCRYPTION": "options",
            "DIRECTORY": "options",
            "FILE_FORMAT": "options",
            "COPY_OPTIONS": "options",
            **_COMMENT,
        },
    ),
    "TASK": Kind(
        "TASK",
        "SCHEMA",
        "CREATE TASK",
        {
            "WAREHOUSE": "name",
            "SCHEDULE": "string",
            "CONFIG": "string",
            "ALLOW_OVERLAPPING_EXECUTION": "boolean",
            "OVERLAP_POLICY": "word",
            "USER_TASK_TIMEOUT_MS": "integer",
            "USER_TASK_MANAGED_INITIAL_WAREHOUSE_SIZE": "word",
            "SUSPEND_TASK_AFTER_NUM_FAILURES": "count",
            "TASK_AUTO_RETRY_ATTEMPTS": "count",
            "AFTER": "after",
            "FINALIZE": "name",
            "AS": "rest",
            **_COMMENT,
        },
        ("AS",),
    ),
    "SECRET": Kind(
        "SECRET",
        "SCHEMA",
        "CREATE SECRET",
        {
            "TYPE": "word",
            "SECRET_STRING": "string",
            "USERNAME": "string",
            "PASSWORD": "string",
            "API_AUTHENTICATION": "name",
            "OAUTH_SCOPES": "strings",
            "OAUTH_REFRESH_TOKEN": "string",
            "OAUTH_REFRESH_TOKEN_EXPIRY_TIME": "string",
            **_COMMENT,
        },
        ("TYPE",),
    ),
    "NETWORK RULE": Kind(
        "NETWORK RULE",
        "SCHEMA",
        "CREATE NETWORK RULE",
        {"TYPE": "word", "MODE": "word", "VALUE_LIST": "strings", **_COMMENT},
        ("TYPE", "MODE", "VALUE_LIST"),
    ),
    "ROLE": Kind("ROLE", "ACCOUNT", "CREATE ROLE", _COMMENT),
    "WAREHOUSE": Kind(
        "WAREHOUSE",
        "ACCOUNT",
        "CREATE WAREHOUSE",
        {
            "WITH": "flag",
            "WAREHOUSE_SIZE": "word",
            "AUTO_SUSPEND": "integer",
            "AUTO_RESUME": "boolean",
            "INITIALLY_SUSPENDED": "boolean",
            **_COMMENT,
        },
    ),
    "DATABASE": Kind("DATABASE", "ACCOUNT", "CREATE DATABASE", _COMMENT),
    "SCHEMA": Kind("SCHEMA", "DATABASE", "CREATE SCHEMA", _COMMENT),
}

PLURALS: Mapping[str, tuple[str, ...]] = {
    "INTEGRATIONS": (
        *("API INTEGRATION", "STORAGE INTEGRATION", "EXTERNAL ACCESS INTEGRATION"),
        "SECURITY INTEGRATION",
    ),
    "SECURITY INTEGRATIONS": ("SECURITY INTEGRATION",),
    "API INTEGRATIONS": ("API INTEGRATION",),
    "STORAGE INTEGRATIONS": ("STORAGE INTEGRATION",),
    "EXTERNAL ACCESS INTEGRATIONS": ("EXTERNAL ACCESS INTEGRATION",),
    "EXTERNAL FUNCTIONS": ("EXTERNAL FUNCTION",),
    "FUNCTIONS": ("EXTERNAL FUNCTION", "FUNCTION"),
    "USER FUNCTIONS": ("EXTERNAL FUNCTION", "FUNCTION"),
    "PROCEDURES": ("PROCEDURE",),
    "USER PROCEDURES": ("PROCEDURE",),
    "STAGES": ("STAGE",),
    "TASKS": ("TASK",),
    "SECRETS": ("SECRET",),
    "NETWORK RULES": ("NETWORK RULE",),
    "ROLES": ("ROLE",),
    "WAREHOUSES": ("WAREHOUSE",),
}

PRIVILEGES: Mapping[str, tuple[str, ...]] = {
    "ACCOUNT": (
        *(
            "CREATE INTEGRATION",
            "CREATE ROLE",
            "CREATE USER",
            "CREATE DATABASE",
            "CREATE WAREHOUSE",
        ),
        *("EXECUTE TASK", "EXECUTE MANAGED TASK", "MANAGE GRANTS", "MONITOR EXECUTION"),
    ),
    "INTEGRATION": ("USAGE",),
    "DATABASE": ("USAGE", "CREATE SCHEMA", "MODIFY", "MONITOR"),
    "SCHEMA": (
        *("USAGE", "MODIFY", "MONITOR", "CREATE FUNCTION", "CREATE PROCEDURE", "CREATE STAGE"),
        *("CREATE TASK", "CREATE SECRET", "CREATE NETWORK RULE", "CREATE TABLE", "CREATE VIEW"),
        *("CREATE FILE FORMAT", "CREATE SEQUENCE"),
    ),
    "FUNCTION": ("USAGE",),
    "PROCEDURE": ("USAGE",),
    "STAGE": ("USAGE", "READ", "WRITE"),
    "TASK": ("MONITOR", "OPERATE"),
    "SECRET": ("USAGE", "READ"),
    "NETWORK RULE": (),
    "WAREHOUSE": ("USAGE", "OPERATE", "MODIFY", "MONITOR"),
    "ROLE": (),
    "TABLE": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES"),
    "VIEW": ("SELECT", "REFERENCES"),
}
"""The privileges that can be granted on each kind, in addition to OWNERSHIP and ALL."""


_BARE = frozenset(("body", "rest", "after", "nulls", "volatility", "language", "rights", "flag"))
"""Clauses without an equals sign."""


def read_clauses(reader: SqlReader, allowed: Mapping[str, str], what: str) -> dict[str, Any]:
    """Consume clauses up to the end of the statement, and return their values.

    Args:
        reader: At the first clause.
        allowed: Each clause, and the reader of its value.
        what: The kind of object, for messages.

    Raises:
        SqlError: A clause is unknown, occurs twice, or has an invalid value.
    """
    found: dict[str, Any] = {}
    while not reader.is_at_end():
        clause = _clause(reader, allowed, what)
        if clause in found:
            raise compilation(f"duplicate property '{clause}' for '{what}'", 1421)
        found[clause] = _READERS[allowed[clause]](reader)
    return found


def _clause(reader: SqlReader, allowed: Mapping[str, str], what: str) -> str:
    word = reader.word()
    if word in {"CALLED", "RETURNS", "STRICT"} and "NULLS" in allowed:
        return "NULLS"
    if word in {"VOLATILE", "IMMUTABLE"} and "VOLATILITY" in allowed:
        return "VOLATILITY"
    if word not in allowed or word in {"NULLS", "VOLATILITY"}:
        if reader.word(1) == "=":
            raise invalid_property(word, what)
        raise reader.unexpected()
    reader.accept(word)
    if allowed[word] not in _BARE:
        reader.expect("=")
    return word


def _word(reader: SqlReader) -> str:
    return reader.string().upper() if reader.is_string() else reader.identifier().upper()


def _pairs(reader: SqlReader) -> dict[str, str]:
    def pair() -> tuple[str, str]:
        key = reader.string()
        reader.expect("=")
        return key, reader.string()

    return dict(reader.listed(pair))


def _secrets(reader: SqlReader) -> dict[str, Name]:
    def pair() -> tuple[str, Name]:
        key = reader.string()
        reader.expect("=")
        return key, reader.name()

    return dict(reader.listed(pair))


def _names_or_word(reader: SqlReader) -> list[Name] | str:
    return reader.listed(reader.name) if reader.word() == "(" else _word(reader)


def _options(reader: SqlReader) -> dict[str, str]:
    """Consume `(KEY = value …)`, with or without commas."""
    found: dict[str, str] = {}
    reader.expect("(")
    while not reader.accept(")"):
        key = reader.identifier()
        reader.expect("=")
        if reader.is_string():
            found[key] = reader.string()
        elif reader.word().isdecimal():
            found[key] = str(reader.integer())
        else:
            found[key] = reader.identifier()
        reader.accept(",")
    return found


def _after(reader: SqlReader) -> list[Name]:
    names = [reader.name()]
    while reader.accept(","):
        names.append(reader.name())
    return names


def _nulls(reader: SqlReader) -> str:
    if reader.accept("STRICT") or reader.accept("RETURNS", "NULL", "ON", "NULL", "INPUT"):
        return "STRICT"
    reader.expect("CALLED", "ON", "NULL", "INPUT")
    return "CALLED"


def _rights(reader: SqlReader) -> str:
    reader.expect("AS")
    if reader.accept("OWNER"):
        return "OWNER"
    reader.expect("CALLER")
    return "CALLER"


def _positive(reader: SqlReader) -> int:
    value = reader.integer()
    if value < 1:
        raise invalid_value(value, "integer", "it has to be positive")
    return value


def _flag(_: SqlReader) -> bool:
    return True


_READERS: Mapping[str, Callable[[SqlReader], Any]] = {
    "word": _word,
    "words": lambda reader: reader.listed(reader.identifier),
    "string": SqlReader.string,
    "strings": lambda reader: reader.listed(reader.string),
    "integer": _positive,
    "count": SqlReader.integer,
    "boolean": SqlReader.boolean,
    "name": SqlReader.name,
    "names": lambda reader: reader.listed(reader.name),
    "names_or_word": _names_or_word,
    "pairs": _pairs,
    "secrets": _secrets,
    "options": _options,
    "body": SqlReader.string,
    "rest": SqlReader.rest,
    "after": _after,
    "nulls": _nulls,
    "volatility": SqlReader.identifier,
    "language": SqlReader.identifier,
    "rights": _rights,
    "flag": _flag,
}
