"""What counts as a secret, and how it is kept out of everything that a person may see."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["MASK", "get_logger", "looks_secret", "mask", "mask_uri"]

MASK = "***"
"""The text that replaces a secret."""

# Whole words of a name only, so that `tokenizer` and `passage` are no secrets.
_SECRET_NAME = re.compile(
    r"(?:^|[_\-.])(?:token|secret|password|passwd|passphrase|pwd|pat|sas|"
    r"api[_\-]?key|access[_\-]?key|account[_\-]?key|private[_\-]?key|secret[_\-]?key|"
    r"credentials?|connection[_\-]?string|authorization)(?:$|[_\-.])",
    re.IGNORECASE,
)
_CAMEL_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# RFC 3986: the authority ends at the first "/", "?" or "#". A person may have written a password
# unquoted, so where there is userinfo, or what can be no port, all up to the last "@" is hidden.
_USERINFO = re.compile(r"(?<=://)(?:[^/?#\s]*@(?:[^?#\s]*@)?|[^/?#\s:@]+:(?!\d*[/?#])\S*@)")
# The same inside a quoted URI, `...duplicate_tracking_to=http%3A%2F%2Fuser:pw%40host`, quoted once
# or twice.
_QUOTED_USERINFO = re.compile(
    r"(?<=%2F%2F)(?:(?!%2F|%3F|%23)[^/?#&\s])*%40"
    r"|(?<=%252F%252F)(?:(?!%252F|%253F|%2523)[^/?#&\s])*%2540",
    re.IGNORECASE,
)
_QUERY_VALUE = re.compile(r"(?P<name>[^?&#;=\s]+)=(?P<value>[^&#;\s]*)")


def looks_secret(name: str) -> bool:
    """Tell whether a key of this name usually holds a secret (`token`, `clientSecret`, `DB_PWD`)."""
    return bool(_SECRET_NAME.search(_CAMEL_HUMP.sub("_", name)))


def mask(text: str, secrets: Iterable[object] = ()) -> str:
    """Hide the given values wherever they stand in a text, and every URI's userinfo and secret query.

    Args:
        text: Anything that is about to be shown.
        secrets: Values that must not show. None and empty values hide nothing.
    """
    # The longest first, so that a secret that contains another one vanishes whole.
    for secret in sorted({str(s) for s in secrets if s not in (None, "")}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return mask_uri(text)


def mask_uri(uri: str) -> str:
    """Hide the userinfo and the secret-looking query values of a URI, also of one quoted inside it."""
    uri = _USERINFO.sub(f"{MASK}@", uri)
    uri = _QUOTED_USERINFO.sub(f"{MASK}@", uri)
    return _QUERY_VALUE.sub(_mask_pair, uri)


def _mask_pair(match: "re.Match[str]") -> str:
    name = match["name"].rpartition("%3F")[2].rpartition("%26")[2]
    return f"{match['name']}={MASK}" if looks_secret(name) else match[0]


def get_logger(name: str) -> "logging.Logger":
    """Return a logger."""
    import logging

    return logging.getLogger(name)
