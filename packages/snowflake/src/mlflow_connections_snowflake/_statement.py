"""SQL statements: their text, the role that runs them, and the object they concern."""

from typing import NamedTuple

from ._names import Identifier

ADMIN, OWNER = "admin", "owner"


class SqlObject(NamedTuple):
    """An object in Snowflake.

    Attributes:
        kind: Its kind in SQL: `EXTERNAL FUNCTION`, `STAGE`, …
        name: Its name.
        types: The types of a function's arguments; None for any other object.
    """

    kind: str
    name: Identifier
    types: tuple[str, ...] | None = None

    @property
    def sql(self) -> str:
        """The name in a statement, with the argument types that distinguish overloads."""
        return self.name.sql + ("" if self.types is None else f"({', '.join(self.types)})")

    @property
    def word(self) -> str:
        """The kind in GRANT and DROP: FUNCTION for external ones, or INTEGRATION."""
        return self.kind if self.kind == "NETWORK RULE" else self.kind.split()[-1]

    @property
    def granted(self) -> str:
        """The object as GRANT and SHOW GRANTS name it."""
        return f"{self.word} {self.sql}"

    def __str__(self) -> str:
        """The object as messages name it."""
        types = "" if self.types is None else f"({', '.join(self.types)})"
        return f"{self.kind.lower()} {self.name}{types}"


class Statement(NamedTuple):
    """One statement, without a semicolon.

    Attributes:
        run_as: The role that runs it: `ADMIN`, `OWNER`, or another part's name.
        purpose: Its purpose, in a few words.
        sql: Its text.
        target: The object that it creates, alters, drops or grants on; None if there is none.
        privilege: The privilege that it grants; empty if it grants none.
        role: The role that it grants to.
        variables: Environment variables whose values replace `${NAME}` in the text when it runs.
    """

    run_as: str
    purpose: str
    sql: str
    target: SqlObject | None = None
    privilege: str = ""
    role: Identifier | None = None
    variables: tuple[str, ...] = ()

    @property
    def verb(self) -> str:
        """The first word: USE, CREATE, ALTER, GRANT or DROP."""
        return self.sql.partition(" ")[0]


def use_role(run_as: str, role: Identifier) -> Statement:
    """Return the statement that switches to a role."""
    return Statement(run_as, f"switch to the {run_as}'s role", f"USE ROLE {role.sql}")


def grant(run_as: str, privilege: str, target: SqlObject, role: Identifier) -> Statement:
    """Return the statement that grants one privilege."""
    return Statement(
        run_as,
        f"grant {privilege} on {target} to {role}",
        f"GRANT {privilege} ON {target.granted} TO ROLE {role.sql}",
        target,
        privilege,
        role,
    )


def grant_role(run_as: str, granted: Identifier, role: Identifier) -> Statement:
    """Return the statement that grants one role to another."""
    return Statement(
        run_as,
        f"grant the role {granted} to {role}",
        f"GRANT ROLE {granted.sql} TO ROLE {role.sql}",
        SqlObject("ROLE", granted),
        "USAGE",
        role,
    )


def create(run_as: str, target: SqlObject, *clauses: str, purpose: str = "") -> Statement:
    """Return the statement that creates an object unless it exists."""
    sql = "\n  ".join((f"CREATE {target.kind} IF NOT EXISTS {target.sql}", *clauses))
    return Statement(run_as, purpose or str(target), sql, target)


def alter(run_as: str, target: SqlObject, *clauses: str) -> Statement:
    """Return the statement that updates the mutable properties of an existing object."""
    return Statement(
        run_as,
        f"{target}: update it if it existed before",
        "\n  ".join((f"ALTER {target.kind} {target.sql} SET", *clauses)),
        target,
    )


def drop(run_as: str, target: SqlObject) -> Statement:
    """Return the statement that drops an object if it exists."""
    sql = f"DROP {target.word} IF EXISTS {target.sql}"
    return Statement(run_as, f"drop {target}", sql, target)
