"""Refuse the statements that a session's context forbids, with Snowflake's numbers and texts.

An owner's-rights procedure, and a caller's-rights one that it calls, may run SELECT, DML, DDL,
GRANT, REVOKE, DESCRIBE, SHOW, LIST, CALL and EXECUTE TASK; "other SQL statements cannot be called".
No procedure may run PUT or GET as SQL; in a procedure the methods of `session.file` do not use SQL.
Queries, DML and CALL need an active warehouse; DDL, SHOW, GRANT and file commands do not.

Sources: docs.snowflake.com, "Understanding caller's rights and owner's rights stored procedures",
"Overview of warehouses", BCR-1244, release notes 10.3; texts from public reports. If no text was
published, decision 0255 names the assumption.
"""

import re
from collections.abc import Mapping

from ._assumptions import Assumptions
from ._errors import SqlError
from ._session import SqlSession
from .objects._privileges import Privileges
from .sql._reader import SqlReader

OWNER = "OWNER"
CALLER = "CALLER"

_QUERIES = frozenset(
    ("SELECT", "WITH", "VALUES", "(", "INSERT", "MERGE", "UPDATE", "DELETE", "CALL")
)
_OWNERS = _QUERIES | frozenset(
    (
        *("TRUNCATE", "COPY", "CREATE", "ALTER", "DROP", "UNDROP", "COMMENT", "GRANT", "REVOKE"),
        *("DESCRIBE", "DESC", "SHOW", "LIST", "LS", "EXECUTE", "BEGIN", "START", "COMMIT"),
        *("ROLLBACK",),
    )
)
"""First words of the statements that an owner's-rights procedure may run; transactions are documented."""
_TYPES: Mapping[str, str] = {
    "REMOVE": "REMOVE_FILES",
    "RM": "REMOVE_FILES",
    "PUT": "PUT_FILES",
    "GET": "GET_FILES",
}
_SHOWN: Mapping[str, str] = {
    "PARAMETERS": "SHOW PARAMETER",
    "VARIABLES": "SHOW VARIABLE",
    "LOCKS": "SHOW LOCK",
    "TRANSACTIONS": "SHOW TRANSACTION",
    "DELEGATED": "SHOW DELEGATED AUTHORIZATION",
}
_HISTORIES = frozenset(
    (
        *("QUERY_HISTORY", "QUERY_HISTORY_BY_SESSION", "QUERY_HISTORY_BY_USER"),
        *("QUERY_HISTORY_BY_WAREHOUSE", "LOGIN_HISTORY_BY_USER"),
    )
)
_CONSTANT = re.compile(r"CURRENT_\w+|SYSTEM\$\w+|LAST_QUERY_ID|RESULT_SCAN")
"""Functions that Snowflake's cloud services answer without a warehouse."""


class Contexts:
    """Decides by context whether a statement may run."""

    def __init__(self, access: Privileges, assumptions: Assumptions) -> None:
        self._access = access
        self._assumptions = assumptions

    def check(
        self, reader: SqlReader, session: SqlSession, *, is_file_operation: bool = False
    ) -> None:
        """Check a statement before it is executed.

        Args:
            reader: At the beginning of the statement.
            session: The session that sent it.
            is_file_operation: Whether it was sent for a method of `session.file` in a procedure.

        Raises:
            SqlError: The session's context forbids the statement.
        """
        word = reader.word()
        if session.rights is not None and word in {"PUT", "GET"} and not is_file_operation:
            raise unsupported_type(_TYPES[word])
        if session.rights == OWNER and not is_file_operation:
            self._check_owners(reader, session)

    def check_warehouse(self, reader: SqlReader, session: SqlSession) -> None:
        """Check that a statement which needs a warehouse has one.

        Raises:
            SqlError: 606; the session has no active warehouse.
        """
        if _needs_warehouse(reader) and not self._access.has_warehouse(session):
            raise SqlError(
                606,
                "57P03",
                "No active warehouse selected in the current session.  Select an active warehouse "
                "with the 'use warehouse' command.\n",
            )

    def _check_owners(self, reader: SqlReader, session: SqlSession) -> None:
        word = reader.word()
        if word in {"SET", "UNSET"}:
            raise _session_variable(reader.word(1))
        variable = reader.session_variable()
        if variable is not None:
            raise _session_variable(variable)
        if word not in _OWNERS:
            raise unsupported_type(_TYPES.get(word, word))
        if word == "COPY" and reader.word(1) == "FILES":
            if not self._assumptions.copy_files_in_owners_rights:
                raise unsupported_type("COPY_FILES")
        elif word == "CREATE":
            _check_temporary(reader)
        elif word == "ALTER":
            _check_alter(reader, session)
        elif word == "SHOW":
            _check_show(reader)
        elif reader.has(_HISTORIES):
            raise unsupported_type("SELECT")


def unsupported_type(name: str) -> SqlError:
    """Return the refusal of a statement in a procedure."""
    text = f"Stored procedure execution error: Unsupported statement type '{name}'."
    return SqlError(90236, "42601", text)


def _session_variable(name: str) -> SqlError:
    return SqlError(
        90244,
        "42601",
        f"Use of session variable '${name.upper()}' is not allowed in owners rights stored procedure",
    )


def _check_temporary(reader: SqlReader) -> None:
    reader.expect("CREATE")
    reader.accept("OR", "REPLACE")
    if not (reader.accept("LOCAL") or reader.accept("GLOBAL")):
        reader.accept("VOLATILE")
    if reader.accept("TEMPORARY") or reader.accept("TEMP"):
        raise unsupported_type(f"temporary {reader.word()}")


def _check_alter(reader: SqlReader, session: SqlSession) -> None:
    reader.expect("ALTER")
    if reader.word() == "SESSION":
        raise unsupported_type("ALTER_SESSION")
    if reader.accept("USER"):
        reader.accept("IF", "EXISTS")
        if reader.is_at_end() or reader.identifier() in {"SET", "UNSET", session.user}:
            raise unsupported_type("ALTER_USER")


def _check_show(reader: SqlReader) -> None:
    reader.expect("SHOW")
    word = reader.word()
    if word == "GRANTS" and not {reader.word(1)} & {"ON", "TO", "OF", "IN"}:
        raise unsupported_type("SHOW GRANT")
    if word == "PARAMETERS" and reader.has(frozenset(("ACCOUNT", "DATABASE", "SCHEMA", "TASK"))):
        return
    if word in _SHOWN:
        raise unsupported_type(_SHOWN[word])


def _needs_warehouse(reader: SqlReader) -> bool:
    word = reader.word()
    if word == "COPY":
        return reader.word(1) != "FILES"
    if word == "CREATE":
        return reader.creates_table_as()
    if word == "CALL":
        return not reader.word(1).startswith("SYSTEM$")
    if word == "SELECT":
        return not all(_CONSTANT.fullmatch(name) for name in reader.called())
    return word in _QUERIES
