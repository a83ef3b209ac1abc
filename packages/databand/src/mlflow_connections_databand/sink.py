"""The sink: batches of events become requests to Databand's tracking API.

The shipper imports this module in its own process; it needs neither MLflow nor dbnd. Spools name
`open_sink`, so its path is fixed.
"""

import gzip
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from mlflow_connections.secrets import mask, mask_uri, masked
from mlflow_connections_outbox import Batch, Destination, Event, Rejected, Unauthorized, Unavailable

from ._mapping import PROTOCOL, TrackerCall, calls, merged, request_id
from ._uri import PASSWORD_VARIABLE, TOKEN_VARIABLES, USER_VARIABLE

REQUEST_SECONDS = 30.0
"""The time limit of one request, in seconds."""
CONNECT_SECONDS = 5.0

_SENT = "sent.json"
_PREFIX = "/api/v1/"
_UNAUTHORIZED = frozenset({401, 403, 407})
# From a proxy or a wrong address; they do not concern the request.
_UNAVAILABLE = frozenset({404, 405, 408, 421, 425, 429})


def open_sink(destination: Destination, environ: Mapping[str, str], state: Path) -> "DatabandSink":
    """Open the sink of a Databand.

    Args:
        destination: Holds Databand's address.
        environ: Holds the credentials: a token, or a user and a password.
        state: The folder in which the sink records the sent parts of an unfinished batch.
    """
    return DatabandSink(DatabandClient(destination.url, environ), state)


class DatabandSink:
    """Delivers events to one Databand.

    All IDs derive from the events, so the sink keeps nothing about a delivered batch. For an
    interrupted batch, the parts that Databand has are recorded after each request, because rows of
    metrics carry no ID and would count twice.
    """

    def __init__(self, client: "DatabandClient", state: Path) -> None:
        self._client = client
        self._sent = _SentParts(state / _SENT)

    def send(self, batch: Batch) -> None:
        """Deliver a batch in order.

        Events that cannot be mapped, or that Databand rejects, are rejected one by one.

        Raises:
            Unavailable: Databand does not respond, or is busy, or another server responds in its
                place.
            Unauthorized: Databand does not accept the credentials.
        """
        rejected: set[int] = set()
        waiting = merged(self._unsent(batch, rejected))
        while waiting:
            self._post(batch, waiting[0], rejected)
            del waiting[0]
            accepted = min((part[0] for call in waiting for part in call.parts), default=len(batch))
            batch.accept(accepted)
            self._sent.forget(event.id for event in batch[:accepted])
        batch.accept(len(batch))
        self._sent.forget(event.id for event in batch)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _unsent(self, batch: Batch, rejected: set[int]) -> Iterator[TrackerCall]:
        """Map a batch, event by event, without the parts that an earlier attempt has sent."""
        for position, event in enumerate(batch):
            try:
                mapped = list(calls([event]))
            except Rejected as rejection:
                batch.reject(position, str(rejection))
                rejected.add(position)
                continue
            for call in mapped:
                ((_, number),) = call.parts
                if not self._sent.has(event.id, number):
                    yield call._replace(parts=frozenset({(position, number)}))

    def _post(self, batch: Batch, call: TrackerCall, rejected: set[int]) -> None:
        """Post a request. If it is rejected, post its parts one by one to find the faulty events."""
        if all(position in rejected for position, _ in call.parts):
            return
        try:
            self._client.post(
                f"tracking/{call.endpoint}", call.body, REQUEST_SECONDS, _id_of(batch, call)
            )
        except Rejected as rejection:
            if len(call.parts) == 1:
                ((position, _),) = call.parts
                rejected.add(position)
                batch.reject(position, str(rejection))
                return
            # Joining has extended the first part's body, so each part is mapped again.
            for position, number in sorted(call.parts):
                part = list(calls([batch[position]]))[number]
                self._post(batch, part._replace(parts=frozenset({(position, number)})), rejected)
            return
        self._sent.add((batch[position].id, number) for position, number in call.parts)


class _SentParts:
    """The parts of events that Databand has although their batch is not finished, kept in a file.

    Args:
        path: The file. It is written after each request and removed when it would be empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, set[int]] = {}
        with suppress(OSError, ValueError, AttributeError, TypeError):
            noted = json.loads(path.read_text(encoding="utf-8"))
            self._parts = {event: set(numbers) for event, numbers in noted.items()}

    def has(self, event: str, number: int) -> bool:
        """Return whether Databand has a part of an event."""
        return number in self._parts.get(event, ())

    def add(self, parts: Iterator[tuple[str, int]]) -> None:
        """Record parts that Databand has."""
        for event, number in parts:
            if event:
                self._parts.setdefault(event, set()).add(number)
        self._write()

    def forget(self, events: Iterator[str]) -> None:
        """Forget events that the outbox will not send again."""
        known = [event for event in events if self._parts.pop(event, None) is not None]
        if known:
            self._write()

    def _write(self) -> None:
        # Without the file, a fault only means that rows may be sent twice.
        with suppress(OSError):
            if not self._parts:
                self._path.unlink(missing_ok=True)
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({event: sorted(numbers) for event, numbers in self._parts.items()})
            new = self._path.with_suffix(".new")
            new.write_text(text, encoding="utf-8")
            new.replace(self._path)


def _id_of(events: Sequence[Event], call: TrackerCall) -> str:
    """Derive a request's ID from the parts in it: the same request has the same ID in each attempt."""
    parts = (f"{events[position].id}.{number}" for position, number in sorted(call.parts))
    return request_id(f"{call.endpoint} {' '.join(parts)}")


class DatabandClient:
    """Databand's HTTP API: authorization, compression, and the meaning of responses.

    Args:
        url: Databand's address.
        environ: Holds a token, or a user and a password.
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

    def post(self, path: str, body: Any, seconds: float, request: str | None = None) -> None:
        """Send a JSON body; returns once Databand has accepted it.

        Args:
            path: The path below `/api/v1/`.
            body: The JSON to send.
            seconds: The time limit.
            request: The request's ID; by default a new one.

        Raises:
            Unavailable: No response, or a temporary failure.
            Unauthorized: The credentials are not accepted.
            Rejected: The body is not accepted.
        """
        if self._token is None and self._login[0] and not self._is_logged_in:
            self._log_in(seconds)
        response = self._request("POST", path, body, seconds, request)
        if response.status_code in _UNAUTHORIZED:
            # The session may have expired: the next attempt logs in again.
            self._is_logged_in = False
        self._check(response, path)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _log_in(self, seconds: float) -> None:
        self._session.cookies.clear()
        csrf, login = "auth/csrf", "auth/login"
        self._check(self._request("GET", csrf, None, seconds), csrf)
        username, password = self._login
        body = {"username": username, "password": password or ""}
        self._check(self._request("POST", login, body, seconds), login)
        self._is_logged_in = True

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Passed as `auth` because requests would replace a header with credentials from a .netrc
        # file.
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        elif csrf := self._session.cookies.get("X-CSRF-TOKEN"):
            request.headers["X-CSRFToken"] = csrf
        return request

    def _request(
        self, method: str, path: str, body: Any, seconds: float, request: str | None = None
    ) -> requests.Response:
        content = None if body is None else gzip.compress(json.dumps(body).encode(), 5)
        headers = {"X-Request-ID": request or uuid.uuid4().hex}
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
            ) from masked(error)

    def _check(self, response: requests.Response, path: str) -> None:
        status = response.status_code
        said = f"Databand at {self._shown} answered {status} to {path}"
        if 200 <= status < 300:
            if not _is_databands(response):
                raise Unavailable(
                    f"{said} with {_kind(response)} and not with JSON: a login page or a proxy answers "
                    "in its place. Check databand_url."
                )
            return
        if status in _UNAUTHORIZED:
            raise Unauthorized(
                f"{said}: it does not accept {self._credentials}. Set {TOKEN_VARIABLES[0]}, "
                "or access_token in the credentials, to a valid token."
            )
        if status >= 500 or status < 400 or status in _UNAVAILABLE:
            raise Unavailable(f"{said}.", _retry_after(response))
        secrets = (self._token, self._login[1])
        raise Rejected(f"{said}: {mask(response.text[:500], secrets)}")

    @property
    def _shown(self) -> str:
        return mask_uri(self._url)

    @property
    def _credentials(self) -> str:
        if self._token is not None:
            return "the access token"
        return "the user and password" if self._login[0] else "requests without credentials"


def _is_databands(response: requests.Response) -> bool:
    """Return whether Databand itself responded: its success responses are JSON, or empty."""
    if not response.content.strip():
        return True
    try:
        json.loads(response.content)
    except ValueError:
        return False
    return True


def _kind(response: requests.Response) -> str:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return kind or "a text of unknown type"


def _retry_after(response: requests.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        # The header may also be a date; the backoff serves as well.
        return None
