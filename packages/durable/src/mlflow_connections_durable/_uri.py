"""The URIs `durable+https://…`, `durable://?server=…` and `durable://offline`."""

from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from mlflow_connections import InvalidOptionError
from mlflow_connections.secrets import mask_uri

SCHEME = "durable"
OFFLINE = "offline"
_PREFIX = f"{SCHEME}+"
_HTTP = ("http://", "https://")


class DurableUri(NamedTuple):
    """A parsed URI.

    Attributes:
        server: The tracking URI of the server, or `offline` for none.
    """

    server: str

    @property
    def is_offline(self) -> bool:
        """Whether no server is ever called."""
        return self.server == OFFLINE

    def __str__(self) -> str:
        """Return the URI for MLflow. It holds the credentials of its server: mask it to show it."""
        if self.is_offline:
            return f"{SCHEME}://{OFFLINE}"
        if self.server.startswith(_HTTP):
            return _PREFIX + self.server
        return f"{SCHEME}://?server={quote(self.server, safe='')}"

    def __repr__(self) -> str:
        """Hide every credential."""
        return f"DurableUri({mask_uri(self.server)!r})"


def parse(uri: str) -> DurableUri:
    """Parse a durable URI.

    Raises:
        InvalidOptionError: It names no server, or an unknown parameter.
    """
    scheme, _, rest = uri.partition("://")
    inner = f"{scheme.lower().removeprefix(_PREFIX)}://{rest}"
    if scheme.lower().startswith(_PREFIX) and inner.startswith(_HTTP) and rest.strip("/"):
        return DurableUri(inner)
    parts = urlsplit(uri)
    if parts.scheme == SCHEME and parts.netloc == OFFLINE and not parts.query:
        return DurableUri(OFFLINE)
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != SCHEME or parts.netloc or set(named) != {"server"} or not named["server"]:
        raise InvalidOptionError(
            f"{mask_uri(uri)!r} is not a durable URI; write durable+https://<host>, "
            "durable://?server=<quoted URI> or durable://offline."
        )
    return DurableUri(named["server"])
