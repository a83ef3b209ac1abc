"""Reads the clauses of a CREATE or ALTER: each at most once, in any order, and none that is unknown."""

from collections.abc import Callable, Mapping
from typing import Any

from ._errors import Name, compilation, invalid_property, invalid_value
from ._reader import Reader

_BARE = frozenset(("body", "rest", "after", "nulls", "volatility", "language", "rights", "flag"))
"""Clauses without an equals sign."""


def read_clauses(reader: Reader, allowed: Mapping[str, str], what: str) -> dict[str, Any]:
    """Pass clauses up to the end of the statement.

    Args:
        reader: At the first clause.
        allowed: Clause and how its value reads.
        what: The kind of object, for messages.

    Raises:
        SqlError: A clause is unknown, comes twice, or its value does not read.
    """
    found: dict[str, Any] = {}
    while not reader.is_at_end():
        clause = _clause(reader, allowed, what)
        if clause in found:
            raise compilation(f"duplicate property '{clause}' for '{what}'", 1421)
        found[clause] = _READERS[allowed[clause]](reader)
    return found


def _clause(reader: Reader, allowed: Mapping[str, str], what: str) -> str:
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


def _word(reader: Reader) -> str:
    return reader.string().upper() if reader.is_string() else reader.identifier().upper()


def _pairs(reader: Reader) -> dict[str, str]:
    def pair() -> tuple[str, str]:
        key = reader.string()
        reader.expect("=")
        return key, reader.string()

    return dict(reader.listed(pair))


def _secrets(reader: Reader) -> dict[str, Name]:
    def pair() -> tuple[str, Name]:
        key = reader.string()
        reader.expect("=")
        return key, reader.name()

    return dict(reader.listed(pair))


def _names_or_word(reader: Reader) -> list[Name] | str:
    return reader.listed(reader.name) if reader.word() == "(" else _word(reader)


def _options(reader: Reader) -> dict[str, str]:
    """Pass `(KEY = value …)`, whose items stand side by side."""
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


def _after(reader: Reader) -> list[Name]:
    names = [reader.name()]
    while reader.accept(","):
        names.append(reader.name())
    return names


def _nulls(reader: Reader) -> str:
    if reader.accept("STRICT") or reader.accept("RETURNS", "NULL", "ON", "NULL", "INPUT"):
        return "STRICT"
    reader.expect("CALLED", "ON", "NULL", "INPUT")
    return "CALLED"


def _rights(reader: Reader) -> str:
    reader.expect("AS")
    if reader.accept("OWNER"):
        return "OWNER"
    reader.expect("CALLER")
    return "CALLER"


def _positive(reader: Reader) -> int:
    value = reader.integer()
    if value < 1:
        raise invalid_value(value, "integer", "it has to be positive")
    return value


def _flag(_: Reader) -> bool:
    return True


_READERS: Mapping[str, Callable[[Reader], Any]] = {
    "word": _word,
    "words": lambda reader: reader.listed(reader.identifier),
    "string": Reader.string,
    "strings": lambda reader: reader.listed(reader.string),
    "integer": _positive,
    "boolean": Reader.boolean,
    "name": Reader.name,
    "names": lambda reader: reader.listed(reader.name),
    "names_or_word": _names_or_word,
    "pairs": _pairs,
    "secrets": _secrets,
    "options": _options,
    "body": Reader.string,
    "rest": Reader.rest,
    "after": _after,
    "nulls": _nulls,
    "volatility": Reader.identifier,
    "language": Reader.identifier,
    "rights": _rights,
    "flag": _flag,
}
