"""The received statements, with their secrets masked."""

import time
from dataclasses import dataclass

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError

from mlflow_connections_sandbox._journal import RingLog

_SECRET = frozenset(
    ("SECRET_STRING", "API_KEY", "PASSWORD", "OAUTH_REFRESH_TOKEN", "OAUTH_CLIENT_SECRET")
)


@dataclass(frozen=True)
class Executed:
    """One statement.

    Attributes:
        at: Seconds since the epoch.
        query: Its ID.
        role: The role that ran it.
        sql: Its text, with secrets masked and without bound values.
        error: The number of the error that it ended with; 0 for none.
        seconds: The time that it took.
    """

    at: float
    query: str
    role: str
    sql: str
    error: int
    seconds: float


class Statements:
    """The statements so far."""

    def __init__(self) -> None:
        self._executed: RingLog[Executed] = RingLog()

    def add(self, query: str, role: str, sql: str, error: int, seconds: float) -> None:
        """Record a statement."""
        self._executed.add(Executed(time.time(), query, role, masked(sql), error, seconds))

    def matching(self, text: str = "") -> list[Executed]:
        """Return the statements that contain a text, in any case."""
        return [e for e in self._executed.all() if text.lower() in e.sql.lower()]

    def newest(self, count: int) -> list[tuple[int, Executed]]:
        """Return the newest statements, newest first, each with its number."""
        return self._executed.newest(count)

    def keep(self, newest: int) -> None:
        """Keep only the newest statements, up to this number, from now on."""
        self._executed.keep(newest)

    def clear(self) -> None:
        """Forget everything, for example before the part of a test that counts."""
        self._executed.clear()


def masked(sql: str) -> str:
    """Return a statement with the value of each secret clause masked."""
    if not any(name in sql.upper() for name in _SECRET):
        return sql
    try:
        tokens = list(sqlglot.tokenize(sql, read="snowflake"))
    except SqlglotError:
        return "******"
    shown = sql
    for before, equals, value in reversed(list(zip(tokens, tokens[1:], tokens[2:], strict=False))):
        is_secret = before.text.upper() in _SECRET and equals.token_type is TokenType.EQ
        if is_secret:
            shown = f"{shown[: equals.end + 1]} '******'{shown[value.end + 1 :]}"
    return shown
