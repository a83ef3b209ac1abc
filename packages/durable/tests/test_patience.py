"""Calls with a deadline, and silence after a failed one."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND, INVALID_PARAMETER_VALUE

from mlflow_connections_durable import _patience
from mlflow_connections_durable._patience import Away, Patience


@pytest.fixture
def hang() -> Iterator[Callable[[], None]]:
    """A call that does not return before the test ends."""
    ended = threading.Event()

    def wait() -> None:
        ended.wait()

    yield wait
    ended.set()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten every wait."""
    for name in ("DEADLINE_SECONDS", "_PROBE_EVERY", "_PROBE_SECONDS"):
        monkeypatch.setattr(_patience, name, 0.1)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def refused() -> None:
    """Fail like a port without a listener."""
    raise ConnectionRefusedError


def test_a_result_is_returned() -> None:
    """A successful call costs only a thread."""
    assert Patience("http://m").attempt(lambda: 7) == 7


def test_the_servers_own_error_is_raised() -> None:
    """A refusal is a response, so the server is available."""
    patience = Patience("http://m")

    def refuse() -> None:
        raise MlflowException("no", INVALID_PARAMETER_VALUE)

    with pytest.raises(MlflowException, match="no"):
        patience.attempt(refuse)
    assert not patience.is_silent


def test_a_hanging_server_is_abandoned_after_the_deadline(hang: Callable[[], None]) -> None:
    """It is unknown whether its request arrived."""
    begun = time.monotonic()
    with pytest.raises(Away, match="no response") as caught:
        Patience("http://m").attempt(hang)
    assert caught.value.unsure
    assert time.monotonic() - begun < 60


def test_a_refused_connection_certainly_did_not_arrive() -> None:
    """Nothing has to be searched for later."""
    with pytest.raises(Away) as caught:
        Patience("http://m").attempt(refused)
    assert not caught.value.unsure


def test_a_failing_server_is_not_called_for_a_while() -> None:
    """Within five seconds a call fails at once, without a request."""
    clock, calls = Clock(), []
    patience = Patience("http://m", clock)
    with pytest.raises(Away):
        patience.attempt(refused)
    with pytest.raises(Away):
        patience.attempt(lambda: calls.append(1))
    assert calls == []
    clock.now = _patience.SILENCE_SECONDS + 1
    patience.attempt(lambda: calls.append(2))
    assert calls == [2]


def test_a_slow_read_is_awaited_while_the_server_responds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search may last longer than any deadline, if a probe is answered meanwhile."""
    monkeypatch.setattr(_patience, "_PROBE_EVERY", 0.05)
    probes: list[int] = []

    def search() -> str:
        while len(probes) < 2:
            time.sleep(0.01)
        return "found"

    assert Patience("http://m").wait(search, lambda: probes.append(1)) == "found"


def test_a_read_of_a_hanging_server_ends(hang: Callable[[], None]) -> None:
    """Neither the call nor the probe returns."""
    with pytest.raises(Away, match="probe"):
        Patience("http://m").wait(hang, hang)


def test_a_password_in_the_uri_is_hidden() -> None:
    """Messages show the server without its credentials."""
    with pytest.raises(Away) as caught:
        Patience("http://me:hidden@m").attempt(refused)
    assert "hidden" not in str(caught.value)


def test_a_success_that_proves_nothing_keeps_the_silence(hang: Callable[[], None]) -> None:
    """Cached credentials do not show that the server responds."""
    clock = Clock()
    patience = Patience("http://m", clock)
    with pytest.raises(Away):
        patience.attempt(hang)
    clock.now = _patience.SILENCE_SECONDS + 1
    with pytest.raises(Away):
        patience.attempt(hang)
    silent_until = patience._silent_until
    clock.now = silent_until
    assert patience.attempt(lambda: 7, proves=False) == 7
    assert patience._silent_until == silent_until


def test_few_abandoned_requests_continue() -> None:
    """A client that signs in for minutes does not fill the process with threads; one that ends makes room."""
    clock, ended, calls = Clock(), threading.Event(), []
    patience = Patience("http://m", clock)

    def sign_in() -> None:
        calls.append(1)
        ended.wait()

    for number in range(10):
        clock.now = number * 100.0
        with pytest.raises(Away):
            patience.attempt(sign_in)
    assert len(calls) == _patience.MOST_ABANDONED
    ended.set()
    for running in patience._abandoned:
        running.join()
    clock.now = 2_000.0
    assert patience.attempt(lambda: 7) == 7


@pytest.mark.parametrize("waits", [True, False])
def test_a_call_knows_that_nobody_waits_for_it(waits: bool) -> None:
    """Its next request could undo a later delivery, so it makes none."""
    patience, may_go_on, seen = Patience("http://m"), threading.Event(), []
    done = threading.Event()

    def call() -> None:
        seen.append(_patience.is_abandoned())
        may_go_on.wait()
        seen.append(_patience.is_abandoned())
        done.set()

    with pytest.raises(Away):
        patience.wait(call, refused) if waits else patience.attempt(call)
    may_go_on.set()
    done.wait()
    assert seen == [False, True]
    assert not _patience.is_abandoned()


def lacks() -> None:
    """Fail like a server without an endpoint, or a proxy without a server."""
    raise MlflowException("API request to endpoint /api/2.0/mlflow/x failed", ENDPOINT_NOT_FOUND)


def test_a_server_without_an_endpoint_refuses_the_call() -> None:
    """It answers a probe, so MLflow's own error is raised, and the next call is made."""
    patience = Patience("http://m")
    for call in (patience.attempt, patience.wait):
        with pytest.raises(MlflowException, match="/mlflow/x failed"):
            call(lacks, lambda: 1)
    assert not patience.is_silent


def test_a_proxy_without_a_server_is_away(hang: Callable[[], None]) -> None:
    """Neither a failed probe nor one without an answer shows that there is a server."""
    for probe in (lacks, hang, None):
        with pytest.raises(Away):
            Patience("http://m").attempt(lacks, probe)
