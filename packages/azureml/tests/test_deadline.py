"""The one limit of time."""

import threading

import pytest

from mlflow_connections import AccessError, UnreachableError
from mlflow_connections_azureml._deadline import RequestDeadline


def test_result_is_given() -> None:
    """The result of the call is returned."""
    assert RequestDeadline(60).run(lambda: 7) == 7


def test_error_is_raised() -> None:
    """An exception of the call is raised as it is."""

    def fail() -> None:
        raise AccessError("no")

    with pytest.raises(AccessError, match=r"^no$"):
        RequestDeadline(60).run(fail)


def test_hanging_call_is_left_behind() -> None:
    """A call that never ends is given up, and the message says who was asked last, and the time."""
    never, deadline = threading.Event(), RequestDeadline(0.2)

    def hang() -> None:
        deadline.waiting_for = "The moon"
        never.wait()

    with pytest.raises(UnreachableError, match=r"^The moon did not answer within 0\.2 s"):
        deadline.run(hang)
    never.set()


def test_left_counts_down_to_a_moment() -> None:
    """The remaining time shrinks and never reaches 0, which no client takes as a timeout."""
    assert 50 < RequestDeadline(60).left <= 60
    assert RequestDeadline(0).left == pytest.approx(0.1)
