"""The errors of refused statements: number, SQL state and text.

Numbers and texts are Snowflake's if they are documented or quoted in public reports. Otherwise, as
for some clauses and for the contract of external functions, the nearest known one is used.
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
    """Return the error of a statement that does not compile."""
    return SqlError(number, state, f"SQL compilation error:\n{text}")


def does_not_exist(kind: str, name: Name | str) -> SqlError:
    """Return the error of a missing object, which Snowflake does not distinguish from an invisible one."""
    text = f"{kind.capitalize()} '{dotted(name)}' does not exist or not authorized."
    return compilation(text, 2003, "02000")


def no_such_object() -> SqlError:
    """Return the refusal of USE: the object is missing, or the role may not use it."""
    text = "Object does not exist, or operation cannot be performed."
    return compilation(text, 2043, "02000")


def unknown_function(name: Name) -> SqlError:
    """Return the refusal of a call: the function does not exist, or the role may not use it."""
    if len(name) == 1:
        return compilation(f"Unknown function {name[0]}.", 2140, "42601")
    return compilation(f"Unknown user-defined function {dotted(name)}.", 2141, "42601")


def already_exists(kind: str, name: Name | str) -> SqlError:
    """Return the error of a name that is taken."""
    return compilation(f"Object '{dotted(name)}' already exists as {kind}.", 2002, "42710")


def insufficient(kind: str, name: Name | str) -> SqlError:
    """Return the error of a missing privilege on a visible object."""
    text = f"Insufficient privileges to operate on {kind.lower()} '{dotted(name)}'."
    return SqlError(3001, "42501", f"SQL access control error:\n{text}")


def invalid_property(name: str, what: str) -> SqlError:
    """Return the error of an unknown clause."""
    return compilation(f"invalid property '{name}' for '{what}'", 1420, "42601")


def invalid_value(value: object, name: str, why: str = "") -> SqlError:
    """Return the error of an invalid value of a clause."""
    text = f"invalid value [{value}] for parameter '{name}'"
    return compilation(f"{text}: {why}" if why else text, 1008, "22023")


def missing_options(names: Sequence[str]) -> SqlError:
    """Return the error of missing clauses."""
    return compilation(f"Missing option(s): [{', '.join(names)}].", 2029, "42601")


def unsupported(text: str) -> SqlError:
    """Return the error of a feature that the stand-in, or Snowflake itself, does not support."""
    return SqlError(2, "0A000", f"Unsupported feature '{text}'.")


def external_function(function: str, text: str) -> SqlError:
    """Return the error of a failed call of an external function."""
    return SqlError(100351, "22000", f"Request failed for external function {function}{text}")


def dotted(name: Name | str) -> str:
    """Return a name as Snowflake shows it in messages."""
    return name if isinstance(name, str) else ".".join(name)
