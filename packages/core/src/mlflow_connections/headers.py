"""Headers that authenticate requests: their sources, and how they are kept valid.

One fetch serves all threads, at 80 % of a lifetime unless the source requests otherwise. Lifetimes
are measured by the monotonic clock from the moment of the request, so a wrong wall clock does no
harm. While an issuer is unavailable, headers are used to the end of their lifetime; after it, each
request tries again.
"""

import json
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ._errors import AccessError, ConnectionsError

__all__ = [
    "RENEW_AT",
    "FromParent",
    "HeaderSource",
    "Headers",
    "Renewing",
    "fetch_from_agent",
    "is_agent_running",
]

RENEW_AT = 0.8
"""The part of a lifetime after which new headers are fetched."""
# seconds between attempts while the issuer is unavailable and the current headers are still valid
_PAUSE = 5.0
_AGENT_ANSWERS_WITHIN = 60.0  # seconds; the issuer may be slow


class Headers(NamedTuple):
    """Headers that authenticate a request.

    Attributes:
        values: Names and values, most of them secret.
        lifetime: Seconds from now until they expire, or None if that is unknown or never.
        renew_in: Seconds from now until new ones should be fetched, or None if their user decides.
            A process that gets its headers from another one renews at the same time: a fraction of
            the remaining lifetime would be too late.
    """

    values: Mapping[str, str]
    lifetime: float | None = None
    renew_in: float | None = None

    def __repr__(self) -> str:
        """Hide the values."""
        return f"Headers({', '.join(self.values)})"


class HeaderSource(ABC):
    """Fetches headers that authenticate a request. Two equal sources are the same identity."""

    @abstractmethod
    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:
        """Fetch new headers.

        Args:
            rejected: Headers that the server answered with 401; None if it rejected none.

        Raises:
            ConnectionsError: There are none; the message is one sentence.
        """

    def mark(self) -> object:
        """Return a value that changes when headers must be fetched again before they expire."""
        return None

    def describe(self, *, share: bool) -> Mapping[str, Any] | None:  # noqa: ARG002 - for subclasses
        """Return JSON values that rebuild this in another process, or None if only this process can fetch.

        Args:
            share: Whether the description may contain a secret.
        """
        return None


@dataclass(frozen=True, repr=False)
class FromParent(HeaderSource):
    """Headers from the process that holds the secret.

    Attributes:
        agent: The path of that process's socket.
        origin: The origin of the headers, as in `Authenticator`.
    """

    agent: str
    origin: str

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:
        """Fetch them over the socket."""
        return fetch_from_agent(self.agent, self.origin, rejected)

    def describe(self, *, share: bool) -> Mapping[str, Any]:  # noqa: ARG002 - no secret
        """Return the path of the socket."""
        return {"agent": self.agent}


def fetch_from_agent(path: str, origin: str, rejected: Mapping[str, str] | None = None) -> Headers:
    """Fetch headers from the process that holds the secret.

    Args:
        path: The agent's socket; empty on a system that has none.
        origin: The origin of the headers, for messages.
        rejected: As for `HeaderSource.fetch`.

    Raises:
        AccessError: The other process has ended, or has no valid credentials itself.
    """
    import socket

    if not path:
        raise AccessError(
            "This system has no Unix sockets to sign in child processes by: "
            "set `share_with_workers: true` in the connection options."
        )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_AGENT_ANSWERS_WITHIN)
            client.connect(path)
            question = {"origin": origin, "rejected": dict(rejected) if rejected else None}
            client.sendall(json.dumps(question).encode() + b"\n")
            with client.makefile("rb") as stream:
                answer = json.loads(stream.readline() or b"{}")
    except (OSError, ValueError, AttributeError) as error:
        raise AccessError(
            f"The process that holds the secret for {origin} does not answer ({type(error).__name__}), most likely "
            "because it has ended: keep it running, or set `share_with_workers: true` in the connection options."
        ) from None
    if "headers" not in answer:
        raise AccessError(
            str(answer.get("error") or f"The process that holds the secret for {origin} ended.")
        )
    return Headers(answer["headers"], answer["lifetime"], answer["renew_in"])


def is_agent_running(path: str) -> bool:
    """Return whether the process that holds the secret still listens on its socket."""
    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_AGENT_ANSWERS_WITHIN)
            client.connect(path)
    except (OSError, AttributeError):
        return False
    return True


class _Held(NamedTuple):
    values: Mapping[str, str]
    renew: float  # monotonic seconds
    expires: float


class Renewing:
    """A source's headers, kept valid.

    Args:
        source: Fetches new headers.
    """

    def __init__(self, source: HeaderSource) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._mark: object = None
        _all.add(self)

    def headers(self, rejected: Mapping[str, str] | None = None) -> Headers:
        """Return valid headers.

        Args:
            rejected: Headers that the server refused; new ones are fetched if these are still the
                current ones.

        Raises:
            ConnectionsError: There are no valid headers and none could be fetched.
        """
        held = self._held
        if held is None or rejected or not self._is_fresh(held):
            with self._lock:
                held = self._held
                if held is None or not self._is_fresh(held) or dict(held.values) == rejected:
                    held = self._held = self._renewed(held, rejected)
        if held.expires == float("inf"):
            return Headers(held.values)
        now = time.monotonic()
        return Headers(held.values, held.expires - now, max(held.renew - now, 0.0))

    def _is_fresh(self, held: _Held) -> bool:
        return time.monotonic() < held.renew and self.source.mark() == self._mark

    def _renewed(self, held: _Held | None, rejected: Mapping[str, str] | None) -> _Held:
        mark, asked = self.source.mark(), time.monotonic()
        try:
            values, lifetime, renew_in = self.source.fetch(rejected)
        except ConnectionsError:
            if held is None or asked >= held.expires or dict(held.values) == rejected:
                raise
            return held._replace(renew=min(asked + _PAUSE, held.expires))
        self._mark = mark
        if lifetime is None:
            return _Held(values, float("inf"), float("inf"))
        renew = RENEW_AT * lifetime if renew_in is None else renew_in
        return _Held(values, asked + renew, asked + lifetime)


_all: "weakref.WeakSet[Renewing]" = weakref.WeakSet()


def _after_fork() -> None:
    # Another thread of the parent may have held the lock.
    for each in _all:
        each._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
