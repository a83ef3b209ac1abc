"""The statements that arrived, without the secrets in them."""

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
        query: Its id.
        role: The role that it ran as.
        sql: Its text; bound values are not part of it, and secrets in it are masked.
        error: The number of the error that refused it; 0 for none.
        seconds: How long it took.
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
        """Note one."""
        self._executed.add(Executed(time.time(), query, role, masked(sql), error, seconds))

    def matching(self, text: str = "") -> list[Executed]:
        """Give those that contain a text, in any case."""
        return [e for e in self._executed.all() if text.lower() in e.sql.lower()]

    def newest(self, count: int) -> list[tuple[int, Executed]]:
        """Give the newest, newest first, each with a number of its own."""
        return self._executed.newest(count)

    def keep(self, newest: int) -> None:
        """Keep only so many, the newest, from now on."""
        self._executed.keep(newest)

    def clear(self) -> None:
        """Forget everything, before the part of a test that counts."""
        self._executed.clear()


def masked(sql: str) -> str:
    """Hide the value after each clause that takes a secret."""
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
