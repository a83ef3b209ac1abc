"""The composite URI `mirror://?primary=…&copy=…`, which names two MLflow servers."""

from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from mlflow_connections import InvalidOptionError
from mlflow_connections.secrets import mask_uri

SCHEME = "mirror"


class MirrorUri(NamedTuple):
    """A parsed URI.

    Attributes:
        primary: The URI of the server that answers calls, or None for the tracking URI in force.
        copy: The URI of the server that receives the copy.
    """

    primary: str | None
    copy: str

    def __str__(self) -> str:
        """Return the URI for MLflow. It holds the credentials of its parts: mask it to show it."""
        named = {"primary": self.primary, "copy": self.copy}
        query = "&".join(f"{k}={quote(v, safe='')}" for k, v in named.items() if v)
        return f"{SCHEME}://?{query}"

    def __repr__(self) -> str:
        """Hide every credential."""
        primary = None if self.primary is None else mask_uri(self.primary)
        return f"MirrorUri({primary!r}, copy={mask_uri(self.copy)!r})"


def parse(uri: str) -> MirrorUri:
    """Parse a mirror URI.

    Raises:
        InvalidOptionError: It names no copy, an unknown parameter, or one server twice.
    """
    parts = urlsplit(uri)
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != SCHEME or parts.netloc or not named.get("copy"):
        raise InvalidOptionError(
            f"{mask_uri(uri)!r} is not a mirror URI; write mirror://?primary=<quoted URI>&copy=<quoted "
            "URI>."
        )
    if unknown := sorted(named.keys() - {"primary", "copy"}):
        raise InvalidOptionError(
            f"{mask_uri(uri)!r} has an unknown query parameter '{mask_uri(unknown[0])}'; if it belongs "
            "to one of the two URIs, quote that URI (urllib.parse.quote, safe='')."
        )
    # The URI of Databricks does not name the workspace.
    if named.get("primary") == named["copy"] and not named["copy"].startswith("databricks"):
        raise InvalidOptionError(
            f"{mask_uri(uri)!r} names one server as primary and copy; name two."
        )
    return MirrorUri(named.get("primary") or None, named["copy"])
