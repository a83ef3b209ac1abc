"""Register external functions as UDFs of Snowpark's local testing, which has no SQL.

Translators, gateway and HTTP are the same; SQL, grants and stages do not exist. Every call is one
row. Local testing has no overloads, so only the one with the most arguments is registered.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlflow_connections_sandbox._snowflake.objects._catalog import CatalogEntry
from mlflow_connections_sandbox._snowflake.sql._reader import quoted
from mlflow_connections_sandbox._snowflake.sql._types import SEMI_STRUCTURED, from_sql

from ._account import SnowflakeAccount, new_query
from ._session import SqlSession

if TYPE_CHECKING:
    from snowflake.snowpark import Session
    from snowflake.snowpark.types import DataType


def register_locally(session: "Session", account: SnowflakeAccount) -> list[str]:
    """Register an account's external functions with a session of local testing.

    Args:
        session: `Session.builder.config("local_testing", True).create()`.
        account: The account that has the functions.

    Returns:
        The qualified names that `call_function` takes.
    """
    chosen: dict[tuple[str, ...], CatalogEntry] = {}
    for entry in account.catalog:
        if entry.kind == "EXTERNAL FUNCTION":
            known = chosen.get(entry.name)
            if known is None or len(known.parameters) < len(entry.parameters):
                chosen[entry.name] = entry
    for name, entry in chosen.items():
        session.udf.register(
            _handler(entry, account),
            return_type=_type(str(entry.returns)),
            input_types=[_type(str(p.type)) for p in entry.parameters],
            name=quoted(name),
            replace=True,
        )
    return [quoted(name) for name in chosen]


def _handler(entry: CatalogEntry, account: SnowflakeAccount) -> Callable[..., Any]:
    def call(*values: Any) -> Any:
        caller = SqlSession("", "SANDBOX", entry.owner, entry.name[0], entry.name[1])
        row = [
            from_sql(_text(value, p.type.name), p.type)
            for value, p in zip(values, entry.parameters, strict=True)
        ]
        bound = account.calls.bind(entry, caller, new_query())
        return account.external_functions.call(bound, [row])[0]

    # Snowpark would read type hints as SQL types.
    call.__annotations__.clear()
    return call


def _text(value: Any, kind: str) -> str | None:
    if value is None:
        return None
    if kind in SEMI_STRUCTURED:
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(name: str) -> "DataType":
    from snowflake.snowpark import types

    known: dict[str, DataType] = {
        "VARCHAR": types.StringType(),
        "NUMBER": types.LongType(),
        "FLOAT": types.DoubleType(),
        "BOOLEAN": types.BooleanType(),
        "OBJECT": types.MapType(types.StringType(), types.VariantType()),
        "ARRAY": types.ArrayType(types.VariantType()),
    }
    return known.get(name, types.VariantType())
