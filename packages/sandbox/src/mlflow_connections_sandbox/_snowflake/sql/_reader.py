"""Read a statement token by token, with sqlglot's tokenizer, which knows Snowflake's quoting."""

from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import sqlglot
from sqlglot import Token, TokenType
from sqlglot.errors import TokenError

from mlflow_connections_sandbox._snowflake._errors import Name, SqlError, compilation

if TYPE_CHECKING:
    from collections.abc import Callable


_TEXT = (TokenType.STRING, TokenType.RAW_STRING, TokenType.HEREDOC_STRING)
# After these, sqlglot returns the rest of the statement as one text.
_OPAQUE = (TokenType.COMMAND, TokenType.EXECUTE)

Value = TypeVar("Value")


class SqlReader:
    """The tokens of a statement, with a current position.

    Attributes:
        sql: The text of the statement.
    """

    def __init__(self, sql: str) -> None:
        """Split a statement into tokens.

        Raises:
            SqlError: A quote or a comment is not closed.
        """
        self.sql = sql
        try:
            self._tokens = _tokens(sql)
        except TokenError as error:
            raise compilation(f"parse error: {error}") from error
        while self._tokens and self._tokens[-1].token_type is TokenType.SEMICOLON:
            self._tokens.pop()
        self._at = 0

    def word(self, ahead: int = 0) -> str:
        """Return the next word or sign in upper case; empty for quoted text and at the end."""
        token = self._peek(ahead)
        if token is None or token.token_type in (*_TEXT, TokenType.IDENTIFIER):
            return ""
        return token.text.upper()

    def is_at_end(self) -> bool:
        """Return whether no token is left."""
        return self._at >= len(self._tokens)

    def accept(self, *words: str) -> bool:
        """Consume these words if they are next, and return whether they were."""
        if any(self.word(i) != word for i, word in enumerate(words)):
            return False
        self._at += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Consume these words.

        Raises:
            SqlError: Something else is next.
        """
        if not self.accept(*words):
            raise self.unexpected()

    def end(self) -> None:
        """Check that no token is left.

        Raises:
            SqlError: A token is left.
        """
        if not self.is_at_end():
            raise self.unexpected()

    def unexpected(self) -> SqlError:
        """Return the error for the next token."""
        token = self._peek()
        if token is None:
            return compilation("syntax error: unexpected '<EOF>'.")
        return compilation(
            f"syntax error line {token.line} at position {max(token.col - len(token.text), 0)} "
            f"unexpected '{token.text}'."
        )

    def identifier(self) -> str:
        """Consume an identifier and return it; unquoted ones in upper case, as Snowflake stores them."""
        token = self._peek()
        if token is None or token.token_type in _TEXT:
            raise self.unexpected()
        self._at += 1
        if token.token_type is TokenType.IDENTIFIER:
            return token.text
        if not (token.text[:1].isalpha() or token.text[:1] == "_"):
            self._at -= 1
            raise self.unexpected()
        return token.text.upper()

    def name(self) -> Name:
        """Consume a name of one to three parts and return it."""
        if self.accept("IDENTIFIER", "("):
            inner = SqlReader(self.string())
            self.expect(")")
            name = inner.name()
            inner.end()
            return name
        parts = [self.identifier()]
        while self.accept("."):
            parts.append(self.identifier())
        if len(parts) > 3:
            raise compilation(f"Invalid object name: {'.'.join(parts)}")
        return tuple(parts)

    def string(self) -> str:
        """Consume a quoted text, between quotes or two pairs of dollar signs, and return it."""
        token = self._peek()
        if token is None or token.token_type not in _TEXT:
            raise self.unexpected()
        self._at += 1
        return token.text

    def is_string(self) -> bool:
        """Return whether a quoted text is next."""
        token = self._peek()
        return token is not None and token.token_type in _TEXT

    def integer(self) -> int:
        """Consume a whole number and return it."""
        token = self._peek()
        if token is None or not token.text.isdecimal():
            raise self.unexpected()
        self._at += 1
        return int(token.text)

    def boolean(self) -> bool:
        """Consume TRUE or FALSE and return it."""
        if self.accept("TRUE"):
            return True
        self.expect("FALSE")
        return False

    def listed(self, item: "Callable[[], Value]") -> list[Value]:
        """Consume items in parentheses, separated by commas, and return them."""
        self.expect("(")
        items: list[Value] = []
        if self.accept(")"):
            return items
        items.append(item())
        while self.accept(","):
            items.append(item())
        self.expect(")")
        return items

    def run(self) -> str:
        """Consume tokens up to a space, as in an unquoted file name or stage reference."""
        if self.is_string():
            return self.string()
        first = last = self._peek()
        if first is None or last is None:
            raise self.unexpected()
        self._at += 1
        while (token := self._peek()) is not None and token.start == last.end + 1:
            last = token
            self._at += 1
        return self.sql[first.start : last.end + 1]

    def parenthesized(self) -> str:
        """Consume a pair of parentheses with everything in it, and return the text inside."""
        first = last = self._peek()
        self.expect("(")
        depth = 1
        while depth and (last := self._peek()) is not None:
            depth += {"(": 1, ")": -1}.get(self.word(), 0)
            self._at += 1
        if first is None or last is None:
            raise self.unexpected()
        return self.sql[first.end + 1 : last.start].strip()

    def rest(self) -> str:
        """Consume the rest of the statement and return its text."""
        token = self._peek()
        if token is None:
            raise self.unexpected()
        self._at = len(self._tokens)
        return self.sql[token.start :].rstrip().removesuffix(";")

    def inlined(self, name: Name) -> str:
        """Return the statement with a name in place of `IDENTIFIER(?)`."""
        for index in range(len(self._tokens)):
            place = self._tokens[index : index + 4]
            if [t.text.upper() for t in place] == ["IDENTIFIER", "(", "?", ")"]:
                return f"{self.sql[: place[0].start]}{quoted(name)}{self.sql[place[3].end + 1 :]}"
        return self.sql

    def has(self, words: frozenset[str]) -> bool:
        """Return whether one of these words occurs outside quoted texts."""
        return any(t.token_type not in _TEXT and t.text.upper() in words for t in self._tokens)

    def session_variable(self) -> str | None:
        """Return the name of the first session variable, as in `$name`, or None if there is none."""
        for sign, name in pairwise(self._tokens):
            is_variable = sign.token_type is TokenType.PARAMETER and sign.text == "$"
            if is_variable and not name.text.isdecimal():
                return name.text
        return None

    def without_scoped(self) -> str:
        """Return the statement without SCOPED, a keyword for temporary objects that fakesnow lacks."""
        for token in self._tokens[:5]:
            if token.token_type is TokenType.VAR and token.text.upper() == "SCOPED":
                return f"{self.sql[: token.start]}{self.sql[token.end + 1 :]}"
        return self.sql

    def called(self) -> set[str]:
        """Return the sources that the statement reads, in upper case: called functions, and FROM itself.

        `FROM TABLE(function(…))` counts only as the function.
        """
        words = [t.text.upper() for t in self._tokens if t.token_type not in _TEXT]
        found = {word for word, after in pairwise(words) if after == "("}
        if "FROM" in words:
            after = words[words.index("FROM") + 1 :]
            found.add("FROM" if after[:2] != ["TABLE", "("] else after[2] if after[2:] else "FROM")
        return found - {"TABLE"}

    def creates_table_as(self) -> bool:
        """Return whether this is CREATE TABLE … AS SELECT, which computes."""
        words = [t.text.upper() for t in self._tokens if t.token_type not in _TEXT][:8]
        return "TABLE" in words and self.has(frozenset(("SELECT", "WITH")))

    def _peek(self, ahead: int = 0) -> Token | None:
        index = self._at + ahead
        return self._tokens[index] if index < len(self._tokens) else None


def _tokens(sql: str) -> list[Token]:
    tokens = [t for token in sqlglot.tokenize(sql, read="snowflake") for t in _split(token)]
    if len(tokens) < 2 or tokens[0].token_type not in _OPAQUE or tokens[1].token_type not in _TEXT:
        return tokens
    command = tokens[0]
    # Blank out the name of the command, so that all positions stay the same.
    rest = " " * (command.end + 1) + sql[command.end + 1 :]
    return [command, *_tokens(rest)]


def _split(token: Token) -> list[Token]:
    """Return one token for each word: sqlglot makes one token of STORAGE INTEGRATION and the like."""
    if token.token_type in (*_TEXT, TokenType.IDENTIFIER) or " " not in token.text:
        return [token]
    words = []
    start = token.start
    for word in token.text.split(" "):
        end = start + len(word) - 1
        words.append(Token(TokenType.VAR, word, token.line, token.col, start, end))
        start = end + 2
    return words


def quoted(name: Name) -> str:
    """Return a name in quotes, so that its case is kept."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name)
