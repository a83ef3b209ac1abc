"""The JSON schema of mlflow.yml, generated from the declared options of the installed connections.

Draft 7 is used, which editors' YAML services support best. They read the file before Kedro resolves
it, so any value may also be an interpolation, `${...}`. `errorMessage` is an extension of those
services: without it they report the keyword of JSON Schema that failed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_connections import Connection, ConnectionsError, Option
from mlflow_connections.discovery import MLFLOW_WORDS, find_connection, installed_connections

DRAFT = "http://json-schema.org/draft-07/schema#"
Schema = dict[str, Any]

_URI_KEYS = ("tracking_uri", "registry_uri", "mlflow_tracking_uri", "mlflow_registry_uri")
_MERGE_KEY = "<<"
_INTERPOLATION: Schema = {"type": "string", "pattern": r"\$\{"}
_BARE_WORD: Schema = {"type": "string", "pattern": r"^[A-Za-z_][\w.-]*$"}
_TYPES: dict[type, tuple[Schema, str]] = {
    # YAML reads an unquoted ID of digits as a number, which is then used as text.
    str: ({"type": ["string", "number"]}, "text"),
    bool: ({"type": "boolean"}, "true or false"),
    int: ({"type": "integer"}, "a whole number"),
    float: ({"type": "number"}, "a number"),
    list: ({"type": "array"}, "a list"),
    dict: ({"type": "object"}, "a mapping"),
}


def mlflow_yml() -> tuple[Schema, list[str]]:
    """Create the schema for the installed connections.

    Returns:
        The schema, and a sentence for each connection that cannot be loaded and is omitted.
    """
    keywords = sorted({found.keyword for found in installed_connections()})
    connections, left_out = {}, []
    for keyword in keywords:
        try:
            connections[keyword] = find_connection(keyword)
        except ConnectionsError as error:  # noqa: PERF203 - one broken plugin must not hide the rest
            left_out.append(str(error))
    server: Schema = {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            "tracking_uri": _uri("Where runs are tracked", keywords),
            "registry_uri": _uri("Where models are registered", keywords),
            "mlflow_tracking_uri": _folder_or_uri("kedro-mlflow's name of tracking_uri", keywords),
            "mlflow_registry_uri": _folder_or_uri("kedro-mlflow's name of registry_uri", keywords),
            "credentials": {
                "description": "The name of an entry of credentials.yml.",
                "type": ["string", "null"],
            },
            "connection": {
                "description": "The options of the connection; secrets belong in credentials.yml.",
                "type": ["object", "null"],
            },
            "request_header_provider": {
                "description": "Read by kedro-mlflow only.",
                "type": ["object", "null"],
            },
            _MERGE_KEY: {},
        },
        "allOf": [
            *(_one_spelling(key) for key in ("tracking_uri", "registry_uri")),
            *_option_rules(connections),
            _no_options_without_connection(keywords),
        ],
    }
    schema = {
        "$schema": DRAFT,
        "title": "mlflow.yml of a Kedro project",
        "type": ["object", "null"],
        "properties": {"server": server},
    }
    return schema, left_out


def _uri(what: str, keywords: Sequence[str]) -> Schema:
    have = ", ".join(keywords) or "none"
    message = (
        f"A single word must be the keyword of an installed connection ({have}); write a folder as "
        "./name."
    )
    return {
        "description": f"{what}: the keyword of a connection, or any URI or path for MLflow.",
        "anyOf": [
            {"enum": sorted({*keywords, *MLFLOW_WORDS}), "errorMessage": message},
            {"type": "string", "minLength": 1, "not": _BARE_WORD},
            {"type": "null"},
        ],
    }


def _folder_or_uri(what: str, keywords: Sequence[str]) -> Schema:
    return {
        "description": f"{what}: the keyword of a connection, or any URI or path for MLflow.",
        "anyOf": [{"enum": list(keywords)}, {"type": "string", "minLength": 1}, {"type": "null"}],
    }


def _one_spelling(key: str) -> Schema:
    """Refuse both spellings of a key; JSON Schema cannot check that two values are equal."""
    other = f"mlflow_{key}"
    given = {"properties": {each: {"type": "string"} for each in (key, other)}}
    return {
        "if": {"required": [key, other], **given},
        "then": {
            "properties": {other: _never(f"{key} and {other} mean the same: keep {key} only.")}
        },
    }


def _never(message: str) -> Schema:
    """Return a schema that only null matches, with the message that an editor shows."""
    return {"type": "null", "errorMessage": message}


def _option_rules(connections: Mapping[str, Connection]) -> list[Schema]:
    rules: list[Schema] = []
    declaring = {k: tuple(getattr(c, "declared", None) or ()) for k, c in connections.items()}
    for keyword, declared in declaring.items():
        if not declared:
            continue
        options = [option for option in declared if not option.in_credentials]
        secrets = [option for option in declared if option.in_credentials]
        connection: Schema = {"properties": {o.name: _option(o) for o in options}}
        rules.append({"if": _named([keyword]), "then": {"properties": {"connection": connection}}})
        rules += _required(keyword, options)
        # A second connection may take other options.
        others = [other for other in connections if other != keyword]
        names = ", ".join(o.name for o in options) or "none"
        allowed: Schema = {
            "properties": {
                **{option.name: {} for option in options},
                **{
                    option.name: _never(f"'{option.name}' belongs in credentials.yml.")
                    for option in secrets
                },
                _MERGE_KEY: {},
            },
            "additionalProperties": False,
            "errorMessage": f"Not an option of {keyword}; it takes {names}.",
        }
        rules.append(
            {
                "if": {"allOf": [_named([keyword]), {"not": _named(others)}]},
                "then": {"properties": {"connection": allowed}},
            }
        )
    return rules


def _required(keyword: str, options: Sequence[Option]) -> list[Schema]:
    names = [o.name for o in options if o.required and not o.env and o.default is None]
    if not names:
        return []
    message = f"{keyword} needs {', '.join(names)} under connection."
    merged = {"required": [_MERGE_KEY]}  # adds keys that a schema does not see
    needed = {
        "type": "object",
        "anyOf": [{"required": names, "errorMessage": message}, merged],
        "errorMessage": message,
    }
    given = {
        "required": ["connection"],
        "properties": {"connection": needed},
        "errorMessage": message,
    }
    return [{"if": _named([keyword]), "then": {"anyOf": [given, merged]}}]


def _option(option: Option) -> Schema:
    typed, kind = _TYPES.get(option.type, ({}, ""))
    if option.choices:
        typed, kind = (
            {"enum": list(option.choices)},
            f"one of {', '.join(map(str, option.choices))}",
        )
    variable = f" Read from {option.env} when it is absent." if option.env else ""
    if kind:
        typed = {**typed, "errorMessage": f"'{option.name}' must be {kind}."}
    schema: Schema = {
        "description": option.help + variable,
        "anyOf": [typed, _INTERPOLATION, {"type": "null"}],
    }
    return schema | ({} if option.default is None else {"default": option.default})


def _named(keywords: Sequence[str]) -> Schema:
    """Match a section in which any URI is one of these keywords."""
    return {
        "anyOf": [
            {"required": [key], "properties": {key: {"enum": list(keywords)}}} for key in _URI_KEYS
        ]
        if keywords
        else [False]
    }


def _no_options_without_connection(keywords: Sequence[str]) -> Schema:
    """Refuse options if a URI is given and none can be a keyword, not even after interpolation."""
    plain = {
        "anyOf": [
            {"type": "null"},
            {"type": "string", "not": {"anyOf": [{"enum": list(keywords)}, _INTERPOLATION]}},
        ]
    }
    given = [
        {"required": [key], "properties": {key: {"type": "string"}}}
        for key in ("tracking_uri", "mlflow_tracking_uri")
    ]
    message = "Options need a connection: write its keyword under tracking_uri, or remove them."
    empty = {"type": ["object", "null"], "additionalProperties": False, "errorMessage": message}
    return {
        "if": {"allOf": [{"properties": dict.fromkeys(_URI_KEYS, plain)}, {"anyOf": given}]},
        "then": {"properties": {"connection": empty}},
    }
