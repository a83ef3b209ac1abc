"""One time limit for calls that have none themselves."""

import threading

import pytest

from mlflow_connections import AccessError, UnreachableError
from mlflow_connections.deadline import Deadline, left_a_thread


def test_a_result_is_returned() -> None:
    """The caller gets the call's result."""
    assert Deadline(60).call("the moon", lambda: 7) == 7


def test_an_error_is_raised() -> None:
    """The caller gets the call's error unchanged."""

    def fail() -> None:
        raise AccessError("no")

    with pytest.raises(AccessError, match=r"^no$"):
        Deadline(60).call("the moon", fail)


def test_a_hanging_call_is_left_behind() -> None:
    """A call that never ends is abandoned; the message names the time, the request, and the remedy.

    Its thread counts as left behind until it ends.
    """
    never, deadline = threading.Event(), Deadline(0.2, "Look up.")
    with pytest.raises(
        UnreachableError, match=r"^Gave up after 0\.2 s, waiting for the moon\. Look up\.$"
    ):
        deadline.call("the moon", never.wait)
    assert left_a_thread()
    never.set()
    for thread in threading.enumerate():
        if thread.name == "mlflow-connections-check":
            thread.join()
    assert not left_a_thread()


def test_the_remaining_time_counts_down() -> None:
    """It decreases, and is never zero: no client accepts a timeout of 0."""
    left = Deadline(60).left
    assert left is not None
    assert 50 < left <= 60
    assert Deadline(0).left == pytest.approx(0.1)
    assert Deadline(None).left is None
