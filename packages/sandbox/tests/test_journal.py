"""The journal keeps the newest entries."""

from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections_sandbox._journal import RingLog


def test_everything_is_kept_by_default() -> None:
    """A test finds the first entry, however many followed."""
    kept: RingLog[int] = RingLog()
    for item in range(5000):
        kept.add(item)
    assert kept.all() == list(range(5000))


def test_only_the_newest_are_kept_on_request() -> None:
    """A limit drops existing older entries, too."""
    kept: RingLog[str] = RingLog()
    for item in "abcde":
        kept.add(item)
    kept.keep(3)
    kept.add("f")
    assert kept.all() == ["d", "e", "f"]


@given(st.lists(st.sampled_from(["add", "clear", "keep 2"]), max_size=40), st.integers(0, 5))
def test_a_number_belongs_to_one_entry_for_ever(steps: list[str], count: int) -> None:
    """The newest come first, each with the number that it had on arrival."""
    kept: RingLog[int] = RingLog()
    added = 0
    for step in steps:
        if step == "add":
            kept.add(added)
            added += 1
        elif step == "clear":
            kept.clear()
        else:
            kept.keep(2)
    newest = kept.newest(count)
    assert [number for number, item in newest] == [item for number, item in newest]
    assert [item for _, item in newest] == kept.all()[::-1][:count]
