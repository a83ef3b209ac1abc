"""Delivery: batches, pauses, and rejected events."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections_outbox import Batch, Event, Policy, Rejected, Unauthorized, Unavailable
from mlflow_connections_outbox._delivery import Delivery
from mlflow_connections_outbox._reader import Record
from mlflow_connections_outbox._status import Status

POLICY = Policy(batch=8, linger=0.0, backoff=10.0, max_backoff=100.0)


class Source:
    """Events in a list."""

    def __init__(self, count: int) -> None:
        self.records = [
            Record(0, n + 1, "list", Event("s", "k", n, {"n": n}, str(n))) for n in range(count)
        ]
        self.rejected: list[int] = []
        self.aged = 0
        self.ahead: list[int] = []

    def collect(self, limit: int) -> list[Record]:
        """Return the first ones."""
        return self.records[:limit]

    def read_ahead(self, limit: int) -> None:
        """Record the limit."""
        self.ahead.append(limit)

    def acknowledge(self, records: Sequence[Record], rejected: int = 0) -> None:
        """Check the order."""
        assert list(records) == self.records[: len(records)]
        del self.records[: len(records)]

    def reject(self, record: Record, reason: str) -> None:
        """Record it."""
        self.rejected.append(record.event.at)

    def postpone(self, record: Record) -> None:
        """Queue it again as the newest one."""
        self.records.append(record._replace(end=self.records[-1].end + 1))

    def expire(self, seconds: float) -> int:
        """Record the call."""
        self.aged += 1
        return 0

    def damaged(self) -> int:
        """Return none."""
        return 0


class Sink:
    """A sink that behaves as a function decides."""

    def __init__(self, behave: Callable[[Sequence[Event]], None]) -> None:
        self.behave = behave
        self.got: list[int] = []
        self.closed = False

    def send(self, events: Batch) -> None:
        """Accept the events that the function allows."""
        self.behave(events)
        self.got += [event.at for event in events]

    def close(self) -> None:
        """Record it."""
        self.closed = True


def deliver(source: Source, sink: Sink, said: list[Status] | None = None) -> Delivery:
    """Create a delivery from a source to a sink."""
    return Delivery(source, lambda: sink, POLICY, (said if said is not None else []).append)


@given(st.sets(st.integers(0, 19)), st.booleans())
def test_only_rejected_events_are_set_aside(bad: set[int], tells: bool) -> None:
    """Whichever events a destination rejects, and whether or not it names them, the rest arrives in order."""

    def behave(events: Sequence[Event]) -> None:
        positions = [i for i, event in enumerate(events) if event.at in bad]
        if positions:
            raise Rejected("nonsense", positions if tells else ())

    source, sink = Source(20), Sink(behave)
    delivery = deliver(source, sink)
    while delivery.step():
        pass
    assert sink.got == [n for n in range(20) if n not in bad]
    assert source.rejected == sorted(bad)
    assert not source.records
    assert delivery.status.rejected == len(bad)


def test_a_failure_during_a_rejection_loses_nothing() -> None:
    """If a destination fails while a faulty event is searched for, the rest is sent again."""
    calls = 0

    def behave(events: Sequence[Event]) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Unavailable("cut")
        if any(event.at == 6 for event in events):
            raise Rejected("nonsense")

    source, sink = Source(8), Sink(behave)
    delivery = Delivery(
        source, lambda: sink, POLICY._replace(backoff=0.0, max_backoff=0.0), lambda _: None
    )
    while source.records:
        delivery.step()
    assert sink.got == [0, 1, 2, 3, 4, 5, 7]
    assert source.rejected == [6]


def test_a_failure_keeps_the_batch_and_pauses() -> None:
    """After a failure nothing is sent before the pause is over, and nothing is acknowledged."""

    def behave(events: Sequence[Event]) -> None:
        raise Unavailable("down")

    source, said = Source(3), list[Status]()
    delivery = deliver(source, Sink(behave), said)
    assert not delivery.step()
    assert 5.0 - 1 < delivery.pause() <= 10.0
    assert not delivery.step()
    assert len(source.records) == 3
    assert [(status.state, status.reason, status.attempts) for status in said] == [
        ("unavailable", "down", 1)
    ]
    assert source.aged == 1


def test_pauses_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further failure pauses for longer, with jitter, but never beyond the policy."""

    def behave(events: Sequence[Event]) -> None:
        raise Unavailable("down")

    delivery = deliver(Source(1), Sink(behave))
    for most in (10, 20, 40, 80, 100, 100):
        delivery._retry_at = float("-inf")
        delivery.step()
        assert most / 2 - 1 < delivery.pause() <= most


def test_a_destination_may_request_a_longer_pause() -> None:
    """Retry-After is respected, also during a flush."""

    def behave(events: Sequence[Event]) -> None:
        raise Unavailable("busy", retry_after=120)

    delivery = deliver(Source(1), Sink(behave))
    delivery.step()
    assert 119 < delivery.pause() <= 120
    assert not delivery.step(flush=True)
    assert delivery.status.attempts == 1


def test_after_a_failure_the_sink_is_opened_again() -> None:
    """Each attempt after a failure reads the credentials again; the old sink is closed."""
    made: list[Sink] = []

    def behave(events: Sequence[Event]) -> None:
        if len(made) == 1:
            raise Unauthorized("no")

    def make() -> Sink:
        made.append(Sink(behave))
        return made[-1]

    source = Source(1)
    delivery = Delivery(source, make, POLICY, lambda _: None)
    assert not delivery.step()
    assert delivery.status.state == "unauthorized"
    delivery._retry_at = float("-inf")
    assert delivery.step()
    assert made[0].closed
    assert delivery.status.state == "ok"
    assert not source.records


@pytest.mark.parametrize("error", [ValueError("odd"), RuntimeError(), OSError(5, "io")])
def test_any_other_exception_counts_as_unavailable(error: Exception) -> None:
    """A sink with a defect loses nothing: its events wait, and its error is reported."""

    def behave(events: Sequence[Event]) -> None:
        raise error

    source = Source(1)
    delivery = deliver(source, Sink(behave))
    assert not delivery.step()
    assert delivery.status.state == "unavailable"
    assert type(error).__name__ in delivery.status.reason
    assert source.records


def test_a_factory_that_fails_loses_nothing() -> None:
    """A destination whose module is not installed counts as unavailable."""

    def make() -> Sink:
        raise ImportError("no such module")

    source = Source(1)
    delivery = Delivery(source, make, POLICY, lambda _: None)
    assert not delivery.step()
    assert "no such module" in delivery.status.reason
    assert source.records


def test_no_secret_of_a_url_is_shown() -> None:
    """A sink's message is shown to people, so credentials are removed from its URLs."""

    def behave(events: Sequence[Event]) -> None:
        raise Unavailable("cannot reach https://me:hunter2@host/?token=abc123")

    delivery = deliver(Source(1), Sink(behave))
    delivery.step()
    assert "hunter2" not in delivery.status.reason
    assert "abc123" not in delivery.status.reason
    assert "host" in delivery.status.reason


def test_a_batch_waits_to_grow_for_a_limited_time() -> None:
    """A new and small batch waits; a full, old or flushed one is sent."""
    source = Source(3)
    now = time.monotonic_ns()
    source.records = [record._replace(stamp=now) for record in source.records]
    delivery = Delivery(
        source, lambda: Sink(lambda _: None), POLICY._replace(linger=3600), lambda _: None
    )
    assert not delivery.step()
    assert delivery.has_work
    assert delivery.step(flush=True)
    source.records = [record._replace(stamp=now) for record in Source(8).records]
    assert delivery.step()
    source.records = [record._replace(stamp=now - 3601 * 10**9) for record in Source(1).records]
    assert delivery.step()
    source.records = [record._replace(stamp=now + 10**15) for record in Source(1).records]
    assert delivery.step()


class Prefix:
    """A sink that accepts some events of each batch, one request each, and then fails."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.requests: list[int] = []

    def send(self, batch: Batch) -> None:
        """Accept some."""
        for count, event in enumerate(batch):
            if count == self.takes:
                raise Unavailable("out of time")
            self.requests.append(event.at)
            batch.accept(count + 1)

    def close(self) -> None:
        """Do nothing."""


QUICK = POLICY._replace(backoff=0.0, max_backoff=0.0, batch=500)


def test_the_sink_opens_while_the_batch_grows() -> None:
    """Events that arrive during the opening, which may take a second, are part of the first batch."""
    source, sink = Source(1), Sink(lambda _: None)
    source.records = [source.records[0]._replace(stamp=time.monotonic_ns())]
    opened: list[int] = []

    def open_sink() -> Sink:
        opened.append(len(source.records))
        source.records += Source(3).records[1:]
        return sink

    delivery = Delivery(source, open_sink, POLICY._replace(linger=60.0), lambda _: None)
    assert not delivery.step()
    assert (opened, sink.got) == ([1], [])
    assert delivery.step(flush=True)
    assert (opened, sink.got) == ([1], [0, 1, 2])


def test_accepted_events_are_never_sent_again() -> None:
    """A sink that accepts 30 of 500 events before its time is up repeats none of them."""
    source, sink = Source(500), Prefix(30)
    delivery = Delivery(source, lambda: sink, QUICK, lambda _: None)
    steps = 0
    while source.records:
        delivery.step()
        steps += 1
    assert sink.requests == list(range(500))
    assert steps < 100
    assert delivery.delivered == 500


@pytest.mark.parametrize("most", [1, 7, 60, 250])
def test_batches_shrink_to_an_acceptable_size(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches shrink until one is accepted and grow again, so that little is sent twice."""
    clock = 0.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    sent = 0

    def behave(events: Sequence[Event]) -> None:
        nonlocal sent, clock
        sent += len(events)
        clock += 2.0
        if len(events) > most:
            raise Unavailable("out of time")

    source, sink = Source(3000), Sink(behave)
    delivery = Delivery(source, lambda: sink, QUICK, lambda _: None)
    while source.records:
        delivery.step(flush=True)
        clock += 10.0
    assert sink.got == list(range(3000))
    assert sent < 3 * 3000


def test_the_next_batch_is_read_during_a_send() -> None:
    """Another thread reads ahead during a send, unless everything is already being sent."""
    source = Source(20)
    read = threading.Event()

    def read_ahead(limit: int) -> None:
        source.ahead.append(limit)
        read.set()

    def behave(events: Sequence[Event]) -> None:
        if len(events) == POLICY.batch:
            assert read.wait(30)
            read.clear()

    source.read_ahead = read_ahead  # type: ignore[method-assign]
    sink = Sink(behave)
    delivery = Delivery(source, lambda: sink, POLICY, lambda _: None, read_ahead=True)
    while delivery.step(flush=True):
        pass
    assert sink.got == list(range(20))
    assert source.ahead == [16, 16]
    assert "read ahead" in {thread.name for thread in threading.enumerate()}
    delivery.close()
    assert "read ahead" not in {thread.name for thread in threading.enumerate()}


def test_a_fault_while_reading_ahead_does_not_fail_the_send() -> None:
    """It occurs again, and is raised, when the events are collected."""
    source = Source(20)

    def read_ahead(limit: int) -> None:
        raise OSError(5, "io")

    source.read_ahead = read_ahead  # type: ignore[method-assign]
    sink = Sink(lambda _: None)
    delivery = Delivery(source, lambda: sink, POLICY, lambda _: None, read_ahead=True)
    while delivery.step(flush=True):
        pass
    delivery.close()
    assert sink.got == list(range(20))
    assert delivery.status.state == "ok"


def test_batches_are_full_again_soon_after_an_outage() -> None:
    """A destination that was down for a while gets full batches after a few small ones."""
    down = True
    sizes: list[int] = []

    def behave(events: Sequence[Event]) -> None:
        if down:
            raise Unavailable("down")
        sizes.append(len(events))

    source, sink = Source(5000), Sink(behave)
    delivery = Delivery(source, lambda: sink, QUICK, lambda _: None)
    for _ in range(20):
        delivery.step()
    assert delivery.limit == 1
    down = False
    while source.records:
        delivery.step()
    assert sizes[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert sizes[9] == 500


@pytest.mark.parametrize("tells", [True, False])
def test_after_a_rejection_only_unaccepted_events_are_sent_again(tells: bool) -> None:
    """A sink that posts event by event, and is stopped by a faulty one, posts none of the others twice."""
    posted: list[int] = []

    class Posting(Prefix):
        def send(self, batch: Batch) -> None:
            for position, event in enumerate(batch):
                if event.at % 50 == 49:
                    raise Rejected("nonsense", [position] if tells else ())
                posted.append(event.at)
                batch.accept(position + 1)

    source = Source(199)
    delivery = Delivery(source, lambda: Posting(0), QUICK, lambda _: None)
    while source.records:
        delivery.step()
    assert posted == [n for n in range(199) if n % 50 != 49]
    assert source.rejected == [49, 99, 149]


def test_a_sink_may_reject_single_events_and_continue() -> None:
    """`batch.reject` sets events aside in the middle of a send, which then accepts the rest."""

    class Choosy(Prefix):
        def send(self, batch: Batch) -> None:
            for position, event in enumerate(batch):
                if event.at in {2, 5}:
                    batch.reject(position, "token=hunter2 is nonsense")

    source, said = Source(8), list[Status]()
    delivery = Delivery(source, lambda: Choosy(0), QUICK, said.append)
    assert delivery.step()
    assert (source.records, source.rejected, delivery.delivered) == ([], [2, 5], 6)
    assert "hunter2" not in said[0].rejection


def test_a_long_send_is_reported_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a destination does not respond, the status is not ok."""
    said: list[Status] = []
    clock = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: clock)

    def behave(events: Sequence[Event]) -> None:
        nonlocal clock
        delivery.report_stall()
        assert said == []
        clock += 5.0
        delivery.report_stall()
        delivery.report_stall()
        assert [status.state for status in said] == ["waiting"]

    delivery = deliver(Source(1), Sink(behave), said)
    assert delivery.step()
    assert [status.state for status in said] == ["waiting", "ok"]
    assert 4 < time.time() - said[0].since < 6


def test_a_batch_counts_accepted_events() -> None:
    """Accepting fewer than before changes nothing; accepting too many, and rejecting accepted ones, is an error."""
    accepted: list[int] = []
    batch = Batch([Event("s", "k", n, {}) for n in range(3)], accepted.append)
    batch.accept(2)
    batch.accept(1)
    assert (accepted, batch.accepted, len(batch), batch[1].at) == ([2], 2, 3, 1)
    with pytest.raises(ValueError, match="cannot accept 4"):
        batch.accept(4)
    with pytest.raises(ValueError, match="cannot be rejected"):
        batch.reject(1, "late")
    with pytest.raises(Rejected) as rejection:  # this source has no dead letters
        batch.reject(2, "no")
    assert rejection.value.positions == {2}


def test_a_postponed_event_is_sent_after_the_others() -> None:
    """It is not counted as delivered before it is, and the others do not wait for it."""
    source, tries = Source(3), [0]

    def postpone_the_first(events: Batch) -> None:
        for position, event in enumerate(events):
            if event.at == 0 and not tries[0]:
                tries[0] += 1
                events.postpone(position)

    sink = Sink(postpone_the_first)  # type: ignore[arg-type]
    delivery = deliver(source, sink)
    assert delivery.step()
    assert sink.got == [0, 1, 2]  # the batch as a whole
    assert delivery.delivered == 2
    assert delivery.step()
    assert (sink.got[3:], delivery.delivered, source.records) == ([0], 3, [])


def test_a_batch_that_cannot_postpone_keeps_its_event() -> None:
    """An event that was accepted before, or of a batch without a queue, is not postponed."""
    batch = Batch([Event("s", "k", 1, {})] * 2)
    with pytest.raises(Unavailable):
        batch.postpone(0)
    batch.accept(1)
    with pytest.raises(ValueError, match="Event 0 of 2"):
        batch.postpone(0)
