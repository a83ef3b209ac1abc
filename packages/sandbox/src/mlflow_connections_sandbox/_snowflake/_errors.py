"""What Snowflake says when it refuses a statement: number, SQL state and text.

Numbers and texts are Snowflake's where they are documented or seen in public reports; where none is
known (a clause's bad value, the contract of external functions) the nearest one is taken.
"""

from collections.abc import Sequence

Name = tuple[str, ...]


class SqlError(Exception):
    """A refused statement.

    Attributes:
        number: Snowflake's error number, `errno` in the connector.
        state: The SQL state.
        message: The text.
    """

    def __init__(self, number: int, state: str, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.state = state
        self.message = message


def compilation(text: str, number: int = 1003, state: str = "42000") -> SqlError:
    """A statement that could not be compiled."""
    return SqlError(number, state, f"SQL compilation error:\n{text}")


def does_not_exist(kind: str, name: Name | str) -> SqlError:
    """Snowflake does not tell what is missing from what may not be seen."""
    text = f"{kind.capitalize()} '{dotted(name)}' does not exist or not authorized."
    return compilation(text, 2003, "02000")


def no_such_object() -> SqlError:
    """Return the refusal of USE: the object is missing or must not be used."""
    text = "Object does not exist, or operation cannot be performed."
    return compilation(text, 2043, "02000")


def unknown_function(name: Name) -> SqlError:
    """Return the refusal of a call: there is no such function, or the role may not use it."""
    if len(name) == 1:
        return compilation(f"Unknown function {name[0]}.", 2140, "42601")
    return compilation(f"Unknown user-defined function {dotted(name)}.", 2141, "42601")


def already_exists(kind: str, name: Name | str) -> SqlError:
    """The name is taken."""
    return compilation(f"Object '{dotted(name)}' already exists as {kind}.", 2002, "42710")


def insufficient(kind: str, name: Name | str) -> SqlError:
    """The object may be seen, but what was asked for may not be done with it."""
    text = f"Insufficient privileges to operate on {kind.lower()} '{dotted(name)}'."
    return SqlError(3001, "42501", f"SQL access control error:\n{text}")


def invalid_property(name: str, what: str) -> SqlError:
    """A clause that the statement does not know."""
    return compilation(f"invalid property '{name}' for '{what}'", 1420, "42601")


def invalid_value(value: object, name: str, why: str = "") -> SqlError:
    """A clause's value that cannot be."""
    text = f"invalid value [{value}] for parameter '{name}'"
    return compilation(f"{text}: {why}" if why else text, 1008, "22023")


def missing_options(names: Sequence[str]) -> SqlError:
    """Clauses that the statement cannot do without."""
    return compilation(f"Missing option(s): [{', '.join(names)}].", 2029, "42601")


def unsupported(text: str) -> SqlError:
    """Valid in Snowflake, but not in the stand-in, or not supported by either."""
    return SqlError(2, "0A000", f"Unsupported feature '{text}'.")


def external_function(function: str, text: str) -> SqlError:
    """A call of an external function that did not work out."""
    return SqlError(100351, "22000", f"Request failed for external function {function}{text}")


def dotted(name: Name | str) -> str:
    """Write a name as Snowflake shows it in messages."""
    return name if isinstance(name, str) else ".".join(name)
