"""Keep headers valid: one fetch for all threads, renewed at 80 % of their lifetime.

Lifetimes are measured by the monotonic clock from the moment of the request, so a wrong wall clock does no harm. While
the issuer is away, headers are used to the end of their life; after it, each request tries again.
"""

import os
import threading
import time
import weakref
from collections.abc import Mapping
from typing import NamedTuple

from mlflow_connections import ConnectionsError
from mlflow_connections.authentication import Headers

from ._sources import HeaderSource

RENEW_AT = 0.8
"""The part of a lifetime after which new headers are fetched."""
_PAUSE = 5.0  # seconds between tries while the issuer is away and the present headers still hold


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
            rejected: Headers that the server refused; new ones are fetched if these are still the present ones.

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
