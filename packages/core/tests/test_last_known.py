"""The last known address of a server, while the service that returns it does not respond."""

import logging
import threading

import pytest

from mlflow_connections import AccessError, UnreachableError
from mlflow_connections.deadline import Deadline
from mlflow_connections.last_known import allowed, fetched


class Store:
    """Keeps addresses in memory."""

    def __init__(self, **known: str) -> None:
        self.known = known

    def read(self, key: str) -> str | None:
        """Return an address."""
        return self.known.get(key)

    def write(self, key: str, uri: str) -> None:
        """Store an address."""
        self.known[key] = uri


def away(seconds: float | None) -> str:
    """Fail as for a service that does not respond."""
    raise UnreachableError("The service is down. Try again.")


def refused(seconds: float | None) -> str:
    """Fail as for a wrong credential."""
    raise AccessError("no")


def test_outside_of_a_block_the_service_must_respond() -> None:
    """Nothing is stored or read unless a product allows it."""
    with pytest.raises(UnreachableError, match=r"^The service is down\. Try again\.$"):
        fetched("ws", "the workspace", away)


def test_the_address_of_last_time_is_used_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The service is asked first, and its answer is stored for the time when it does not respond."""
    store = Store(ws="x://old")
    with allowed(store, 60):
        assert fetched("ws", "the workspace", lambda seconds: "x://new") == "x://new"
        with caplog.at_level(logging.WARNING):
            assert fetched("ws", "the workspace", away) == "x://new"
    assert caplog.messages == [
        "The service is down. Try again. The last known address of the workspace is used: x://new."
    ]


def test_a_service_that_hangs_is_waited_for_only_if_its_address_is_unknown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a known address the wait has the block's limit, and the message names it and the service."""
    never = threading.Event()
    limits: list[float | None] = []

    def hangs(seconds: float | None) -> str:
        limits.append(seconds)
        if seconds is not None:
            Deadline(seconds, "Check the network.").call("the service", never.wait)
        return "x://late"

    with allowed(Store(ws="x://old"), 0.1), caplog.at_level(logging.WARNING):
        assert fetched("ws", "the workspace", hangs) == "x://old"
        assert fetched("other", "the workspace", hangs) == "x://late"
    assert fetched("ws", "the workspace", hangs) == "x://late"
    never.set()
    assert limits == [0.1, None, None]
    (told,) = caplog.messages
    assert told == (
        "Gave up after 0.1 s, waiting for the service. Check the network. The last known address of the "
        "workspace is used: x://old."
    )


def test_a_stored_address_of_another_server_is_not_used() -> None:
    """A file that was damaged or copied sends nothing to another server."""
    with allowed(Store(ws="y://other"), 60), pytest.raises(UnreachableError):
        fetched("ws", "the workspace", away, lambda uri: uri.startswith("x://"))


def test_without_an_earlier_address_the_error_is_raised() -> None:
    """Another server's address is never used, and the error ends with the connection's own remedy."""
    says = r"^The service is down\. Try again\. Set an address\.$"
    with allowed(Store(other="x://other"), 60), pytest.raises(UnreachableError, match=says):
        fetched("ws", "the workspace", away, unknown="Set an address.")


def test_a_refused_credential_is_an_error_whatever_is_known() -> None:
    """Only silence is bridged."""
    with allowed(Store(ws="x://old"), 60), pytest.raises(AccessError):
        fetched("ws", "the workspace", refused)
