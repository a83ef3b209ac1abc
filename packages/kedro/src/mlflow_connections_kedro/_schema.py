"""A JSON schema of mlflow.yml, made from the declared options of what is installed.

Draft 7, which editors' YAML services know best. They read the file before Kedro resolves it, so any
value may also be an interpolation, `${...}`.
"""

from collections.abc import Sequence
from typing import Any

from mlflow_connections import Connection, ConnectionsError, Option
from mlflow_connections.discovery import find_connection, installed_connections

DRAFT = "http://json-schema.org/draft-07/schema#"
Schema = dict[str, Any]

_URI_KEYS = ("tracking_uri", "registry_uri", "mlflow_tracking_uri", "mlflow_registry_uri")
_INTERPOLATION: Schema = {"type": "string", "pattern": r"\$\{"}
_TYPES: dict[type, Schema] = {
    # YAML reads an unquoted id of digits as a number, which is then taken as text.
    str: {"type": ["string", "number"]},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
}


def mlflow_yml() -> tuple[Schema, list[str]]:
    """Make the schema.

    Returns:
        The schema, and a sentence for each connection that could not be loaded and is left out.
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
            "mlflow_tracking_uri": _uri("kedro-mlflow's name of tracking_uri", keywords),
            "mlflow_registry_uri": _uri("kedro-mlflow's name of registry_uri", keywords),
            "credentials": {
                "description": "The name of an entry of credentials.yml.",
                "type": ["string", "null"],
            },
            "connection": {
                "description": "The options of the connection; secrets belong to credentials.yml.",
                "type": ["object", "null"],
            },
            "request_header_provider": {
                "description": "kedro-mlflow's.",
                "type": ["object", "null"],
            },
        },
        "allOf": [
            *_rules_of_options(connections),
            {
                "if": _only_plain(keywords),
                "then": {"properties": {"connection": {"maxProperties": 0}}},
            },
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
    return {
        "description": f"{what}: the keyword of a connection, or any URI or path for MLflow.",
        "anyOf": [{"enum": list(keywords)}, {"type": "string", "minLength": 1}, {"type": "null"}],
    }


def _rules_of_options(connections: dict[str, Connection]) -> list[Schema]:
    rules: list[Schema] = []
    declaring = {k: tuple(getattr(c, "declared", None) or ()) for k, c in connections.items()}
    for keyword, declared in declaring.items():
        if not declared:
            continue
        options = [option for option in declared if not option.in_credentials]
        connection: Schema = {"properties": {o.name: _option(o) for o in options}}
        rules.append({"if": _named([keyword]), "then": {"properties": {"connection": connection}}})
        required = [o.name for o in options if o.required and not o.env and o.default is None]
        if required:
            needed = {"type": "object", "required": required}
            then = {"required": ["connection"], "properties": {"connection": needed}}
            rules.append({"if": _named([keyword]), "then": then})
        # A second connection beside it may take other options.
        others = [other for other in connections if other != keyword]
        rules.append(
            {
                "if": {"allOf": [_named([keyword]), {"not": _named(others)}]},
                "then": {
                    "properties": {
                        "connection": {"propertyNames": {"enum": [o.name for o in options]}}
                    }
                },
            }
        )
    return rules


def _option(option: Option) -> Schema:
    typed = dict(_TYPES.get(option.type, {}))
    if option.choices:
        typed = {"enum": list(option.choices)}
    variable = f" Read from {option.env} when it is absent." if option.env else ""
    schema: Schema = {
        "description": option.help + variable,
        "anyOf": [typed, _INTERPOLATION, {"type": "null"}],
    }
    return schema | ({} if option.default is None else {"default": option.default})


def _named(keywords: Sequence[str]) -> Schema:
    """Match where any URI is one of these keywords."""
    return {
        "anyOf": [
            {"required": [key], "properties": {key: {"enum": list(keywords)}}} for key in _URI_KEYS
        ]
        if keywords
        else [False]
    }


def _only_plain(keywords: Sequence[str]) -> Schema:
    """Match where a URI is said, and none can be a keyword, also not after interpolation."""
    plain = {
        "anyOf": [
            {"type": "null"},
            {"type": "string", "not": {"anyOf": [{"enum": list(keywords)}, _INTERPOLATION]}},
        ]
    }
    said = [
        {"required": [key], "properties": {key: {"type": "string"}}}
        for key in ("tracking_uri", "mlflow_tracking_uri")
    ]
    return {"allOf": [{"properties": dict.fromkeys(_URI_KEYS, plain)}, {"anyOf": said}]}
