"""The composite URI: Databand's address, with the copied MLflow store in its query.

In the specification's form, with explicit ports and the inner URI quoted twice:
`dbnd://localhost:8080?duplicate_tracking_to=http%253A%252F%252Fmlflow-store%253A80%252F`.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from mlflow_connections import InvalidOptionError
from mlflow_connections.secrets import mask_uri

# `urllib.parse` is imported where it is needed: it would be most of the cost of importing the connection.
if TYPE_CHECKING:
    from urllib.parse import SplitResult

TOKEN_VARIABLES = ("DBND__CORE__DATABAND_ACCESS_TOKEN", "DATABAND_ACCESS_TOKEN")
"""The variables that may hold a token: dbnd's own, then the short one."""
USER_VARIABLE = "DBND__CORE__DBND_USER"
PASSWORD_VARIABLE = "DBND__CORE__DBND_PASSWORD"  # noqa: S105 - the name, not a password

PARAMETER = "duplicate_tracking_to"
_HTTP = {"dbnd": "http", "databand": "http", "dbnd+s": "https", "databand+s": "https"}
_COMPOSITE = {"http": "dbnd", "https": "dbnd+s"}
_PORTS = {"http": 80, "https": 443}

SCHEMES = frozenset(_HTTP)
"""The schemes of a composite URI."""


class CompositeUri(NamedTuple):
    """A parsed composite URI.

    Attributes:
        databand_url: Databand's address, http or https, without credentials.
        inner: The URI or path of the MLflow store, or None if the URI names none.
        username: The user who logs in to Databand, or None.
        password: The user's password, or None.
    """

    databand_url: str
    inner: str | None = None
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        """Return the URI for MLflow. It holds the credentials of its parts: mask it to show it."""
        return _written(self)

    def __repr__(self) -> str:
        """Hide every credential."""
        inner = None if self.inner is None else mask_uri(self.inner)
        return f"CompositeUri({self.databand_url!r}, inner={inner!r})"


@lru_cache(maxsize=64)
def _written(uri: CompositeUri) -> str:
    from urllib.parse import quote, urlsplit

    url = urlsplit(uri.databand_url)
    host = _with_port(url).netloc
    if uri.username is not None:
        password = "" if uri.password is None else f":{quote(uri.password, safe='')}"
        host = f"{quote(uri.username, safe='')}{password}@{host}"
    text = f"{_COMPOSITE[url.scheme]}://{host}{url.path.rstrip('/')}"
    if uri.inner is None:
        return text
    return f"{text}?{PARAMETER}={quote(quote(_explicit(uri.inner), safe=''), safe='')}"


def is_databand(uri: str | None) -> bool:
    """Return whether a URI has one of Databand's composite schemes."""
    return uri is not None and uri.partition("://")[0].lower() in SCHEMES and "://" in uri


@lru_cache(maxsize=64)
def parse(uri: str) -> CompositeUri:
    """Parse a composite URI; its inner URI may be quoted once or twice.

    Raises:
        InvalidOptionError: The URI is not a Databand URI, has no host, or has an unknown query parameter.
    """
    from urllib.parse import urlsplit

    parts = urlsplit(uri)
    if parts.scheme not in _HTTP or not parts.hostname:
        raise InvalidOptionError(
            f"{mask_uri(uri)!r} is not a Databand URI; write dbnd://<host>:<port> for http "
            f"or dbnd+s://<host> for https, then ?{PARAMETER}=<quoted MLflow URI>."
        )
    url, username, password = _without_credentials(parts._replace(scheme=_HTTP[parts.scheme]))
    return CompositeUri(url, _inner(parts.query, uri), username, password)


@lru_cache(maxsize=64)
def read_databand_url(url: str) -> CompositeUri:
    """Parse Databand's address as people configure it: http, https, or a composite scheme.

    Raises:
        InvalidOptionError: The address has another scheme, no host, or a query.
    """
    if is_databand(url):
        return parse(url)
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in _COMPOSITE or not parts.hostname or parts.query:
        raise InvalidOptionError(
            f"'databand_url' must be Databand's address, such as https://acme.databand.ai, "
            f"not {mask_uri(url)!r}."
        )
    bare, username, password = _without_credentials(parts)
    return CompositeUri(bare, None, username, password)


def _inner(query: str, uri: str) -> str | None:
    from urllib.parse import unquote

    inner = None
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name != PARAMETER:
            raise InvalidOptionError(
                f"{mask_uri(uri)!r} has an unknown query parameter '{mask_uri(name)}'; if it belongs "
                f"to the MLflow URI, quote that URI (urllib.parse.quote, safe='')."
            )
        inner = unquote(value)
    # A URI has a colon or a slash, so a text with neither but with a percent sign was quoted twice.
    if inner and "%" in inner and ":" not in inner and "/" not in inner:
        inner = unquote(inner)
    if is_databand(inner):
        raise InvalidOptionError(
            f"{mask_uri(uri)!r} names a Databand URI as its MLflow store; "
            f"{PARAMETER} must be the URI of an MLflow store."
        )
    return inner or None


def _without_credentials(parts: "SplitResult") -> tuple[str, str | None, str | None]:
    from urllib.parse import unquote

    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    bare = parts._replace(
        netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/"), query="", fragment=""
    )
    return bare.geturl(), username, password


def _explicit(inner: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(inner)
    return _with_port(parts).geturl() if parts.scheme in _PORTS and parts.hostname else inner


def _with_port(parts: "SplitResult") -> "SplitResult":
    if parts.port is not None:
        return parts
    return parts._replace(netloc=f"{parts.netloc}:{_PORTS[parts.scheme]}")
