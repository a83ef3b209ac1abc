"""Authenticate the requests to one MLflow server, and refuse responses that are not the server's.

MLflow treats a login page as success: `log_text` returns and the artifact is lost. A redirect to
another origin, or an unexpected HTML page, therefore fails the request with one sentence.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from mlflow_connections import AccessError, InvalidOptionError
from mlflow_connections.authentication import Authenticator, origin_of
from mlflow_connections.headers import HeaderSource

from ._handshake import check_handshake
from ._sources import rebuild

if TYPE_CHECKING:
    import requests

_SHOWN = 300  # characters of another program's message
_PEEKED = 256  # bytes of a page that may be HTML


class HttpAuthenticator(Authenticator):
    """Adds a source's headers to each request, and retries once with new ones after 401.

    Args:
        origin: Scheme, host and port of the server.
        source: Fetches headers.
        share: Whether the user allows secrets in the environment of child processes.
        joined: Whether a file of this process holds the client certificate.
    """

    opener = "mlflow_connections_http:open_authenticator"
    secret_variables = (
        "MLFLOW_CONNECTIONS_HTTP_CLIENT_SECRET",
        "MLFLOW_CONNECTIONS_HTTP_CLIENT_KEY_PASSWORD",
    )

    def __init__(
        self, origin: str, source: HeaderSource, *, share: bool = False, joined: bool = False
    ) -> None:
        super().__init__(origin, source, share=share)
        self._joined = joined
        self._is_checked = not origin.startswith("https:")

    def needs_parent(self) -> bool:
        """Return whether child processes get their headers or their certificate from this process."""
        return self._joined or super().needs_parent()

    def authenticate(self, request: Any) -> Any:
        """Add the headers to a prepared request, and check its response before other code sees it.

        Raises:
            ConnectionsError: There are no valid headers, or no TLS connection is possible.
        """
        if not self._is_checked:
            check_handshake(self.origin)
            self._is_checked = True
        used = self.headers().values
        request.headers.update(used)

        def check(response: "requests.Response", **arguments: Any) -> "requests.Response":
            if response.status_code == 401:
                response = self._try_again(response, used, arguments)
            self._refuse_strangers(response)
            return response

        request.register_hook("response", check)
        return request

    def _try_again(
        self, response: "requests.Response", used: Mapping[str, str], arguments: Mapping[str, Any]
    ) -> "requests.Response":
        from requests import cookies, utils

        renewed = self.headers(rejected=used).values
        if dict(renewed) == dict(used):
            raise AccessError(_refusal(self.origin, response))
        response.content  # noqa: B018 - so that its connection can be used again
        response.close()
        # As in requests' own digest authentication. The private attributes have no types.
        refused: Any = response
        helpers: Any = cookies
        request = refused.request.copy()
        if isinstance(getattr(request, "_body_position", None), int):
            utils.rewind_body(request)
        jar = request._cookies
        helpers.extract_cookies_to_jar(jar, refused.request, refused.raw)
        request.prepare_cookies(jar)
        request.headers.update(renewed)
        again: requests.Response = refused.connection.send(request, **arguments)
        again.history.append(response)
        again.request = request
        if again.status_code == 401:
            raise AccessError(_refusal(self.origin, again))
        return again

    def _refuse_strangers(self, response: "requests.Response") -> None:
        if response.is_redirect:
            target = urljoin(response.url, response.headers["location"])
            try:
                elsewhere = origin_of(target)
            except InvalidOptionError:
                elsewhere = "another address"
            if elsewhere != self.origin:
                raise AccessError(
                    f"{self.origin} redirects to {elsewhere}, as it does for people who have to sign in: it did not "
                    "accept these credentials, or it expects another kind of them."
                )
        elif response.ok and _is_page(response):
            raise AccessError(
                f"{self.origin} answered with a web page instead of MLflow's response, most likely to sign in: it did "
                "not accept these credentials, or the URL is not that of an MLflow server."
            )


def _refusal(origin: str, response: "requests.Response") -> str:
    said = response.headers.get("WWW-Authenticate", "")[:_SHOWN]
    reason = f" and says {said}" if said.strip() else ""
    return (
        f"{origin} refuses these credentials (401){reason}: check the audience, the scope and "
        "whether the client may use this server."
    )


def _is_page(response: "requests.Response") -> bool:
    """Return whether a response is an HTML page but no artifact; MLflow sends artifacts as attachments."""
    if not response.headers.get("content-type", "").lower().startswith("text/html"):
        return False
    if response.headers.get("content-disposition", "").lower().startswith("attachment"):
        return False
    # MLflow's own /health and /version send plain text with this type.
    return response.content[:_PEEKED].lstrip().startswith(b"<")


def open_authenticator(origin: str, description: Mapping[str, Any]) -> HttpAuthenticator:
    """Rebuild an authenticator in a child process from its parent's description."""
    return HttpAuthenticator(origin, rebuild(description, origin))
