"""Identifiers and literals in SQL. Every name and value in a statement is checked and quoted by this module."""

import re
from typing import NamedTuple

from mlflow_connections import InvalidOptionError

# https://docs.snowflake.com/en/sql-reference/identifiers-syntax: at most 255 characters.
_PART = re.compile(r'(?P<bare>[A-Za-z_][A-Za-z0-9_$]{0,254})|"(?P<quoted>(?:[^"\x00]|""){1,255})"')


class Identifier(NamedTuple):
    """The name of an object in Snowflake, in the case in which Snowflake stores it.

    Attributes:
        parts: One to three parts: the object, preceded by its schema, preceded by its database.
    """

    parts: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The name for a statement. Every part is quoted, so a name cannot be misread."""
        return ".".join(quoted(part) for part in self.parts)

    @property
    def object(self) -> str:
        """The last part."""
        return self.parts[-1]

    def within(self, database: str | None, schema: str | None) -> "Identifier":
        """Return the name with its missing parts added; None leaves them to the session."""
        before = tuple(part for part in (database, schema) if part is not None)
        missing = 3 - len(self.parts)
        return Identifier((*before[:missing], *self.parts)) if len(before) == 2 else self

    def sibling(self, object_name: str) -> "Identifier":
        """Return the name of another object in the same schema."""
        return Identifier((*self.parts[:-1], object_name))

    def __str__(self) -> str:
        """Return the name as people write it, quoted only if necessary."""
        return ".".join(
            part if re.fullmatch(r"[A-Z_][A-Z0-9_$]*", part) else quoted(part)
            for part in self.parts
        )


def name(text: object, where: str, most: int = 3) -> Identifier:
    """Parse a name as people write it: `demo.mlflow_run_create`, `"my db".public."f"`.

    As in SQL, an unquoted part is stored in upper case.

    Args:
        text: The text.
        where: Its source, for the error message.
        most: The maximum number of parts.

    Raises:
        InvalidOptionError: The text is not a name, or has too many parts.
    """
    parts: list[str] = []
    position = 0
    while isinstance(text, str) and (match := _PART.match(text, position)):
        bare = match["bare"]
        parts.append(bare.upper() if bare else match["quoted"].replace('""', '"'))
        position = match.end()
        if position == len(text):
            if len(parts) <= most:
                return Identifier(tuple(parts))
            break
        if text[position] != ".":
            break
        position += 1
    form = ".".join(("database", "schema", "name")[3 - most :])
    raise InvalidOptionError(
        f"{where} is {text!r}, which is not the name of a Snowflake object ({form}). "
        'Use letters, digits, _ and $, or quote each part: "my schema".'
    )


def stage(text: object, where: str) -> Identifier:
    """Parse the name of a stage, with or without its `@`.

    Raises:
        InvalidOptionError: The text is not a name.
    """
    return name(text.removeprefix("@") if isinstance(text, str) else text, where)


def quoted(identifier: str) -> str:
    """Return one identifier in double quotes."""
    if not identifier or "\x00" in identifier:
        raise InvalidOptionError(f"{identifier!r} cannot be an identifier in Snowflake.")
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a SQL string literal; Snowflake reads backslashes in it as escapes."""
    if "\x00" in text:
        raise InvalidOptionError(f"{text!r} contains a NUL character, which no SQL string can.")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def literals(texts: tuple[str, ...]) -> str:
    """Return several texts as a list in parentheses."""
    return "(" + ", ".join(literal(text) for text in texts) + ")"
