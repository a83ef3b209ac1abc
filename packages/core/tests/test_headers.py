"""Headers stay valid: renewed in time, fetched once for all threads, kept while the issuer is unavailable."""

import threading
import time
from collections.abc import Mapping

import pytest

from mlflow_connections import UnreachableError
from mlflow_connections.headers import Headers, HeaderSource, Renewing


class Counting(HeaderSource):
    """Numbered headers with one lifetime.

    Attributes:
        fetched: The number of fetches.
    """

    def __init__(self, lifetime: float | None) -> None:
        self.lifetime, self.fetched, self.away, self.slow = lifetime, 0, False, 0.0
        self.version = 0

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:
        """Return the next ones."""
        if self.away:
            raise UnreachableError("The issuer is away.")
        time.sleep(self.slow)
        self.fetched += 1
        return Headers({"n": str(self.fetched)}, self.lifetime)

    def mark(self) -> object:
        """Return the version."""
        return self.version


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("mlflow_connections.headers.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the module."""
    return Clock(monkeypatch)


def test_headers_are_renewed_at_four_fifths_of_their_lifetime(clock: Clock) -> None:
    """They are renewed then, and not before."""
    renewing = Renewing(source := Counting(100.0))
    assert renewing.headers() == ({"n": "1"}, 100.0, 80.0)
    clock.now += 79
    assert renewing.headers() == ({"n": "1"}, 21.0, 1.0)
    clock.now += 2
    assert renewing.headers().values == {"n": "2"}
    assert source.fetched == 2


class Parent(HeaderSource):
    """The headers of a process that holds the secret, as its children get them."""

    def __init__(self, renewing: Renewing) -> None:
        self.renewing = renewing

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:
        """Return the parent's headers."""
        return self.renewing.headers(rejected)


def test_a_child_renews_when_its_parent_does(clock: Clock) -> None:
    """Four fifths of a late-fetched token's remaining lifetime would be later than the parent's renewal."""
    child = Renewing(Parent(Renewing(source := Counting(100.0))))
    child.source.fetch(None)
    clock.now += 79
    assert child.headers() == ({"n": "1"}, 21.0, 1.0)
    clock.now += 2
    assert child.headers() == ({"n": "2"}, 100.0, 80.0)
    assert source.fetched == 2


def test_headers_without_a_lifetime_stay(clock: Clock) -> None:
    """Only a refusal or a change of the source renews headers without an expiry."""
    renewing = Renewing(source := Counting(None))
    assert renewing.headers() == ({"n": "1"}, None, None)
    clock.now += 1e9
    assert renewing.headers().values == {"n": "1"}
    source.version += 1
    assert renewing.headers().values == {"n": "2"}


def test_a_refusal_renews_once_for_all(clock: Clock) -> None:
    """Twenty requests that the server refused with the same token fetch one new token."""
    renewing = Renewing(source := Counting(100.0))
    first = renewing.headers().values
    for _ in range(20):
        assert renewing.headers(rejected=first).values == {"n": "2"}
    assert source.fetched == 2


def test_valid_headers_are_kept_while_the_issuer_is_unavailable(clock: Clock) -> None:
    """They are used to the end of their lifetime; then the issuer's error is raised, until the issuer is back."""
    renewing = Renewing(source := Counting(100.0))
    renewing.headers()
    source.away = True
    clock.now += 95
    assert renewing.headers().values == {"n": "1"}
    clock.now += 10
    with pytest.raises(UnreachableError):
        renewing.headers()
    source.away = False
    assert renewing.headers().values == {"n": "2"}


def test_an_unavailable_issuer_is_not_contacted_for_each_request(clock: Clock) -> None:
    """A pause between two attempts keeps a logging loop fast."""
    renewing = Renewing(source := Counting(100.0))
    renewing.headers()
    clock.now += 85
    source.away = True
    renewing.headers()
    source.away = False
    clock.now += 1
    assert renewing.headers().values == {"n": "1"}
    clock.now += 5
    assert renewing.headers().values == {"n": "2"}


def test_one_fetch_serves_twenty_threads() -> None:
    """All threads wait for it, and all get its token."""
    renewing = Renewing(source := Counting(100.0))
    source.slow = 0.05
    found: list[Mapping[str, str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(renewing.headers().values)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"n": "1"}] * 20
    assert source.fetched == 1
