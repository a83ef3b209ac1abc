"""A JSON schema of a connections file, generated from the declared options of the installed connections."""

from typing import Any

from ._errors import ConnectionsError
from .discovery import find_connection, installed_connections, is_reserved
from .options import Option, declared_options

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft that editors' TOML services, such as Taplo, support."""

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_TYPES: dict[type, Schema] = {
    str: {"type": ["string", "number"]},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    list: {"type": "array"},
    dict: {"type": "object"},
}


def file_schema() -> tuple[Schema, list[str]]:
    """Return the schema, and the keywords whose connections cannot be loaded and are omitted."""
    declared: dict[str, tuple[Option, ...]] = {}
    left_out = []
    for keyword in sorted({f.keyword for f in installed_connections() if not is_reserved(f)}):
        try:
            declared[keyword] = declared_options(find_connection(keyword))
        except ConnectionsError:  # noqa: PERF203 - the others are still offered
            left_out.append(keyword)
    connection: Schema = {
        "type": "object",
        "required": ["connection"],
        "properties": {
            "connection": {**_TEXT, "description": "A keyword, or a URI or path for MLflow.",
                           "examples": [*declared]},
            "registry": {**_TEXT, "description": "The same for the model registry."},
            "credentials": {"type": "object"},
            "options": {"type": "object", "description": "Options named like one of these keys."},
        },
        "allOf": [_of_keyword(keyword, options) for keyword, options in declared.items()],
    }  # fmt: skip
    schema: Schema = {
        "$schema": DRAFT,
        "title": "Named connections of mlflow-connections",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "connections": {"type": "object", "additionalProperties": {"$ref": "#/definitions/connection"}}
        },
        "definitions": {"connection": connection, "source": _source()},
    }  # fmt: skip
    return schema, left_out


def _of_keyword(keyword: str, declared: tuple[Option, ...]) -> Schema:
    plain = {o.name: _of_option(o) for o in declared if not o.in_credentials}
    secret = {o.name: _of_option(o) for o in declared if o.in_credentials}
    own = ("connection", "registry", "credentials", "options")
    # Required options may also come from their variables, so none is required in the schema.
    then: Schema = {
        "properties": {
            **{name: schema for name, schema in plain.items() if name not in own},
            **dict.fromkeys(own, True),
            "credentials": {"type": "object", "properties": secret},
            "options": {"type": "object", "properties": plain},
        }
    }
    if declared:  # a connection that declares nothing takes any option
        then["additionalProperties"] = False
        then["properties"]["options"]["additionalProperties"] = False
    return {
        "if": {"properties": {"connection": {"const": keyword}}, "required": ["connection"]},
        "then": then,
    }


def _of_option(option: Option) -> Schema:
    described: Schema = {"description": option.help}
    if option.default is not None:
        described["default"] = option.default
    source: Schema = {"$ref": "#/definitions/source"}
    if option.secret:
        each: Schema = {"type": "object", "minProperties": 1, "additionalProperties": source}
        return {**described, "anyOf": [source, each] if option.type is dict else [source]}
    value = {"enum": list(option.choices)} if option.choices else _TYPES[option.type]
    return {**described, "anyOf": [value, source]}


def _source() -> Schema:
    def table(properties: Schema, *required: str) -> Schema:
        return {
            "type": "object",
            "properties": properties,
            "required": list(required),
            "additionalProperties": False,
        }

    words: Schema = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    seconds: Schema = {"type": "number", "exclusiveMinimum": 0}
    return {
        "description": "Where the value is read from.",
        "oneOf": [
            table({"env": _TEXT}, "env"),
            table({"file": _TEXT}, "file"),
            table({"command": words, "timeout": seconds}, "command"),
            table({"keyring": _TEXT, "username": {"type": "string"}}, "keyring", "username"),
        ],
    }
