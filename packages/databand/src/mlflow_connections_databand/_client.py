"""Databand's HTTP API: authorisation, compression, and what an answer means."""

import gzip
import json
import uuid
from collections.abc import Mapping
from typing import Any

import requests

from mlflow_connections.secrets import mask, mask_uri
from mlflow_connections_outbox import Rejected, Unauthorized, Unavailable

from ._mapping._bodies import PROTOCOL
from ._outboxes import PASSWORD_VARIABLE, TOKEN_VARIABLES, USER_VARIABLE

CONNECT_SECONDS = 5.0

_PREFIX = "/api/v1/"
_NOT_ALLOWED = frozenset({401, 403, 407})
# A proxy's or a wrong address' answers say nothing of what was sent.
_NOT_NOW = frozenset({404, 405, 408, 421, 425, 429})


class Client:
    """Talks to one Databand.

    Args:
        url: Its address.
        environ: Where the credentials are: a token, or a user and a password.
    """

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._token = next((environ[name] for name in TOKEN_VARIABLES if environ.get(name)), None)
        self._login = environ.get(USER_VARIABLE), environ.get(PASSWORD_VARIABLE)
        self._session = requests.Session()
        self._session.headers["X-Databand-Version"] = PROTOCOL
        self._session.headers["X-Databand-Trace-ID"] = uuid.uuid4().hex
        self._session.auth = self._authorize
        self._is_logged_in = False

    def post(self, path: str, body: Any, seconds: float) -> None:
        """Send a JSON body, and return once it is accepted.

        Args:
            path: Below `/api/v1/`.
            body: The JSON to send.
            seconds: How long this may take.

        Raises:
            Unavailable: No answer, or one that may be another later.
            Unauthorized: The credentials are refused.
            Rejected: What was sent is refused.
        """
        if self._token is None and self._login[0] and not self._is_logged_in:
            self._log_in(seconds)
        answer = self._request("POST", path, body, seconds)
        if answer.status_code in _NOT_ALLOWED:
            # A session may have run out: the next attempt logs in anew.
            self._is_logged_in = False
        self._judge(answer, path)

    def close(self) -> None:
        """Let the connection go."""
        self._session.close()

    def _log_in(self, seconds: float) -> None:
        self._session.cookies.clear()
        self._judge(self._request("GET", "auth/csrf", None, seconds), "auth/csrf")
        username, password = self._login
        body = {"username": username, "password": password or ""}
        self._judge(self._request("POST", "auth/login", body, seconds), "auth/login")
        self._is_logged_in = True

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As `auth`, not as a header: requests would replace that from a .netrc file.
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        elif csrf := self._session.cookies.get("X-CSRF-TOKEN"):
            request.headers["X-CSRFToken"] = csrf
        return request

    def _request(self, method: str, path: str, body: Any, seconds: float) -> requests.Response:
        content = None if body is None else gzip.compress(json.dumps(body).encode(), 5)
        headers = {"X-Request-ID": uuid.uuid4().hex}
        if content is not None:
            headers |= {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            return self._session.request(
                method,
                f"{self._url}{_PREFIX}{path}",
                data=content,
                headers=headers,
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise Unavailable(
                f"Databand at {self._shown} does not answer: {type(error).__name__}."
            ) from error

    def _judge(self, answer: requests.Response, path: str) -> None:
        status = answer.status_code
        if 200 <= status < 300:
            return
        said = f"Databand at {self._shown} answered {status} to {path}"
        if status in _NOT_ALLOWED:
            raise Unauthorized(
                f"{said}: it does not take {self._credentials}. Set {TOKEN_VARIABLES[0]}, "
                "or access_token in the credentials, to a valid token."
            )
        if status >= 500 or status < 400 or status in _NOT_NOW:
            raise Unavailable(f"{said}.", _retry_after(answer))
        secrets = (self._token, self._login[1])
        raise Rejected(f"{said}: {mask(answer.text[:500], secrets)}")

    @property
    def _shown(self) -> str:
        return mask_uri(self._url)

    @property
    def _credentials(self) -> str:
        if self._token is not None:
            return "the access token"
        return "the user and password" if self._login[0] else "requests without credentials"


def _retry_after(answer: requests.Response) -> float | None:
    try:
        return max(0.0, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):
        # A date is allowed too; the backoff serves as well.
        return None
