"""One event as one line."""

import math
from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections_outbox import Event
from mlflow_connections_outbox._format import encode, frame, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.builds(
    Event, st.text(), st.text(), st.integers(0, 2**62), st.dictionaries(st.text(), JSON, max_size=4)
)


def back(event: Event) -> Event:
    """Write an event and read it again."""
    parsed = parse(frame(7, encode(event)).removesuffix(b"\n"), "an-id")
    assert parsed is not None
    assert parsed[0] == 7
    return parsed[1]


@given(EVENTS)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    """Whatever JSON an event holds, it is read back equal, with its id."""
    assert back(event) == event._replace(id=event.id or "an-id")


@given(EVENTS, st.integers(0, 2**70))
def test_a_line_has_one_newline_at_its_end(event: Event, stamp: int) -> None:
    """Text with newlines never breaks the framing."""
    assert frame(stamp, encode(event)).index(b"\n") == len(frame(stamp, encode(event))) - 1


@given(EVENTS, st.data())
def test_a_changed_byte_is_noticed(event: Event, data: st.DataObject) -> None:
    """No single changed byte passes for an event."""
    line = bytearray(frame(7, encode(event)).removesuffix(b"\n"))
    position = data.draw(st.integers(0, len(line) - 1))
    before = line[position]
    line[position] = data.draw(st.integers(0, 255).filter(lambda b: b != before))
    parsed = parse(bytes(line), "an-id")
    # The case of a checksum's letter and the byte behind it carry nothing.
    assert parsed is None or parsed[1] == event._replace(id=event.id or "an-id")


def test_nan_and_infinities_stay_floats() -> None:
    """What JSON has no word for arrives as the float that it was."""
    data = back(Event("s", "k", 0, {"nan": math.nan, "most": math.inf, "least": -math.inf})).data
    assert math.isnan(data["nan"])
    assert (data["most"], data["least"]) == (math.inf, -math.inf)


class Scalar:
    """Looks like a NumPy scalar."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        """Return the Python value."""
        return self.value


def test_what_is_no_json_becomes_json() -> None:
    """Scalars become numbers, read-only mappings and sets their plain form, keys and the rest text."""
    data: Any = MappingProxyType(
        {1: Scalar(2.5), "s": {3}, "o": complex(1, 2), "m": MappingProxyType({})}
    )
    assert back(Event("s", "k", 0, data)).data == {"1": 2.5, "s": [3], "o": "(1+2j)", "m": {}}


def test_a_lone_surrogate_survives() -> None:
    """Text that UTF-8 cannot carry is carried all the same."""
    assert back(Event("s", "k", 0, {"name": "\ud800"})).data == {"name": "\ud800"}
