"""The errors of an MLflow server that show that an earlier attempt was successful."""

from collections.abc import Callable

__all__ = [
    "CREATED_BEFORE",
    "error_code",
    "is_duplicate",
    "is_existing_file",
    "is_gone",
    "unless_duplicate",
    "unless_gone",
]

CREATED_BEFORE = frozenset({"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"})
"""The second is Unity Catalog's."""
_GONE = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})


def error_code(error: BaseException) -> str:
    """Return the error code of an MLflow exception, or an empty text."""
    return str(getattr(error, "error_code", ""))


def unless_gone(delete: Callable[[], object]) -> None:
    """Delete an entity; if it is already gone, that is success."""
    try:
        delete()
    except Exception as error:
        if not is_gone(error):
            raise


def is_gone(error: Exception) -> bool:
    """Return whether a server reports a missing entity."""
    return error_code(error) in _GONE or "No tag with name" in str(error)


def unless_duplicate(write: Callable[[], object]) -> None:
    """Write an entity; if it already exists, that is success."""
    try:
        write()
    except Exception as error:
        if not is_duplicate(error):
            raise


def is_existing_file(error: Exception) -> bool:
    """Return whether a storage refused a file because it has one of that name: Azure's client never overwrites."""
    code = getattr(error, "error_code", "")
    return getattr(code, "value", code) == "BlobAlreadyExists"


def is_duplicate(error: Exception) -> bool:
    """Return whether a database refused an existing row: SQLite, PostgreSQL, MySQL or SQL Server."""
    words = ("UNIQUE constraint", "unique constraint", "Duplicate entry", "duplicate key")
    return any(word in str(error) for word in words)
