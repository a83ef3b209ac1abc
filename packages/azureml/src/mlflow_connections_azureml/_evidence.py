"""What is behind an exception of Azure's clients: an HTTP answer, or a host that gave none."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

# msal keeps no more of an answer that has no JSON.
_MSAL_STATUS = re.compile(r"HTTP Error: (\d{3})")
# What is no code may be anything, so it is not shown.
_CODE = re.compile(r"\w{1,60}")


class Answer(NamedTuple):
    """An answer that is an error.

    Attributes:
        status: Its HTTP status.
        code: Azure's own code for it.
        host: Who gave it; empty where that is not known.
    """

    status: int
    code: str
    host: str = ""


def chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error and all that it was raised from: clients wrap the telling one several times."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        current = todo.pop(0)
        if not isinstance(current, BaseException) or any(current is s for s in seen):
            continue
        seen.append(current)
        yield current
        todo += [current.__cause__, current.__context__, getattr(current, "inner_exception", None)]


def unreachable_host(error: BaseException) -> str | None:
    """Give the host that could not be talked to; empty where it is not known, None for no such."""
    import requests
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    kinds = (ServiceRequestError, ServiceResponseError, requests.ConnectionError, requests.Timeout)
    failures = [e for e in chain(error) if isinstance(e, kinds)]
    if not failures:
        return None
    requested = (getattr(getattr(e, "request", None), "url", None) for e in failures)
    return next((urlsplit(url).hostname or "" for url in requested if isinstance(url, str)), "")


def login_status(error: BaseException) -> int:
    """Give the status of Entra ID's answer behind an error; 0 where there is none."""
    if (answer := answer_behind(error)) is not None:
        return answer.status
    match = _MSAL_STATUS.search(str(error))
    return int(match[1]) if match else 0


def answer_behind(error: BaseException) -> Answer | None:
    """Find the HTTP answer behind an error of azure-core, msrest or requests."""
    for each in chain(error):
        response = getattr(each, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return answer_of(response)
    return None


def answer_of(response: Any) -> Answer:
    """Read an error of Azure, as requests or azure-core received it; a gateway's page has no code."""
    try:
        body = response.json() if hasattr(response, "json") else None
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    url = getattr(getattr(response, "request", None), "url", None) or ""
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        code = "no code"
    return Answer(response.status_code, code, urlsplit(url).hostname or "")
