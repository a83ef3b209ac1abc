"""The kinds of objects that the stand-in keeps, and the clauses that each of them knows."""

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of object.

    Attributes:
        domain: The kind as grants name it.
        level: Where it lives: ACCOUNT, or SCHEMA.
        privilege: What its creator needs on that level.
        clauses: Clause and how its value reads, see `_clauses`.
        required: Clauses without which it cannot be.
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
            "USER_TASK_TIMEOUT_MS": "integer",
            "USER_TASK_MANAGED_INITIAL_WAREHOUSE_SIZE": "word",
            "SUSPEND_TASK_AFTER_NUM_FAILURES": "integer",
            "TASK_AUTO_RETRY_ATTEMPTS": "integer",
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
        {"TYPE": "word", "SECRET_STRING": "string", **_COMMENT},
        ("TYPE", "SECRET_STRING"),
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
    "INTEGRATIONS": ("API INTEGRATION", "STORAGE INTEGRATION", "EXTERNAL ACCESS INTEGRATION"),
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
"""What can be granted on each kind, besides OWNERSHIP and ALL."""
