"""Calling one external function: values are bound, names are checked, the answer is parsed."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._errors import BridgeError, explain
from ._functions import BY_KEY
from ._names import Name

if TYPE_CHECKING:
    from snowflake.snowpark import Row, Session

JsonObject = dict[str, Any]


class Calls:
    """Calls external functions in a session, always with their longest signature.

    No value ever becomes part of a statement: all are bound, VARIANTs as JSON text. Under
    Snowpark's local testing, which knows no SQL, the same goes through `call_function`.

    Args:
        session: A Snowpark session.
        functions: The name of each function by its key, as `Setup.functions` has it.
    """

    def __init__(self, session: "Session", functions: Mapping[str, Name]) -> None:
        self._session = session
        self._functions = functions

    def __call__(self, key: str, *values: object) -> JsonObject:
        """Call a function once, and give MLflow's reply.

        Args:
            key: Which function.
            values: Its arguments, in order; None for those that are left out.

        Raises:
            ConnectionsError: It failed; what `explain` made of it.
        """
        from snowflake.snowpark.exceptions import SnowparkClientException

        name = self._functions[key]
        kinds = [kind for _, kind in BY_KEY[key].arguments]
        # A function has no keywords in SQL, so every argument is given, None for what is left out.
        given = [*values, *[None] * (len(kinds) - len(values))]
        bound = [
            json.dumps(value) if kind == "VARIANT" and value is not None else value
            for kind, value in zip(kinds, given, strict=True)
        ]
        try:
            rows = self._collect(name, kinds, bound)
        except SnowparkClientException as error:
            raise explain(error, str(name)) from error
        return _reply(rows, name)

    def _collect(self, name: Name, kinds: list[str], bound: list[object]) -> "list[Row]":
        marks = ", ".join("PARSE_JSON(?)" if kind == "VARIANT" else "?" for kind in kinds)
        try:
            statement = self._session.sql(f"SELECT {name.sql}({marks})", params=bound)
        except NotImplementedError:
            return self._collect_locally(name, kinds, bound)
        return statement.collect()

    def _collect_locally(self, name: Name, kinds: list[str], bound: list[object]) -> "list[Row]":
        from snowflake.snowpark.functions import call_function, col, parse_json
        from snowflake.snowpark.types import (
            DataType,
            DoubleType,
            LongType,
            StringType,
            StructField,
            StructType,
        )

        types: dict[str, DataType] = {"NUMBER": LongType(), "FLOAT": DoubleType()}
        # Columns of a frame, each with a name of its own: of two equal literals, local testing
        # hands over only one.
        names = [f"A{index}" for index in range(len(kinds))]
        fields = [
            StructField(column, types.get(kind, StringType()))
            for column, kind in zip(names, kinds, strict=True)
        ]
        columns = [
            parse_json(col(column)) if kind == "VARIANT" else col(column)
            for column, kind in zip(names, kinds, strict=True)
        ]
        frame = self._session.create_dataframe([bound], StructType(fields))
        return frame.select(call_function(name.sql, *columns)).collect()


def _reply(rows: "list[Row]", name: Name) -> JsonObject:
    value = rows[0][0] if rows else None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    body = value.get("body") if isinstance(value, dict) else None
    if not isinstance(body, dict):
        raise BridgeError(
            f"{name} gave no object under 'body': it is not the function that "
            "`mlflow-snowflake apply` creates; apply again."
        )
    return body
