"""Names and literals that go into SQL: checked and quoted here, and nowhere else."""

import re
from typing import NamedTuple

from mlflow_connections import InvalidOptionError

# https://docs.snowflake.com/en/sql-reference/identifiers-syntax: 255 characters at most.
_PART = re.compile(r'(?P<bare>[A-Za-z_][A-Za-z0-9_$]{0,254})|"(?P<quoted>(?:[^"\x00]|""){1,255})"')


class Name(NamedTuple):
    """The name of an object in Snowflake, as Snowflake stores it.

    Attributes:
        parts: One to three: the object, before it its schema, before that its database.
    """

    parts: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The name for a statement: every part quoted, so that no name can be anything else."""
        return ".".join(quoted(part) for part in self.parts)

    @property
    def object(self) -> str:
        """The last part."""
        return self.parts[-1]

    def within(self, database: str | None, schema: str | None) -> "Name":
        """Put what is missing before the name; None where the session is to decide."""
        before = tuple(part for part in (database, schema) if part is not None)
        missing = 3 - len(self.parts)
        return Name((*before[:missing], *self.parts)) if len(before) == 2 else self

    def beside(self, object_name: str) -> "Name":
        """Give the name of another object in the same schema."""
        return Name((*self.parts[:-1], object_name))

    def __str__(self) -> str:
        """The name as people write it: quoted only where it must be."""
        return ".".join(
            part if re.fullmatch(r"[A-Z_][A-Z0-9_$]*", part) else quoted(part)
            for part in self.parts
        )


def name(text: object, where: str, most: int = 3) -> Name:
    """Read a name as a person writes it: `demo.mlflow_run_create`, `"my db".public."f"`.

    As in SQL, a part without quotes is stored in upper case.

    Args:
        text: What was written.
        where: Where it was written, for the message.
        most: How many parts the name may have.

    Raises:
        InvalidOptionError: It is no name, or has too many parts.
    """
    parts: list[str] = []
    position = 0
    while isinstance(text, str) and (match := _PART.match(text, position)):
        bare = match["bare"]
        parts.append(bare.upper() if bare else match["quoted"].replace('""', '"'))
        position = match.end()
        if position == len(text):
            if len(parts) <= most:
                return Name(tuple(parts))
            break
        if text[position] != ".":
            break
        position += 1
    form = ".".join(("database", "schema", "name")[3 - most :])
    raise InvalidOptionError(
        f"{where} is {text!r}, which is no name of a Snowflake object ({form}); "
        'write letters, digits, _ and $, or put each part into double quotes: "my schema".'
    )


def stage(text: object, where: str) -> Name:
    """Read the name of a stage, with or without its `@`.

    Raises:
        InvalidOptionError: It is no name.
    """
    return name(text.removeprefix("@") if isinstance(text, str) else text, where)


def quoted(identifier: str) -> str:
    """Give one identifier in double quotes."""
    if not identifier or "\x00" in identifier:
        raise InvalidOptionError(f"{identifier!r} can be no name in Snowflake.")
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Give a text as a SQL string. Snowflake reads backslashes in it as escapes."""
    if "\x00" in text:
        raise InvalidOptionError(f"{text!r} holds a NUL character, which no SQL string can.")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def literals(texts: tuple[str, ...]) -> str:
    """Give several texts as a list in parentheses."""
    return "(" + ", ".join(literal(text) for text in texts) + ")"
