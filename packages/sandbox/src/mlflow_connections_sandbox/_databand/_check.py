"""Check JSON strictly against tables: no unknown field, none missing, none of a wrong type."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any
from uuid import UUID

Check = Callable[[Any, str], None]
"""Raises `Wrong` for a value at a place."""


class Wrong(Exception):  # noqa: N818 - describes a request
    """A request that the tracker refuses; the message contains the place and the reason."""


def text(value: Any, place: str) -> None:
    """Accept any text."""
    _want(isinstance(value, str), place, "text", value)


def short_text(value: Any, place: str) -> None:
    """Accept text of at most 5,000 characters, the most that Databand keeps."""
    text(value, place)
    _want(len(value) <= 5_000, place, "at most 5,000 characters", len(value))


def boolean(value: Any, place: str) -> None:
    """Accept true or false."""
    _want(isinstance(value, bool), place, "true or false", value)


def integer(value: Any, place: str) -> None:
    """Accept a whole number within 1e15, beyond which dbnd itself sends JSON."""
    fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 10**15
    _want(fits, place, "a whole number within 1e15", value)


def number(value: Any, place: str) -> None:
    """Accept a number that is not a boolean."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    _want(is_number, place, "a number", value)


def anything(_value: Any, _place: str) -> None:
    """Accept any JSON."""


def uid(value: Any, place: str) -> None:
    """Accept a UUID in its usual form."""
    try:
        _want(str(UUID(value)) == value.lower(), place, "a UUID", value)
    except (ValueError, AttributeError, TypeError):
        _want(False, place, "a UUID", value)


def moment(value: Any, place: str) -> None:
    """Accept a time with its offset from UTC: without one it would be ambiguous."""
    try:
        _want(datetime.fromisoformat(value).tzinfo is not None, place, "a time with offset", value)
    except (ValueError, TypeError):
        _want(False, place, "a time with offset", value)


def day(value: Any, place: str) -> None:
    """Accept a date."""
    try:
        date.fromisoformat(value)
    except (ValueError, TypeError):
        _want(False, place, "a date", value)


def one_of(*allowed: str) -> Check:
    """Accept one of the given words."""

    def check(value: Any, place: str) -> None:
        _want(value in allowed, place, f"one of {', '.join(allowed)}", value)

    return check


def or_null(check: Check) -> Check:
    """Accept the value, or null."""

    def nullable(value: Any, place: str) -> None:
        if value is not None:
            check(value, place)

    return nullable


def list_of(check: Check) -> Check:
    """Accept a list of values that the check accepts."""

    def each(value: Any, place: str) -> None:
        _want(isinstance(value, list), place, "a list", value)
        for index, item in enumerate(value):
            check(item, f"{place}[{index}]")

    return each


def mapping(value: Any, place: str) -> None:
    """Accept any JSON object."""
    _want(isinstance(value, dict), place, "an object", value)


def fields(table: Mapping[str, Check]) -> Check:
    """Accept an object of exactly these fields; a name that ends with a question mark may be absent."""
    checks = {name.rstrip("?"): check for name, check in table.items()}
    required = {name for name in table if not name.endswith("?")}

    def check_fields(value: Any, place: str) -> None:
        mapping(value, place)
        if unknown := sorted(value.keys() - checks.keys()):
            raise Wrong(f"{place or 'the body'} has unknown fields: {', '.join(unknown)}")
        if missing := sorted(required - value.keys()):
            raise Wrong(f"{place or 'the body'} lacks the fields: {', '.join(missing)}")
        for name, item in value.items():
            checks[name](item, f"{place}.{name}" if place else name)

    return check_fields


_SECRET = re.compile(r"token|secret|password", re.IGNORECASE)


def _want(is_right: bool, place: str, wanted: str, value: Any) -> None:
    if not is_right:
        shown = "***" if _SECRET.search(place) else repr(value)[:80]
        raise Wrong(f"{place} must be {wanted}, not {shown}")
