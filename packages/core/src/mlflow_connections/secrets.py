"""Secrets: the names that indicate one, the known values, and the one function that hides them.

Every message, table, log record and JSON document of the family passes through `mask`. It knows the
value of each declared secret, from any source (`remember`), and of each environment variable whose
name indicates a secret. A value is recognized in the forms in which clients and shells repeat it:
stripped, escaped, quoted, base64 and URL-encoded, and each of these escaped once more.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import logging

__all__ = [
    "MASK",
    "UnwritableOutputError",
    "explain",
    "get_logger",
    "looks_secret",
    "mask",
    "mask_document",
    "mask_uri",
    "masked",
    "masked_output",
    "masker",
    "remember",
    "remember_variable",
    "secret_values",
    "unmasked",
]

MASK = "***"
"""The text that replaces a secret."""

# Only whole words of a name, so that `tokenizer` and `passage` are not secrets. Patterns are
# compiled on first use: it would be most of the cost of importing this module.
_SENSITIVE_WORDS = (
    r"(?i)(?:^|[_\-.])(?:token|secret|password|passwd|passphrase|pwd|pat|sas|"
    r"api[_\-]?key|access[_\-]?key|account[_\-]?key|private[_\-]?key|secret[_\-]?key|"
    r"credentials?|connection[_\-]?string|authorization)(?:$|[_\-.])"
)
# Variables of vendors, such as OPENAI_KEY. Names in lower case that end with `_key` are mostly
# columns.
_KEY_VARIABLE = r"[A-Z][A-Z0-9_]*_KEY|(?:openai|anthropic|azure|aws|gcp|google|huggingface|hf|wandb|cohere)_?key"
# `PWD` is the working folder of a shell; names with these endings hold the path of a secret, or its
# kind.
_HARMLESS_VARIABLE = (
    r"(?i)^PWD$|_(?:FILE|PATH|DIR|NAME|ID|URL|URI|TYPE|KIND|PROVIDER|COMMAND|SECONDS|TTL|EXPIRY)$"
)
_NO_SECRET_VALUES = frozenset({"true", "false", "none", "null", "default"})
_CAMEL_HUMP = r"(?<=[a-z0-9])(?=[A-Z])"

# RFC 3986: the authority ends at the first "/", "?" or "#". A person may have written a password
# unquoted, so if there is userinfo, or an impossible port, everything up to the last "@" is hidden.
_USERINFO = r"(?<=://)(?:[^/?#\s]*@(?:[^?#\s]*@)?|[^/?#\s:@]+:(?!\d*[/?#])\S*@)"
# The same inside a quoted URI, `...duplicate_tracking_to=http%3A%2F%2Fuser:pw%40host`, quoted once
# or twice.
_QUOTED_USERINFO = (
    r"(?i)(?<=%2F%2F)(?:(?!%2F|%3F|%23)[^/?#&\s])*%40"
    r"|(?<=%252F%252F)(?:(?!%252F|%253F|%2523)[^/?#&\s])*%2540"
)
_QUERY_VALUE = r"(?P<name>[^?&#;=\s]+)=(?P<value>[^&#;\s]*)"


# A shorter value is hidden only if no letter or digit is next to it: it is part of many words.
_SHORT = 4
# A part of a secret, such as a line of a key, is also hidden alone if it is at least this long.
_PART = 8
# The number of remembered values; the oldest are forgotten, such as tokens of a service that renews
# them.
_LIMIT = 1000

_known: dict[str, None] = {}
_variables: set[str] = set()
_plain_variables: set[str] = set()


def looks_secret(name: str) -> bool:
    """Return whether a key of this name usually holds a secret, such as `clientSecret` or `OPENAI_KEY`."""
    if re.search(_SENSITIVE_WORDS, re.sub(_CAMEL_HUMP, "_", name)):
        return True
    return re.fullmatch(_KEY_VARIABLE, name) is not None


def remember(*values: object) -> None:
    """Remember values that must never be shown, also those inside a mapping or a list.

    None, empty values, true and false are ignored.
    """
    for value in values:
        if value is None or isinstance(value, bool):
            continue
        if isinstance(value, str):
            _remember_text(str(value))
        elif isinstance(value, Mapping):
            remember(*value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            remember(*value)
        elif isinstance(value, bytes):
            _remember_text(value.decode("utf-8", "replace"))
        else:
            _remember_text(str(value))


def _remember_text(text: str) -> None:
    if not text or text.isspace():
        return
    _known.pop(text, None)
    _known[text] = None
    while len(_known) > _LIMIT:
        _known.pop(next(iter(_known)), None)


def remember_variable(name: str, *, secret: bool = True) -> None:
    """Remember that an environment variable holds a secret, whatever its later value.

    Args:
        name: The variable.
        secret: False if it holds none, whatever its name suggests, such as `CLIENT_KEY` with the
            path of a key. A variable that other code declared as a secret stays one.
    """
    (_variables if secret else _plain_variables).add(name)


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """Return the values of the environment variables whose names indicate a secret.

    Args:
        environment: Variables and their values.
    """
    return [value for name, value in environment.items() if _holds_secret(name, value)]


def mask(text: str, secrets: Iterable[object] = ()) -> str:
    """Hide every known secret in a text, the given values, and the secrets of URIs.

    Args:
        text: A text that is about to be shown.
        secrets: More values that must not be shown. None and empty values hide nothing.
    """
    return masker(secrets)(text)


def masker(secrets: Iterable[object] = ()) -> Callable[[str], str]:
    """Return `mask` for many texts: the known values are looked up once.

    Args:
        secrets: More values that must not be shown.
    """
    values = {str(secret) for secret in secrets if secret not in (None, "")}
    values |= {value for value in tuple(_known) if value} | _values_of_variables()
    forms = _all_forms(values)

    def hide(text: str) -> str:
        return mask_uri(_replace(text, _spans(text, forms)))

    return hide


def mask_document(value: Any, hide: Callable[[str], str] | None = None) -> Any:
    """Return a copy of a document of mappings, lists and plain values with every secret hidden."""
    hide = hide or masker()
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {hide(str(key)): mask_document(each, hide) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [mask_document(each, hide) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if hide(str(value)) == str(value) else MASK
    return value


def explain(error: BaseException, secrets: Iterable[object] = ()) -> str:
    """Return the message of another package's exception as one masked line, or the exception's type.

    Raise the new error from `masked(error)`: a chained traceback would show the original message.

    Args:
        error: An exception of a service's client.
        secrets: More values that must not be shown.
    """
    # Masked before lines are joined: a secret may contain white space.
    return " ".join(mask(str(error), secrets).split()) or type(error).__name__


class MaskedCause(Exception):  # noqa: N818 - a stand-in for the cause of an error
    """Another package's exception in a chained traceback, with a masked message."""


def masked(error: BaseException) -> MaskedCause:
    """Return a cause for an error of this family: the traceback of the original, with its message masked.

    Args:
        error: An exception of a service's client.
    """
    kind = type(error)
    cause = MaskedCause(f"{kind.__module__}.{kind.__qualname__}: {mask(str(error))}")
    cause.__suppress_context__ = True
    return cause.with_traceback(error.__traceback__)


def mask_uri(uri: str) -> str:
    """Hide the userinfo and the secret-looking query values of a URI, also of one quoted inside it.

    For texts that are not shown directly, such as a part of a message; `mask` does this too.
    """
    uri = re.sub(_USERINFO, f"{MASK}@", uri)
    uri = re.sub(_QUOTED_USERINFO, f"{MASK}@", uri)
    return re.sub(_QUERY_VALUE, _mask_pair, uri)


def _mask_pair(match: "re.Match[str]") -> str:
    name = match["name"].rpartition("%3F")[2].rpartition("%26")[2]
    return f"{match['name']}={MASK}" if looks_secret(name) else match[0]


def get_logger(name: str) -> "logging.Logger":
    """Return a logger whose records are masked: messages, arguments and tracebacks.

    Args:
        name: The name of a module of the family.
    """
    import logging

    logger = logging.getLogger(name)
    if _mask_record not in logger.filters:
        logger.addFilter(_mask_record)
    return logger


def _mask_record(record: "logging.LogRecord") -> bool:
    hide = masker()
    record.msg, record.args = hide(record.getMessage()), ()
    if record.exc_info:
        import logging

        record.exc_text = hide(logging.Formatter().formatException(record.exc_info))
        record.exc_info = None
    return True


@contextmanager
def masked_output() -> Iterator[None]:
    """Mask the output of this process, for a command line, including other packages' warnings.

    Lines are masked as a whole. Exceptions pass through: the code that catches them prints a masked
    text.

    Raises:
        UnwritableOutputError: The output cannot be written.
    """
    before = sys.stdout, sys.stderr
    masked = _MaskedStream(sys.stdout), _MaskedStream(sys.stderr)
    sys.stdout, sys.stderr = masked
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in reversed(masked):
            stream.flush()


def unmasked(stream: TextIO) -> TextIO:
    """Return the stream behind a masked one, for the one command whose purpose is to print secrets."""
    return stream.stream if isinstance(stream, _MaskedStream) else stream


class UnwritableOutputError(OSError):
    """The output cannot be written: the disk is full, or a pipe was closed."""


class _MaskedStream:
    """A text stream that masks its output, a line at a time."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._held = ""

    def write(self, text: str) -> int:
        self._held += text
        lines, newline, rest = self._held.rpartition("\n")
        if newline:
            self._held = rest
            self._pass_on(lines + newline)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        held, self._held = self._held, ""
        self._pass_on(held)
        try:
            self.stream.flush()
        except OSError as error:
            raise UnwritableOutputError(error.errno, error.strerror) from error

    def _pass_on(self, text: str) -> None:
        try:
            self.stream.write(mask(text))
        except OSError as error:
            raise UnwritableOutputError(error.errno, error.strerror) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _values_of_variables() -> set[str]:
    """Return the current values of the environment variables that hold secrets."""
    return {
        value
        for value in secret_values(os.environ)
        if value.strip() and value.lower() not in _NO_SECRET_VALUES
    }


def _holds_secret(variable: str, value: str) -> bool:
    if variable in _variables:
        return True
    if len(value) < _SHORT or variable in _plain_variables or not looks_secret(variable):
        return False
    return not re.search(_HARMLESS_VARIABLE, variable) and not _is_a_file(value)


def _is_a_file(value: str) -> bool:
    """Return whether a value is the path of a file, such as that of a key, which a message must name."""
    # Path.is_file raises for a text that cannot be a path, such as one that is too long.
    return os.sep in value and os.path.isfile(value)  # noqa: PTH113


def _all_forms(secrets: Iterable[str]) -> dict[str, int]:
    """Return each form of each secret, with the number of adjacent characters that belong to it."""
    forms: dict[str, int] = {}
    for secret in secrets:
        for form, margin in _forms(secret):
            if form.strip():
                forms[form] = max(margin, forms.get(form, 0))
    return forms


@lru_cache(maxsize=_LIMIT)
def _forms(secret: str) -> tuple[tuple[str, int], ...]:
    """Return the forms in which clients, shells and serializers repeat a secret."""
    return tuple(_make_forms(secret))


def _make_forms(secret: str) -> Iterator[tuple[str, int]]:
    lines = [line.strip() for line in secret.splitlines()]
    plain = {secret, secret.strip(), " ".join(secret.split())}
    plain |= {line for line in lines if len(line) >= _PART}
    for text in plain:
        once = {text} | _quoted(text) | _escaped(text)
        yield from ((form, 0) for form in once)
        yield from ((form, 0) for each in once for form in _escaped(each))
        if len(text) >= _SHORT:
            yield from ((form, _BASE64_MARGIN) for form in _base64(text))


def _escaped(text: str) -> set[str]:
    """Return the text between the quotes of reprs, of JSON, of HTML and of a shell's word."""
    import json
    from html import escape

    escapes: tuple[Callable[[str], str], ...] = (
        lambda part: repr(part)[1:-1],
        lambda part: ascii(part)[1:-1],
        lambda part: repr(part.encode("utf-8", "surrogatepass"))[2:-1],
        lambda part: repr(part.encode("latin-1", "replace"))[2:-1],
        lambda part: json.dumps(part)[1:-1],
        lambda part: json.dumps(part, ensure_ascii=False)[1:-1],
    )
    # Which quotes a repr escapes depends on the surrounding text.
    parts = re.split(r"""(['"])""", text)
    quotes_inside = set(parts[1::2])
    between = set()
    for apply in escapes:
        escaped = [part if part in quotes_inside else apply(part) for part in parts]
        for quotes in ("", "'", '"', "'\""):
            if quotes_inside.issuperset(quotes):
                between.add(
                    "".join(f"\\{part}" if part and part in quotes else part for part in escaped)
                )
    return {*between, escape(text), escape(text, quote=False), text.replace("'", "'\"'\"'")}


def _quoted(text: str) -> set[str]:
    """Return the URL-encoded forms: once, twice as in a URI inside a URI, in either case."""
    from urllib.parse import quote, quote_plus

    try:
        once = {quote(text, safe=""), quote(text), quote_plus(text), quote_plus(text, safe="/")}
    except UnicodeEncodeError:  # a lone surrogate, which a URL cannot contain
        return set()
    both = once | {quote(form, safe="") for form in once}
    return both | {re.sub(r"%[0-9A-F]{2}", lambda hex_: hex_[0].lower(), form) for form in both}


_BASE64_MARGIN = 3
_BASE64_CHARACTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_="
)


def _base64(text: str) -> set[str]:
    """Return the base64 forms of a text at any offset: alone, or after `user:` as in basic access.

    The characters at the ends depend on the surrounding text; they are hidden as a margin.
    """
    from base64 import b64encode, urlsafe_b64encode

    data = text.encode("utf-8", "surrogatepass")
    forms = set()
    for shift, cut in ((0, 0), (1, 2), (2, 3)):
        whole = (shift + len(data)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            form = encode(b"\0" * shift + data)[cut:whole].decode("ascii")
            if len(form) >= _SHORT:
                forms.add(form)
    return forms


def _spans(text: str, forms: Mapping[str, int]) -> list[tuple[int, int]]:
    """Return the positions of all forms in a text, including overlapping ones, sorted."""
    found = []
    for form, margin in forms.items():
        start = text.find(form)
        while start >= 0:
            end = start + len(form)
            if len(form) >= _SHORT or not _is_within_a_word(text, start, end):
                found.append(_with_margin(text, start, end, margin))
            start = text.find(form, start + 1)
    return sorted(found)


def _is_within_a_word(text: str, start: int, end: int) -> bool:
    return text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()


def _with_margin(text: str, start: int, end: int, margin: int) -> tuple[int, int]:
    for _ in range(margin):
        if start > 0 and text[start - 1] in _BASE64_CHARACTERS:
            start -= 1
        if end < len(text) and text[end] in _BASE64_CHARACTERS:
            end += 1
    return start, end


def _replace(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Replace spans with the mask; spans that touch or overlap become one."""
    shown, shown_to, hidden_to = [], 0, -1
    for start, end in spans:
        if start > hidden_to:
            shown += [text[shown_to:start], MASK]
        hidden_to = shown_to = max(hidden_to, end)
    return "".join([*shown, text[shown_to:]]) if shown else text
