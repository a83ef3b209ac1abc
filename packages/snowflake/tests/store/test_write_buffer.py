"""The write buffer sends values in order, in few requests, and loses none."""

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import UnreachableError
from mlflow_connections_snowflake import MlflowRefusedError
from mlflow_connections_snowflake.store import _write_buffer
from mlflow_connections_snowflake.store._write_buffer import (
    BYTES,
    BufferedEntry,
    RefusedItemsError,
    WriteBuffer,
    body_of,
    cut,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = 3600.0


class Server:
    """Accepts batches as MLflow does: completely, or not at all.

    Attributes:
        stored: Every accepted item, in order.
        requests: The number of requests.
        down: Whether the server is unavailable.
        refuses: Returns whether an item is refused.
    """

    def __init__(self) -> None:
        self.stored: list[tuple[str, Any]] = []
        self.requests = 0
        self.down = False
        self.refuses: Callable[[dict[str, Any]], bool] = lambda _: False

    def __call__(self, body: dict[str, Any]) -> None:
        """Accept a batch."""
        self.requests += 1
        if self.down:
            raise UnreachableError("The gateway is down.")
        items = [(kind, item) for kind in body if kind != "run_id" for item in body[kind]]
        if any(self.refuses(item) for _, item in items):
            raise MlflowRefusedError("F", "INVALID_PARAMETER_VALUE", "No.")
        self.stored += items

    def keys(self) -> list[str]:
        """Return the keys of the stored values."""
        return [item["key"] for _, item in self.stored]


def metric(step: int, key: str = "m") -> dict[str, Any]:
    """A metric's value."""
    return {"key": key, "value": 0.5, "timestamp": 1, "step": step}


def param(key: str, value: str = "v") -> dict[str, Any]:
    """A param, or a tag."""
    return {"key": key, "value": value}


def test_a_thousand_metrics_are_one_request() -> None:
    """Values logged one by one are sent together, in their order."""
    server = Server()
    outgoing = WriteBuffer(server, HOUR)
    for step in range(1000):
        outgoing.add("r", [metric(step)], [], [])
    assert server.requests == 1
    assert [item["step"] for _, item in server.stored] == list(range(1000))


@given(
    st.lists(
        st.tuples(st.sampled_from(["metrics", "params", "tags"]), st.integers(0, 60_000)),
        max_size=60,
    ),
    st.integers(1, 40),
)
def test_requests_keep_mlflows_limits(sizes: list[tuple[str, int]], times: int) -> None:
    """However many values of each kind wait, each request keeps MLflow's limits and no value is omitted."""
    entries = [
        BufferedEntry(kind, {"key": str(number), "value": "x" * size})
        for number, (kind, size) in enumerate(sizes * times)
    ]
    batches = list(cut(entries))
    assert [entry for batch in batches for entry in batch] == entries
    for batch in batches:
        body = body_of("r", batch)
        assert len(body.get("metrics", [])) <= 1000
        assert len(body.get("params", [])) <= 100
        assert len(body.get("tags", [])) <= 100
        assert sum(len(e.item["value"]) for e in batch) <= BYTES


def test_a_read_flushes_its_run() -> None:
    """A flush sends all values of one run, and leaves the others."""
    server = Server()
    outgoing = WriteBuffer(server, HOUR)
    outgoing.add("a", [metric(1, "ma")], [param("pa")], [param("ta")])
    outgoing.add("b", [metric(1, "mb")], [], [])
    outgoing.flush("a")
    assert sorted(server.keys()) == ["ma", "pa", "ta"]
    outgoing.flush_all()
    assert server.keys()[-1] == "mb"
    outgoing.flush_all()
    assert server.requests == 2


def test_old_values_are_sent_with_the_next_call() -> None:
    """Time counts from the oldest value, for every run."""
    server = Server()
    outgoing = WriteBuffer(server, 10.0)
    outgoing.add("a", [metric(1)], [], [])
    outgoing._runs["a"].since -= 11
    outgoing.add("b", [metric(1)], [], [])
    assert server.requests == 1
    assert len(outgoing._runs) == 1


def test_zero_seconds_send_at_once() -> None:
    """With 0 seconds each call is a request."""
    server = Server()
    outgoing = WriteBuffer(server, 0.0)
    outgoing.add("a", [metric(1)], [], [])
    outgoing.add("a", [metric(2)], [], [])
    assert server.requests == 2


def test_the_last_value_of_a_tag_counts() -> None:
    """A tag that is set twice while it waits is sent once."""
    server = Server()
    outgoing = WriteBuffer(server, HOUR)
    outgoing.add("a", [], [param("p"), param("p")], [param("t", "1")])
    outgoing.add("a", [], [], [param("t", "2")])
    outgoing.flush("a")
    assert server.stored == [("params", param("p")), ("tags", param("t", "2"))]


def test_a_refused_item_affects_no_other() -> None:
    """MLflow refuses a whole batch; the faulty items are found and named with their run, and all others stored."""
    server = Server()
    server.refuses = lambda item: item["key"] in {"bad", "worse"}
    outgoing = WriteBuffer(server, HOUR)
    metrics = [metric(step) for step in range(990)]
    outgoing.add("run1", metrics, [param("good"), param("bad")], [param("worse")])
    with pytest.raises(RefusedItemsError) as caught:
        outgoing.flush("run1")
    message = str(caught.value)
    assert "run run1" in message
    assert "param 'bad'" in message
    assert "tag 'worse'" in message
    assert "good" not in message
    assert "\n" not in message
    assert len(server.stored) == 991
    outgoing.flush("run1")
    assert len(server.stored) == 991


def test_the_search_for_faulty_items_is_limited() -> None:
    """If everything is refused, not every value is tried, and all are reported."""
    server = Server()
    server.refuses = lambda _: True
    outgoing = WriteBuffer(server, HOUR)
    with pytest.raises(RefusedItemsError, match="more"):
        outgoing.add("r", [metric(step) for step in range(1000)], [], [])
    assert server.requests < 200


def test_unsent_values_wait() -> None:
    """While the gateway is down everything stays in order, and is sent when it is back."""
    server = Server()
    outgoing = WriteBuffer(server, HOUR)
    outgoing.add("r", [metric(step) for step in range(500)], [param("p")], [param("t", "old")])
    server.down = True
    with pytest.raises(UnreachableError):
        outgoing.flush("r")
    outgoing.add("r", [metric(500)], [], [param("t", "new")])
    server.down = False
    outgoing.flush("r")
    steps = [item["step"] for kind, item in server.stored if kind == "metrics"]
    assert steps == list(range(501))
    assert ("tags", param("t", "new")) in server.stored
    assert ("tags", param("t", "old")) not in server.stored


def test_only_unsent_values_wait() -> None:
    """If the second of two requests fails, the first one is not sent again."""
    server = Server()

    def take_and_go_down(body: dict[str, Any]) -> None:
        server(body)
        server.down = True

    outgoing = WriteBuffer(take_and_go_down, HOUR)
    with pytest.raises(UnreachableError):
        outgoing.add("r", [metric(step) for step in range(1500)], [], [])
    assert len(server.stored) == 1000
    server.down = False
    outgoing.flush("r")
    assert [item["step"] for _, item in server.stored] == list(range(1500))


def test_another_runs_refusal_delays_no_run() -> None:
    """Flushing everything continues after a refusal, and reports it at the end."""
    server = Server()
    server.refuses = lambda item: item["key"] == "bad"
    outgoing = WriteBuffer(server, HOUR)
    outgoing.add("a", [], [param("bad")], [])
    outgoing.add("b", [metric(1)], [], [])
    with pytest.raises(RefusedItemsError, match="run a"):
        outgoing.flush_all()
    assert server.keys() == ["m"]


def test_other_threads_leave_sending_to_the_sessions_thread() -> None:
    """One of MLflow's own threads only adds while few values wait; the session's thread sends."""
    server = Server()
    outgoing = WriteBuffer(server, HOUR)

    def log(count: int) -> None:
        outgoing.add("r", [metric(step) for step in range(count)], [], [])

    def on_a_thread(count: int) -> None:
        thread = threading.Thread(target=log, args=(count,))
        thread.start()
        thread.join()

    on_a_thread(2000)
    assert server.requests == 0
    on_a_thread(_write_buffer._OFF_THREAD_LIMIT)
    assert server.requests == 12
    log(1)
    outgoing.flush("r")
    assert len(server.stored) == 2001 + _write_buffer._OFF_THREAD_LIMIT


def test_a_burst_is_sent_at_once_and_then_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first calls send immediately, so that little is lost with the process; later ones share requests."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    server = Server()
    outgoing = WriteBuffer(server, HOUR, burst=3)
    for step in range(1000):
        outgoing.add("r", [metric(step)], [], [])
    assert server.requests == 3
    assert len(server.stored) == 3
    clock[0] = 2 * HOUR
    outgoing.add("r", [metric(1000)], [], [])
    assert [item["step"] for _, item in server.stored] == list(range(1001))
    outgoing.add("r", [metric(1001)], [], [])
    assert len(server.stored) == 1002
