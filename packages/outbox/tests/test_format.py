"""One event as one line."""

import math
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections_outbox import Event
from mlflow_connections_outbox._format import (
    encode,
    encode_by_standard_library,
    frame,
    make_encode,
    parse,
)

ENCODERS = list(dict.fromkeys([encode_by_standard_library, make_encode()]))
"""One, or two where orjson is installed."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.builds(
    Event, st.text(), st.text(), st.integers(0, 2**62), st.dictionaries(st.text(), JSON, max_size=4)
)


def back(event: Event) -> Event:
    """Write an event with each encoder, and read it again, with the same result."""
    found = [read_back(event, each) for each in ENCODERS]
    assert {repr(each) for each in found} == {repr(found[0])}
    return found[0]


def read_back(event: Event, encoder: Callable[[Event], bytes]) -> Event:
    """Write an event and read it again."""
    line = frame(7, encoder(event))
    assert line.isascii()
    parsed = parse(line.removesuffix(b"\n"), "an-id")
    assert parsed is not None
    assert parsed[0] == 7
    return parsed[1]


@given(EVENTS)
def test_an_event_is_read_back_unchanged(event: Event) -> None:
    """Whatever JSON an event contains, it is read back equal, with its ID."""
    assert back(event) == event._replace(id=event.id or "an-id")


@given(EVENTS, st.integers(0, 2**70))
def test_a_line_has_one_newline_at_its_end(event: Event, stamp: int) -> None:
    """Text with newlines never breaks the framing."""
    assert frame(stamp, encode(event)).index(b"\n") == len(frame(stamp, encode(event))) - 1


@given(EVENTS, st.data())
def test_a_changed_byte_is_detected(event: Event, data: st.DataObject) -> None:
    """No line with a changed byte is accepted as an event."""
    line = bytearray(frame(7, encode(event)).removesuffix(b"\n"))
    position = data.draw(st.integers(0, len(line) - 1))
    before = line[position]
    line[position] = data.draw(st.integers(0, 255).filter(lambda b: b != before))
    parsed = parse(bytes(line), "an-id")
    # The case of a checksum's letter and the byte after it carry no information.
    assert parsed is None or parsed[1] == event._replace(id=event.id or "an-id")


def test_nan_and_infinities_stay_floats() -> None:
    """NaN and the infinities, which JSON lacks, arrive as floats."""
    data = back(Event("s", "k", 0, {"nan": math.nan, "most": math.inf, "least": -math.inf})).data
    assert math.isnan(data["nan"])
    assert (data["most"], data["least"]) == (math.inf, -math.inf)


class Scalar:
    """Imitates a NumPy scalar."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        """Return the Python value."""
        return self.value


def test_values_that_json_lacks_are_converted() -> None:
    """Scalars become numbers, read-only mappings and sets their plain form, keys and the rest text."""
    data: Any = MappingProxyType(
        {1: Scalar(2.5), "s": {3}, "o": complex(1, 2), "m": MappingProxyType({})}
    )
    assert back(Event("s", "k", 0, data)).data == {"1": 2.5, "s": [3], "o": "(1+2j)", "m": {}}


def test_a_lone_surrogate_survives() -> None:
    """Text that UTF-8 cannot encode is preserved."""
    assert back(Event("s", "k", 0, {"name": "\ud800"})).data == {"name": "\ud800"}


class Color(Enum):
    """An enumeration without a number."""

    RED = "red"


class Level(IntEnum):
    """An enumeration of numbers."""

    HIGH = 3


class Pair(NamedTuple):
    """A tuple with names."""

    left: int
    right: int


@dataclass
class Record:
    """A class with fields."""

    field: int


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            "null",
            "\x7f\x00\u2028",
            "ä",
            2**63,
            2**64,
            2**200,
            -(2**70),
            1e16,
            -0.0,
            5e-324,
        ),
        *(math.nan, math.inf, Color.RED, Level.HIGH, Pair(1, 2), Record(1), {"k": Record(1)}, {3}),
        *(datetime(2026, 1, 1, tzinfo=timezone.utc), uuid.UUID(int=1), {1: 2}, {None: 1}, b"bytes"),
    ],
    ids=repr,
)
def test_every_encoder_writes_the_same_event(value: Any) -> None:
    """Any event is read back the same, whichever library wrote it."""
    assert back(Event("s", "k", 0, {"value": value, "after": 1})).data["after"] == 1
    assert back(Event("s", "k", 0, {"value": value}, "its-id")).id == "its-id"


def test_enumerations_become_their_values() -> None:
    """An enum member is written as its value, not as its name."""
    assert back(Event("s", "k", 0, {"c": Color.RED, "l": Level.HIGH})).data == {"c": "red", "l": 3}


def test_without_orjson_the_standard_library_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional: if it is missing or broken, nothing fails."""
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert make_encode() is encode_by_standard_library
    monkeypatch.setitem(sys.modules, "orjson", math)
    assert make_encode() is encode_by_standard_library


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_event_that_contains_itself_is_refused(encoder: Callable[[Event], bytes]) -> None:
    """An event that contains itself cannot be encoded."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(ValueError, match="contains itself"):
        encoder(Event("s", "k", 0, endless))
