"""The errors of an MLflow server that mean an earlier attempt was successful."""

from collections.abc import Callable

__all__ = [
    "CREATED_BEFORE",
    "error_code",
    "is_duplicate",
    "is_gone",
    "unless_duplicate",
    "unless_gone",
]

CREATED_BEFORE = "RESOURCE_ALREADY_EXISTS"
_GONE = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})


def error_code(error: BaseException) -> str:
    """Return the error code of an MLflow exception, or an empty text."""
    return str(getattr(error, "error_code", ""))


def unless_gone(delete: Callable[[], object]) -> None:
    """Delete something; that it is gone already is success."""
    try:
        delete()
    except Exception as error:
        if not is_gone(error):
            raise


def is_gone(error: Exception) -> bool:
    """Return whether a server says that it does not have something."""
    return error_code(error) in _GONE or "No tag with name" in str(error)


def unless_duplicate(write: Callable[[], object]) -> None:
    """Write something; that it is there already is success."""
    try:
        write()
    except Exception as error:
        if not is_duplicate(error):
            raise


def is_duplicate(error: Exception) -> bool:
    """Return whether a database refused a row that it has: SQLite, PostgreSQL, MySQL or SQL Server."""
    words = ("UNIQUE constraint", "unique constraint", "Duplicate entry", "duplicate key")
    return any(word in str(error) for word in words)
