"""What a statement is: its text, who runs it, and what is there once it ran."""

from typing import NamedTuple

from ._names import Name

ADMIN, OWNER = "admin", "owner"


class Thing(NamedTuple):
    """An object in Snowflake.

    Attributes:
        kind: As SQL calls it: `EXTERNAL FUNCTION`, `STAGE`, …
        name: Its name.
        types: The types of a function's arguments; None for what is no function.
    """

    kind: str
    name: Name
    types: tuple[str, ...] | None = None

    @property
    def sql(self) -> str:
        """How a statement names it: with the argument types, which tell functions apart."""
        return self.name.sql + ("" if self.types is None else f"({', '.join(self.types)})")

    @property
    def word(self) -> str:
        """What GRANT and DROP call the kind: a FUNCTION, be it external, an INTEGRATION."""
        return self.kind if self.kind == "NETWORK RULE" else self.kind.split()[-1]

    @property
    def granted(self) -> str:
        """How GRANT and SHOW GRANTS name it."""
        return f"{self.word} {self.sql}"

    def __str__(self) -> str:
        """As people read it."""
        types = "" if self.types is None else f"({', '.join(self.types)})"
        return f"{self.kind.lower()} {self.name}{types}"


class Statement(NamedTuple):
    """One statement, without a semicolon.

    Attributes:
        part: Who runs it: `ADMIN` or `OWNER`.
        purpose: What it is for, in some words.
        sql: Its text.
        thing: What it creates, alters, drops or grants; None where it makes nothing.
        privilege: What it grants; empty where it grants nothing.
        role: To whom.
    """

    part: str
    purpose: str
    sql: str
    thing: Thing | None = None
    privilege: str = ""
    role: Name | None = None

    @property
    def verb(self) -> str:
        """The first word: USE, CREATE, ALTER, GRANT or DROP."""
        return self.sql.partition(" ")[0]


def use_role(part: str, role: Name) -> Statement:
    """Give the statement that begins a part."""
    return Statement(part, f"become the {part}", f"USE ROLE {role.sql}")


def grant(part: str, privilege: str, thing: Thing, role: Name) -> Statement:
    """Give the statement that grants one privilege."""
    return Statement(
        part,
        f"{role} gets {privilege} on it",
        f"GRANT {privilege} ON {thing.granted} TO ROLE {role.sql}",
        thing,
        privilege,
        role,
    )


def grant_role(part: str, granted: Name, role: Name) -> Statement:
    """Give the statement that lets a role do what another may."""
    return Statement(
        part,
        f"{role} may do what {granted} may",
        f"GRANT ROLE {granted.sql} TO ROLE {role.sql}",
        Thing("ROLE", granted),
        "USAGE",
        role,
    )


def create(part: str, thing: Thing, *clauses: str, purpose: str = "") -> Statement:
    """Give the statement that creates a thing unless it is there."""
    sql = "\n  ".join((f"CREATE {thing.kind} IF NOT EXISTS {thing.sql}", *clauses))
    return Statement(part, purpose or str(thing), sql, thing)


def alter(part: str, thing: Thing, *clauses: str) -> Statement:
    """Give the statement that brings a thing that was there before up to date."""
    return Statement(
        part,
        f"{thing}: where it was there before, only what may change is changed",
        "\n  ".join((f"ALTER {thing.kind} {thing.sql} SET", *clauses)),
        thing,
    )


def drop(part: str, thing: Thing) -> Statement:
    """Give the statement that drops a thing if it is there."""
    return Statement(part, f"away with {thing}", f"DROP {thing.word} IF EXISTS {thing.sql}", thing)
