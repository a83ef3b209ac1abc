"""Sources of headers: a token endpoint, a file, a command, Google, fixed values, or a parent process.

Facts: RFC 6749 4.4 (client credentials) and 2.3.1 (form-encode id and secret in Basic), RFC 7523 2.2 (assertion),
OpenID Connect Discovery 1.0 and RFC 8414 (metadata), Kubernetes' client.authentication.k8s.io (ExecCredential).
"""

import base64
import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote_plus, urlsplit

from mlflow_connections import AccessError, UnreachableError
from mlflow_connections.authentication import origin_of
from mlflow_connections.headers import FromParent, Headers, HeaderSource
from mlflow_connections.secrets import mask

from ._google import fetch_identity_token

if TYPE_CHECKING:
    import requests

_ANSWERS_WITHIN = 30.0  # seconds, for an issuer
_PAUSES = (0.3, 1.0)  # seconds before the second and the third attempt: MLflow would not retry
_PASSING = frozenset({429, 500, 502, 503, 504})
_SHOWN = 300  # characters of another program's message
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_WELL_KNOWN = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")


@dataclass(frozen=True, repr=False)
class Fixed(HeaderSource):
    """Headers that never change: none, a user name with a password, or secret headers."""

    headers: Mapping[str, str]

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:  # noqa: ARG002 - there are no others
        """Return the headers."""
        return Headers(self.headers)

    def describe(self, *, share: bool) -> Mapping[str, Any] | None:
        """Return the headers if there are none, or if the user allows it."""
        return {"fixed": {"headers": self.headers}} if share or not self.headers else None


@dataclass(frozen=True, repr=False)
class WithFixed(HeaderSource):
    """Another source's headers combined with secret ones that never change."""

    source: HeaderSource
    headers: Mapping[str, str]

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:
        """Fetch the other source's headers and add the fixed ones."""
        found = self.source.fetch(rejected)
        return found._replace(values={**self.headers, **found.values})

    def mark(self) -> object:
        """Return the other source's mark."""
        return self.source.mark()

    def describe(self, *, share: bool) -> Mapping[str, Any] | None:
        """Return both descriptions if the user allows it."""
        inner = self.source.describe(share=share) if share else None
        return inner and {"with_fixed": {"source": inner, "headers": self.headers}}


class TokenHeader(NamedTuple):
    """The form of a token in a header.

    Attributes:
        name: The header, such as `Authorization` or `Proxy-Authorization`.
        prefix: The text before the token.
    """

    name: str = "Authorization"
    prefix: str = "Bearer "

    def of(self, token: str, place: str) -> dict[str, str]:
        """Return the header for a token.

        Raises:
            AccessError: The token contains characters that a header cannot carry.
        """
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise AccessError(
                f"{place} did not yield a token: it is empty or has characters that no token has."
            )
        return {self.name: f"{self.prefix}{token}"}


BEARER = TokenHeader()
"""The form of RFC 6750."""

_token_endpoints: dict[str, str] = {}
"""The token endpoints from issuers' metadata, by issuer."""


@dataclass(frozen=True, repr=False, kw_only=True)
class ClientCredentials(HeaderSource):
    """Access tokens for a client, from an OAuth 2 or OpenID issuer.

    Attributes:
        issuer: Its URL, whose metadata names the token endpoint; or None.
        token_url: The token endpoint itself; or None.
        client_id: The client.
        client_secret: Its secret; or None with an assertion.
        client_assertion_file: A file with a JWT that authenticates the client (workload identity),
            read for each token.
        client_auth: `basic` or `post`: how ID and secret are sent.
        parameters: `scope`, `audience` and `resource`, if given.
        ca_file: The certificates to verify the issuer with; None for the default ones.
        header: How the token is sent to MLflow.
    """

    issuer: str | None = None
    token_url: str | None = None
    client_id: str
    client_secret: str | None = None
    client_assertion_file: str | None = None
    client_auth: str = "basic"
    parameters: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    header: TokenHeader = BEARER

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:  # noqa: ARG002 - any new token will do
        """Fetch an access token.

        Raises:
            AccessError: The issuer refused; the message contains its reason.
            UnreachableError: The issuer did not respond, or not as an issuer.
        """
        url = self.token_url or self._discovered()
        form = {"grant_type": "client_credentials", **self.parameters}
        headers = {"Accept": "application/json"}
        if self.client_assertion_file is not None:
            assertion = read_token(self.client_assertion_file)
            form |= {
                "client_id": self.client_id,
                "client_assertion_type": _JWT_BEARER,
                "client_assertion": assertion,
            }
        elif self.client_auth == "post":
            form |= {"client_id": self.client_id, "client_secret": self.client_secret or ""}
        else:
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        answer = self._ask("POST", url, data=form, headers=headers)
        content = _json(answer)
        token = content.get("access_token")
        if answer.status_code >= 400 or not isinstance(token, str):
            raise AccessError(_refusal(self, answer, content))
        lifetime = content.get("expires_in")
        try:
            seconds = None if lifetime is None else float(lifetime)
        except (TypeError, ValueError):
            seconds = None
        return Headers(self.header.of(token, url), seconds or lifetime_of(token))

    def describe(self, *, share: bool) -> Mapping[str, Any] | None:
        """Return everything if the client authenticates with a file, or if the user allows it."""
        if self.client_secret is not None and not share:
            return None
        return {"client_credentials": asdict(self)}

    def _discovered(self) -> str:
        issuer = (self.issuer or "").rstrip("/")
        if issuer in _token_endpoints:
            return _token_endpoints[issuer]
        for path in _WELL_KNOWN:
            answer = self._ask("GET", f"{issuer}{path}")
            if answer.status_code == 404:
                continue
            found = _json(answer).get("token_endpoint")
            if isinstance(found, str) and found:
                if urlsplit(found).scheme != "https" and urlsplit(issuer).scheme == "https":
                    raise AccessError(
                        f"{issuer} names a token endpoint without https, so no secret is sent there."
                    )
                _token_endpoints[issuer] = found
                return found
        raise UnreachableError(
            f"{issuer} publishes no OpenID or OAuth metadata with a token endpoint: "
            "check 'issuer', or set 'token_url' instead."
        )

    def _ask(self, method: str, url: str, **arguments: Any) -> "requests.Response":
        import requests

        for pause in (*_PAUSES, None):
            try:
                answer = requests.request(
                    method,
                    url,
                    auth=_keep,  # otherwise ~/.netrc would replace the header
                    allow_redirects=False,
                    timeout=_ANSWERS_WITHIN,
                    verify=self.ca_file or True,
                    **arguments,
                )
            except OSError as error:  # errors of requests, or a ca_file that cannot be read
                # A certificate that is not trusted now will not be trusted in a second.
                if pause is None or isinstance(error, requests.exceptions.SSLError):
                    raise UnreachableError(
                        f"The issuer at {origin_of(url)} cannot be reached: {why(error)}."
                    ) from None
            else:
                if pause is None or answer.status_code not in _PASSING:
                    return answer
            time.sleep(pause)
        raise AssertionError  # the last attempt returns or raises


def _refusal(
    client: ClientCredentials, answer: "requests.Response", content: Mapping[str, Any]
) -> str:
    error = " ".join(
        str(content[key]) for key in ("error", "error_description") if content.get(key)
    )
    where = origin_of(str(answer.request.url))
    if not error:
        return (
            f"{where} answered {answer.status_code} without a token: "
            "check that 'issuer' or 'token_url' names a token endpoint."
        )
    shown = mask(error, [client.client_secret])[:_SHOWN]
    return f"{where} refused client '{client.client_id}' ({answer.status_code}): {shown}."


@dataclass(frozen=True, repr=False)
class TokenFile(HeaderSource):
    """A token in a file that another program renews, such as Kubernetes; read again when it changes."""

    path: str
    header: TokenHeader = BEARER

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:  # noqa: ARG002 - the file is the only source
        """Read the token."""
        token = read_token(self.path)
        # The file, not the clock, determines when there is a new token.
        return Headers(self.header.of(token, self.path), None)

    def mark(self) -> object:
        """Return a value that changes when the file is replaced or written."""
        try:
            status = Path(self.path).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def describe(self, *, share: bool) -> Mapping[str, Any]:  # noqa: ARG002 - no secret
        """Return the path."""
        return {"token_file": asdict(self)}


@dataclass(frozen=True, repr=False)
class TokenCommand(HeaderSource):
    """A command that prints a token: bare, or the JSON of kubectl's ExecCredential, `az` or `gcloud`.

    Attributes:
        command: The program and its arguments; no shell is involved.
        timeout: Seconds after which it is stopped.
        header: How the token is sent.
    """

    command: tuple[str, ...]
    timeout: float = 30.0
    header: TokenHeader = BEARER

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:  # noqa: ARG002 - the command knows
        """Run the command.

        Raises:
            AccessError: It fails, takes too long or prints no token. The message contains the last
                line of its standard error, but not its output.
        """
        name = f"token_command '{self.command[0]}'"
        try:
            done = subprocess.run(
                self.command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise AccessError(
                f"{name} did not end within {self.timeout:g} s: run it by hand, or raise 'token_timeout'."
            ) from None
        except OSError as error:
            raise AccessError(f"{name} cannot be started: {error.strerror or error}.") from None
        output = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            said = mask(lines[0], [output])[:_SHOWN] if lines else "it printed no reason"
            raise AccessError(f"{name} ended with exit code {done.returncode}: {said}.")
        token, lifetime = parse_token(output, name)
        return Headers(self.header.of(token, name), lifetime)

    def describe(self, *, share: bool) -> Mapping[str, Any]:  # noqa: ARG002 - no secret
        """Return command and timeout."""
        return {"token_command": asdict(self)}


@dataclass(frozen=True, repr=False)
class GoogleIdentity(HeaderSource):
    """Google identity tokens for an audience: metadata server, service account or workload identity federation."""

    audience: str
    header: TokenHeader = BEARER

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:  # noqa: ARG002 - any new token will do
        """Fetch a token with google-auth.

        Raises:
            MissingDependencyError: google-auth is not installed.
            AccessError: There is no Google credential, or it cannot sign for the audience.
        """
        token = fetch_identity_token(self.audience)
        return Headers(self.header.of(token, "Google"), lifetime_of(token))

    def describe(self, *, share: bool) -> Mapping[str, Any]:  # noqa: ARG002 - no secret
        """Return the audience."""
        return {"google": asdict(self)}


def rebuild(description: Mapping[str, Any], origin: str) -> HeaderSource:
    """Rebuild a source from what `describe` returned."""
    ((kind, arguments),) = description.items()
    if kind == "agent":
        return FromParent(arguments, origin)
    arguments = dict(arguments)
    if kind == "with_fixed":
        return WithFixed(rebuild(arguments["source"], origin), arguments["headers"])
    if "header" in arguments:
        arguments["header"] = TokenHeader(*arguments["header"])
    kinds: Mapping[str, Any] = {
        "fixed": Fixed,
        "client_credentials": ClientCredentials,
        "token_file": TokenFile,
        "token_command": TokenCommand,
        "google": GoogleIdentity,
    }
    if "command" in arguments:
        arguments["command"] = tuple(arguments["command"])
    source: HeaderSource = kinds[kind](**arguments)
    return source


def read_token(path: str) -> str:
    """Read a token from a file.

    Raises:
        AccessError: It cannot be read, or is empty.
    """
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise AccessError(f"The token file {path} cannot be read: {reason}.") from None
    if not token:
        raise AccessError(f"The token file {path} is empty.")
    return token


def parse_token(output: str, place: str) -> tuple[str, float | None]:
    """Parse a token and its lifetime in seconds from a command's output.

    Raises:
        AccessError: It is neither a token nor JSON of a known form. The output is not shown.
    """
    if not output.startswith("{"):
        return output, lifetime_of(output)
    try:
        content = json.loads(output)
    except ValueError:
        raise AccessError(
            f"{place} printed text that begins like JSON and is not valid JSON."
        ) from None
    status = content.get("status")
    places: tuple[tuple[Any, Any], ...] = (
        (content.get("accessToken"), content.get("expires_on")),  # az account get-access-token
        (content.get("id_token"), None),  # gcloud config config-helper and others
        (content.get("access_token"), None),
        (content.get("token"), None),
    )
    if isinstance(status, Mapping):  # ExecCredential
        places = ((status.get("token"), status.get("expirationTimestamp")), *places)
    credential = content.get("credential")
    if isinstance(credential, Mapping):  # gcloud config config-helper
        places = (
            *places,
            (credential.get("id_token"), None),
            (credential.get("access_token"), credential.get("token_expiry")),
        )
    for token, expires in places:
        if isinstance(token, str) and token:
            seconds = content.get("expires_in")
            known = float(seconds) if isinstance(seconds, int | float) else None
            return token, known or lifetime_of(token) or _until(expires)
    raise AccessError(
        f"{place} printed JSON without a token: expected 'status.token', 'accessToken', 'access_token', "
        "'id_token' or 'token'."
    )


def lifetime_of(token: str) -> float | None:
    """Return the seconds between a JWT's issue and its expiry, or None if the token is no JWT.

    `exp - iat` does not depend on the clock of this machine; a cached token may have less time
    left, and a 401 then renews it.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        seconds = float(claims["exp"]) - float(claims["iat"])
    except (ValueError, TypeError, KeyError):
        return None
    return seconds if seconds > 0 else None


def _until(moment: Any) -> float | None:
    """Return the seconds until a time, given as seconds since 1970 or in ISO form. None if it is neither, or past."""
    now = datetime.now(timezone.utc)
    try:
        if isinstance(moment, int | float):
            then = datetime.fromtimestamp(moment, timezone.utc)
        else:
            then = datetime.fromisoformat(str(moment).replace("Z", "+00:00"))
            then = then if then.tzinfo else then.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    seconds = (then - now).total_seconds()
    return seconds if seconds > 0 else None


def why(error: BaseException) -> str:
    """Return the root cause of an error of `requests`, without addresses of objects."""
    seen = error
    while True:
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    text = str(getattr(seen, "strerror", None) or seen)
    # urllib3 writes the object and the number before the system's own message.
    return text.rpartition("] ")[2].rstrip(".")[:_SHOWN] or type(seen).__name__


def _json(answer: "requests.Response") -> Mapping[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _keep(request: Any) -> Any:
    return request
