"""Reads a statement token by token. sqlglot's tokenizer knows Snowflake's quoting, which no regex does."""

from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import sqlglot
from sqlglot import Token, TokenType
from sqlglot.errors import TokenError

from mlflow_connections_sandbox._snowflake._errors import Name, SqlError, compilation

if TYPE_CHECKING:
    from collections.abc import Callable


_TEXT = (TokenType.STRING, TokenType.RAW_STRING, TokenType.HEREDOC_STRING)
# For these sqlglot gives the rest of the statement as one text.
_OPAQUE = (TokenType.COMMAND, TokenType.EXECUTE)

Value = TypeVar("Value")


class Reader:
    """A statement's tokens with a place in them.

    Attributes:
        sql: The statement as it was written.
    """

    def __init__(self, sql: str) -> None:
        """Take a statement apart.

        Raises:
            SqlError: It has a quote or a comment that does not end.
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
        """Give the word or sign at the place in upper case, empty for a quoted text and at the end."""
        token = self._peek(ahead)
        if token is None or token.token_type in (*_TEXT, TokenType.IDENTIFIER):
            return ""
        return token.text.upper()

    def is_at_end(self) -> bool:
        """Tell whether nothing is left."""
        return self._at >= len(self._tokens)

    def accept(self, *words: str) -> bool:
        """Pass these words if they are next."""
        if any(self.word(i) != word for i, word in enumerate(words)):
            return False
        self._at += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Pass these words.

        Raises:
            SqlError: Something else is next.
        """
        if not self.accept(*words):
            raise self.unexpected()

    def end(self) -> None:
        """Make sure that nothing is left.

        Raises:
            SqlError: Something is.
        """
        if not self.is_at_end():
            raise self.unexpected()

    def unexpected(self) -> SqlError:
        """Make the error for what is next."""
        token = self._peek()
        if token is None:
            return compilation("syntax error: unexpected '<EOF>'.")
        return compilation(
            f"syntax error line {token.line} at position {max(token.col - len(token.text), 0)} "
            f"unexpected '{token.text}'."
        )

    def identifier(self) -> str:
        """Pass one identifier; unquoted ones are in upper case, as Snowflake stores them."""
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
        """Pass a name of one to three parts."""
        if self.accept("IDENTIFIER", "("):
            inner = Reader(self.string())
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
        """Pass a quoted text, between quotes or two pairs of dollar signs."""
        token = self._peek()
        if token is None or token.token_type not in _TEXT:
            raise self.unexpected()
        self._at += 1
        return token.text

    def is_string(self) -> bool:
        """Tell whether a quoted text is next."""
        token = self._peek()
        return token is not None and token.token_type in _TEXT

    def integer(self) -> int:
        """Pass a whole number."""
        token = self._peek()
        if token is None or not token.text.isdecimal():
            raise self.unexpected()
        self._at += 1
        return int(token.text)

    def boolean(self) -> bool:
        """Pass TRUE or FALSE."""
        if self.accept("TRUE"):
            return True
        self.expect("FALSE")
        return False

    def listed(self, item: "Callable[[], Value]") -> list[Value]:
        """Pass items with commas between them, in parentheses."""
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
        """Pass what stands there without a space: an unquoted file name or stage reference."""
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

    def rest(self) -> str:
        """Pass everything that is left, as it was written."""
        token = self._peek()
        if token is None:
            raise self.unexpected()
        self._at = len(self._tokens)
        return self.sql[token.start :].rstrip().removesuffix(";")

    def inlined(self, name: Name) -> str:
        """Give the statement with a name in the place of `IDENTIFIER(?)`, if that is in it."""
        for index in range(len(self._tokens)):
            place = self._tokens[index : index + 4]
            if [t.text.upper() for t in place] == ["IDENTIFIER", "(", "?", ")"]:
                return f"{self.sql[: place[0].start]}{quoted(name)}{self.sql[place[3].end + 1 :]}"
        return self.sql

    def has(self, words: frozenset[str]) -> bool:
        """Tell whether one of these words stands anywhere, outside quoted texts."""
        return any(t.token_type not in _TEXT and t.text.upper() in words for t in self._tokens)

    def session_variable(self) -> str | None:
        """Return the name of the first session variable, as in `$name`, or None if there is none."""
        for sign, name in pairwise(self._tokens):
            is_variable = sign.token_type is TokenType.PARAMETER and sign.text == "$"
            if is_variable and not name.text.isdecimal():
                return name.text
        return None

    def without_scoped(self) -> str:
        """Return the statement without SCOPED, a word for temporary objects that fakesnow lacks."""
        for token in self._tokens[:5]:
            if token.token_type is TokenType.VAR and token.text.upper() == "SCOPED":
                return f"{self.sql[: token.start]}{self.sql[token.end + 1 :]}"
        return self.sql

    def called(self) -> set[str]:
        """Return what the statement reads from, in upper case: called functions, and FROM itself.

        `FROM TABLE(function(…))` counts as the function alone.
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
    # The same statement, with the command's name blanked out so that every place stays what it was.
    rest = " " * (command.end + 1) + sql[command.end + 1 :]
    return [command, *_tokens(rest)]


def _split(token: Token) -> list[Token]:
    """Make one token for each word: sqlglot takes STORAGE INTEGRATION and the like for one."""
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
    """Write a name so that it stays what it is."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name)
