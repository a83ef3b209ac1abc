"""A proxy equals its object in everything but the replaced methods."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mlflow_connections_events._proxy import call_then, proxy


class Store:
    """A class with state, a method that calls another, a property and a class attribute."""

    shared = "class"

    def __init__(self) -> None:
        self.state = 1

    def outer(self, x: int) -> int:
        """Call another method of its own."""
        return self.inner(x) + self.state

    def inner(self, x: int) -> int:
        """Be called."""
        return x * 10

    @property
    def doubled(self) -> int:
        """Compute from the state."""
        return self.state * 2

    def fails(self) -> None:
        """Fail."""
        raise ValueError("mine")


def test_it_is_an_instance_of_the_same_class_and_shares_all_state() -> None:
    """Class checks hold, and changes of one are visible on the other."""
    store = Store()
    twin = proxy(store, {})
    assert isinstance(twin, Store)
    assert twin is not store
    twin.state = 5
    assert (store.state, twin.doubled, twin.shared) == (5, 10, "class")
    assert twin.__dict__ is store.__dict__
    del twin.state
    assert not hasattr(store, "state")


def test_a_call_of_a_user_is_seen_once_and_an_inner_call_never() -> None:
    """Calls that the store makes to itself are not recorded."""
    store = Store()
    seen: list[tuple[str, dict[str, Any], Any]] = []

    def record(name: str) -> Any:
        def note(arguments: Callable[[], Mapping[str, Any]], result: Any) -> None:
            seen.append((name, dict(arguments()), result))

        return call_then(getattr(store, name), note)

    twin = proxy(store, {name: record(name) for name in ("outer", "inner")})
    assert twin.outer(x=2) == 21
    assert seen == [("outer", {"x": 2}, 21)]


def test_a_failing_call_is_not_recorded_and_its_error_is_the_callers() -> None:
    """An exception passes through unchanged, and the call is not recorded."""
    store = Store()
    seen: list[Any] = []
    twin = proxy(store, {"fails": call_then(store.fails, lambda *a: seen.append(a))})
    with pytest.raises(ValueError, match="mine"):
        twin.fails()
    assert seen == []


def test_later_methods_of_a_store_are_forwarded() -> None:
    """Methods of a later version need no change."""
    store = Store()
    twin = proxy(store, {})
    store.later = lambda: "new"  # type: ignore[attr-defined]  # as a newer version would have
    assert twin.later() == "new"  # type: ignore[attr-defined]


def test_a_proxy_may_appear_as_a_base_of_its_class() -> None:
    """It still does everything that the inner object does."""

    class Base(ABC):
        @abstractmethod
        def name(self) -> str:
            """Return a name."""

    class Kind(Base):
        def name(self) -> str:
            return "inner"

        def more(self) -> str:
            return "more"

    made: Any = proxy(Kind(), {}, Base)
    assert (made.name(), made.more()) == ("inner", "more")
    assert isinstance(made, Base)
    assert not isinstance(made, Kind)
