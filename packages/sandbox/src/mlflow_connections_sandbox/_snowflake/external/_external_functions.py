"""Call external functions: rows become batches, and the replies become the values of the rows.

Source: Snowflake's documentation, "External functions" (data formats, translators, implementation).
"""

import gzip
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import requests

from mlflow_connections_sandbox._journal import RingLog
from mlflow_connections_sandbox._snowflake._errors import SqlError, dotted, external_function
from mlflow_connections_sandbox._snowflake.objects._catalog import CatalogEntry

from ._clouds import Clouds, Refused, api_identity
from ._gateway import OWN_REFUSAL, ApiGateway
from ._javascript import run_javascript


@dataclass
class CallBehavior:
    """Time limits of the stand-in, far below Snowflake's, and faults to inject.

    Attributes:
        retry_seconds: Seconds for which transient failures are retried.
        timeout: Seconds to wait for one reply; Amazon API Gateway's limit is 30.
        poll_seconds: Seconds between two polls after 202.
        poll_limit: Seconds of polling; Snowflake's own limit is 600.
        faults: Pending faults of Snowflake or of a translator: `duplicate`, `row_count` and
            `row_numbers`, each applied once, to the next batch.
        random: The source of the order of batches and rows.
    """

    retry_seconds: float = 2.0
    timeout: float = 30.0
    poll_seconds: float = 0.05
    poll_limit: float = 600.0
    faults: list[str] = field(default_factory=list)
    random: Random = field(default_factory=Random)

    def takes(self, fault: str) -> bool:
        """Remove a fault from the list, and return whether it was there."""
        if fault not in self.faults:
            return False
        self.faults.remove(fault)
        return True


@dataclass(frozen=True)
class BatchDelivery:
    """One HTTP request for a batch, for the journal.

    Attributes:
        function: The external function.
        batch: The ID of the batch, the same for all attempts.
        rows: The number of rows.
        method: POST, or GET for a poll.
        url: The public URL.
        status: The status of the response; 0 if there was none.
    """

    function: str
    batch: str
    rows: int
    method: str
    url: str
    status: int


@dataclass(frozen=True)
class Bound:
    """An external function with all data for a call, as of the compilation of the query.

    Attributes:
        function: The function.
        integration: Its API integration.
        request: Its request translator's body, if it has one.
        response: Its response translator's body, if it has one.
        query: The ID of the calling statement.
        context: The headers for CONTEXT_HEADERS.
    """

    function: CatalogEntry
    integration: CatalogEntry
    request: CatalogEntry | None
    response: CatalogEntry | None
    query: str
    context: Mapping[str, str]


def is_allowed(url: str, integration: Mapping[str, Any]) -> bool:
    """Return whether an integration allows a URL."""
    blocked = integration.get("API_BLOCKED_PREFIXES", ())
    allowed = integration["API_ALLOWED_PREFIXES"]
    if "/../" in f"{url.partition('?')[0]}/":
        # The path could leave the allowed prefix.
        return False
    return any(url.startswith(p) for p in allowed) and not any(url.startswith(p) for p in blocked)


class Remote:
    """The gateways, seen from the account.

    Attributes:
        policy: The time limits, and the faults to inject.
        deliveries: All HTTP requests so far.
    """

    def __init__(self, gateways: Sequence[ApiGateway], clouds: Clouds) -> None:
        self.policy = CallBehavior()
        self.deliveries: RingLog[BatchDelivery] = RingLog()
        self._gateways = gateways
        self._clouds = clouds

    def gateway(self, url: str) -> ApiGateway | None:
        """Return the gateway of a public URL, or None if there is none."""
        for gateway in self._gateways:
            if url == gateway.base or url.startswith((f"{gateway.base}/", f"{gateway.base}?")):
                return gateway
        return None

    def prove(self, bound: Bound, method: str, url: str, body: bytes) -> str:
        """Return the proof of identity of a request.

        Raises:
            SqlError: The cloud does not trust the integration.
        """
        try:
            return self._clouds.prove(api_identity(bound.integration.properties), method, url, body)
        except Refused as refused:
            raise SqlError(100351, "22000", f"SQL execution error: {refused}") from refused


MAX_REPLY_BYTES = 10 * 1024 * 1024
_SNIPPET = 2000
"""The number of characters of a refusal that the error shows."""


class RowBatch:
    """The delivery of one batch of rows."""

    def __init__(
        self,
        remote: Remote,
        bound: Bound,
        http: requests.Session,
        rows: Sequence[Sequence[Any]],
    ) -> None:
        self._remote = remote
        self._policy = remote.policy
        self._bound = bound
        self._http = http
        self._rows = rows
        self._name = bound.function.name[-1]
        self._id = str(uuid.uuid4())
        self._url: str = bound.function.properties["AS"]
        self._retries = 0
        self._seconds = 0.0

    def run(self) -> list[Any]:
        """Deliver the batch and return the values of its rows."""
        data = [[number, *row] for number, row in enumerate(self._rows)]
        body, translator_data = self._translate_request({"data": data})
        payload = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        reply = self._deliver(payload)
        if self._policy.takes("duplicate"):
            reply = self._deliver(payload)
        return self._values(self._translate_reply(reply, translator_data))

    def _translate_request(self, body: Any) -> tuple[Any, Any]:
        translator = self._bound.request
        if translator is None:
            return body, None
        event = {
            "body": body,
            "serviceUrl": self._url,
            "contextHeaders": dict(self._bound.context),
        }
        made = _translate(translator, event)
        unknown = set(made) - {"body", "urlSuffix", "translatorData"}
        if unknown:
            raise self._bad(f"The request translator returned unknown fields {sorted(unknown)}")
        suffix = made.get("urlSuffix", "")
        if not isinstance(suffix, str):
            raise self._bad("The request translator's urlSuffix is no text")
        self._url += suffix
        if not is_allowed(self._url, self._bound.integration.properties):
            raise self._bad(f"URL '{self._url}' is not in the integration's allowed prefixes")
        return made.get("body", body), made.get("translatorData")

    def _translate_reply(self, reply: Any, translator_data: Any) -> Any:
        translator = self._bound.response
        if translator is None:
            return reply
        made = _translate(translator, {"body": reply, "translatorData": translator_data})
        if "body" not in made:
            raise self._bad("The response translator returned no body")
        return made["body"]

    def _deliver(self, payload: bytes) -> Any:
        """Send the batch, retry transient failures, and poll after 202."""
        deadline = time.monotonic() + self._policy.retry_seconds
        pause = 0.05
        while True:
            answer = self._send("POST", payload)
            if isinstance(answer, requests.Response) and answer.status_code == 202:
                answer = self._poll()
            if isinstance(answer, requests.Response):
                if answer.status_code == 200:
                    return self._parse(answer)
                if answer.status_code != 429 and answer.status_code < 500:
                    raise self._failed(answer)
            if time.monotonic() + pause > deadline:
                raise self._failed(answer)
            time.sleep(pause)
            pause *= 2
            self._retries += 1

    def _poll(self) -> requests.Response | requests.RequestException:
        deadline = time.monotonic() + self._policy.poll_limit
        while time.monotonic() < deadline:
            time.sleep(self._policy.poll_seconds)
            answer = self._send("GET", b"")
            if not isinstance(answer, requests.Response) or answer.status_code != 202:
                return answer
        raise self._bad("The remote service did not finish in time")

    def _send(self, method: str, payload: bytes) -> requests.Response | requests.RequestException:
        gateway = self._remote.gateway(self._url)
        started = time.monotonic()
        status = 0
        answer: requests.Response | requests.RequestException
        if gateway is None:
            answer = requests.ConnectionError("Could not resolve host")
        else:
            body = gzip.compress(payload) if payload and self._is_compressed(gateway) else payload
            headers = self._headers(method, body)
            if body is not payload:
                headers["Content-Encoding"] = "gzip"
            try:
                answer = self._http.request(
                    method,
                    gateway.url + self._url.removeprefix(gateway.base),
                    data=body or None,
                    headers=headers,
                    timeout=self._policy.timeout,
                    allow_redirects=False,
                )
                status = answer.status_code
            except requests.RequestException as error:
                answer = error
        self._seconds = time.monotonic() - started
        self._remote.deliveries.add(
            BatchDelivery(self._name, self._id, len(self._rows), method, self._url, status)
        )
        return answer

    def _headers(self, method: str, body: bytes) -> dict[str, str]:
        bound = self._bound
        function, integration = bound.function, bound.integration.properties
        signature = ", ".join(f"{p.name} {p.type.shown}" for p in function.parameters)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "snowflake/1.0",
            "Authorization": self._remote.prove(bound, method, self._url, body),
            "sf-external-function-format": "json",
            "sf-external-function-format-version": "1.0",
            "sf-external-function-current-query-id": bound.query,
            "sf-external-function-query-batch-id": self._id,
            "sf-external-function-name": self._name,
            "sf-external-function-signature": f"({signature})",
            "sf-external-function-return-type": function.returns.shown if function.returns else "",
        }
        for key, value in function.properties.get("HEADERS", {}).items():
            headers[f"sf-custom-{key}"] = value
        headers.update(bound.context)
        if "API_KEY" in integration:
            headers["x-api-key"] = integration["API_KEY"]
        return headers

    def _is_compressed(self, gateway: ApiGateway) -> bool:
        wanted = self._bound.function.properties.get("COMPRESSION", "AUTO")
        return wanted in {"GZIP", "DEFLATE"} or (wanted == "AUTO" and gateway.provider == "aws")

    def _parse(self, answer: requests.Response) -> Any:
        if len(answer.content) > MAX_REPLY_BYTES:
            raise self._bad("The response is larger than 10 MB")
        try:
            return json.loads(answer.content)
        except ValueError:
            shown = answer.text[:_SNIPPET]
            raise self._no_json(f"the response is not valid JSON: '{shown}'") from None

    def _values(self, reply: Any) -> list[Any]:
        """Check the rows of the reply, whose count and numbers must be those of the request."""
        if not isinstance(reply, dict) or not isinstance(reply.get("data"), list):
            raise self._no_json('top-level JSON object must contain "data" JSON array element')
        data = list(reply["data"])
        if self._policy.takes("row_count"):
            data = data[:-1]
        if self._policy.takes("row_numbers"):
            data = [[row[0] + 1, *row[1:]] for row in data]
        if len(data) != len(self._rows):
            raise self._bad(
                f"The number of rows in the response ({len(data)}) does not match the number of rows "
                f"in the request ({len(self._rows)})"
            )
        for number, row in enumerate(data):
            if not isinstance(row, list) or len(row) != 2:
                raise self._bad(f"Row {number} of the response is not [row number, value]")
            if isinstance(row[0], bool) or row[0] != number:
                raise self._bad(f"Row {number} of the response has the row number {row[0]}")
        return [row[1] for row in data]

    def _failed(self, answer: requests.Response | requests.RequestException) -> SqlError:
        if isinstance(answer, requests.Response):
            what = f"{answer.status_code} '{answer.text[:_SNIPPET]}'"
            if OWN_REFUSAL in answer.headers:
                return self._bad(what)
        elif isinstance(answer, requests.Timeout):
            return self._bad("Timeout was reached")
        else:
            what = "Could not connect to the remote service"
        return external_function(self._name, f" with remote service error: {what}; {self._trail()}")

    def _bad(self, text: str) -> SqlError:
        return external_function(self._name, f". Error: {text}; {self._trail()}")

    def _no_json(self, text: str) -> SqlError:
        message = f"Error parsing JSON response for external function {self._name}. Error: {text}"
        return SqlError(100351, "22000", f"{message}; {self._trail()}")

    def _trail(self) -> str:
        return (
            f"requests batch-id: {self._id}; request batch size: {len(self._rows)} rows; request "
            f"retries: {self._retries}; response time (last retry): {self._seconds * 1000:.2f}ms"
        )


def _translate(translator: CatalogEntry, event: dict[str, Any]) -> dict[str, Any]:
    parameter = translator.parameters[0].name
    name = dotted(translator.name)
    made = run_javascript(translator.properties["AS"], {parameter: event}, name)
    if not isinstance(made, dict):
        raise SqlError(100132, "P0000", f"The translator {name} returned no object.")
    return made


class ExternalFunctions:
    """Calls external functions.

    Attributes:
        remote: The gateways.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def call(self, bound: Bound, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Return one value for each row of arguments.

        The rows are sent in batches of at most MAX_BATCH_ROWS. Rows and batches are shuffled, since
        Snowflake promises no order.

        Raises:
            SqlError: A batch failed.
        """
        values: list[Any] = [None] * len(rows)
        order = list(range(len(rows)))
        if bound.function.properties.get("NULLS") == "STRICT":
            order = [i for i in order if all(v is not None for v in rows[i])]
        self.remote.policy.random.shuffle(order)
        size = bound.function.properties.get("MAX_BATCH_ROWS", len(rows)) or 1
        with requests.Session() as http:
            http.trust_env = False
            for start in range(0, len(order), size):
                taken = order[start : start + size]
                batch = RowBatch(self.remote, bound, http, [rows[i] for i in taken])
                for index, value in zip(taken, batch.run(), strict=True):
                    values[index] = value
        return values
