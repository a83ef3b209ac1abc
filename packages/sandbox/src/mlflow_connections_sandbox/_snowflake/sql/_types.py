"""SQL types, as in signatures, and the conversion of values to JSON and back."""

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from mlflow_connections_sandbox._snowflake._errors import SqlError, compilation

from ._reader import SqlReader

_NAMES = {
    **dict.fromkeys(("VARCHAR", "STRING", "TEXT", "CHAR", "CHARACTER", "NVARCHAR"), "VARCHAR"),
    **dict.fromkeys(
        ("NUMBER", "DECIMAL", "NUMERIC", "INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT"),
        "NUMBER",
    ),
    **dict.fromkeys(("FLOAT", "FLOAT4", "FLOAT8", "DOUBLE", "REAL"), "FLOAT"),
    **dict.fromkeys(("BINARY", "VARBINARY"), "BINARY"),
    **dict.fromkeys(("TIMESTAMP_NTZ", "TIMESTAMP", "DATETIME"), "TIMESTAMP_NTZ"),
    **{
        name: name
        for name in (
            "BOOLEAN",
            "OBJECT",
            "VARIANT",
            "ARRAY",
            "DATE",
            "TIME",
            "TIMESTAMP_LTZ",
            "TIMESTAMP_TZ",
        )
    },
}
SEMI_STRUCTURED = ("OBJECT", "VARIANT", "ARRAY")


class SqlType(NamedTuple):
    """A type with its size: `NUMBER(38,0)` has the name NUMBER and the scale 0.

    Attributes:
        name: The common name of all its synonyms.
        scale: Digits after the point, for NUMBER.
        shown: The type in DESCRIBE.
    """

    name: str
    scale: int
    shown: str

    def __str__(self) -> str:
        """Return only the name, by which signatures differ."""
        return self.name


def read_type(reader: SqlReader) -> SqlType:
    """Consume a type and return it.

    Raises:
        SqlError: The type does not exist.
    """
    word = reader.word()
    if word not in _NAMES:
        raise compilation(f"Unsupported data type '{word or reader.unexpected().message}'.", 2040)
    reader.accept(word)
    if word == "DOUBLE":
        reader.accept("PRECISION")
    name = _NAMES[word]
    sizes = reader.listed(reader.integer) if reader.word() == "(" else []
    scale = sizes[1] if len(sizes) == 2 else 0
    shown = name
    if name == "NUMBER":
        shown = f"NUMBER({sizes[0] if sizes else 38},{scale})"
    elif sizes:
        shown = f"{name}({sizes[0]})"
    return SqlType(name, scale, shown)


def from_sql(text: str | None, sql_type: SqlType, *, native: bool = False) -> Any:
    """Convert a value that SQL returned as text into its form in the JSON of a request.

    Numbers, booleans, texts and objects are native; everything else is a JSON string, except for
    the account's own handlers, which get all semi-structured values natively.

    Raises:
        SqlError: The value does not fit the declared type.
    """
    if text is None:
        return None
    name = sql_type.name
    if name == "NUMBER":
        return _number(text, sql_type.scale)
    if name == "FLOAT":
        return _float(text)
    if name == "BOOLEAN":
        return _boolean(text)
    if name == "OBJECT":
        value = json.loads(text)
        if value is not None and not isinstance(value, dict):
            raise compilation(
                f"Invalid argument types: {_kind(value)} where OBJECT is declared.", 1044
            )
        return value
    if name == "ARRAY" and not isinstance(json.loads(text), list):
        raise compilation("Invalid argument types: no array where ARRAY is declared.", 1044)
    return json.loads(text) if native and name in SEMI_STRUCTURED else text


def to_sql(value: Any, sql_type: SqlType) -> str | None:
    """Convert a value of a reply into the text that is cast to the declared return type.

    Raises:
        ValueError: The value does not fit.
    """
    name = sql_type.name
    if value is None:
        return None
    if name in SEMI_STRUCTURED:
        if (name == "OBJECT" and not isinstance(value, dict)) or (
            name == "ARRAY" and not isinstance(value, list)
        ):
            raise ValueError(f"{_kind(value)} where {name} is declared")
        return json.dumps(value, ensure_ascii=False)
    if name == "NUMBER" or name == "FLOAT":
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"{_kind(value)} where {name} is declared")
        return str(Decimal(value)) if isinstance(value, str) else repr(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(text: str, scale: int) -> int | float:
    try:
        number = Decimal(text).quantize(Decimal(1).scaleb(-scale))
    except InvalidOperation:
        raise SqlError(100038, "22018", f"Numeric value '{text}' is not recognized") from None
    return int(number) if scale == 0 else float(number)


def _float(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        raise SqlError(100038, "22018", f"Numeric value '{text}' is not recognized") from None
    if math.isfinite(number):
        return number
    # JSON has no numbers for these. Snowflake's own spelling of them is NaN, inf and -inf.
    return "NaN" if math.isnan(number) else ("inf" if number > 0 else "-inf")


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered not in {"true", "false", "1", "0", "t", "f", "yes", "no", "on", "off"}:
        raise SqlError(100037, "22018", f"Boolean value '{text}' is not recognized")
    return lowered in {"true", "1", "t", "yes", "on"}


def _kind(value: object) -> str:
    return type(value).__name__.upper()
