"""The package's docstring: each invariant has tests, and each limit equals the code's."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import mlflow_connections_outbox
from mlflow_connections_outbox import Destination, Event, Policy
from mlflow_connections_outbox._disk import Disk
from mlflow_connections_outbox._files import segments, spool_of
from mlflow_connections_outbox._format import acked_field, encode
from mlflow_connections_outbox._spool import Spool
from mlflow_connections_outbox._writer import Writer

TEXT = mlflow_connections_outbox.__doc__ or ""
HELD_BY: Mapping[int, tuple[str, ...]] = {
    1: (
        "test_a_segment_stays_while_its_owner_lives",
        "test_a_forked_child_has_its_own_outbox",
    ),
    2: (
        "test_a_crash_at_every_step_of_an_append_keeps_what_returned",
        "test_every_event_can_be_synced",
    ),
    3: (
        "test_a_torn_line_is_the_last_of_its_segment",
        "test_a_segment_cut_at_any_byte_returns_every_complete_event",
    ),
    4: (
        "test_a_failure_keeps_the_batch_and_pauses",
        "test_accepted_events_are_never_sent_again",
    ),
    5: (
        "test_only_one_process_takes_events",
        "test_a_segment_stays_while_its_owner_lives",
    ),
    6: (
        "test_a_full_spool_continues_beyond_its_limit",
        "test_some_of_the_disk_stays_free_beyond_the_limit",
        "test_no_dead_letter_is_ever_dropped",
        "test_old_events_are_set_aside_with_a_warning",
    ),
    7: (
        "test_two_machines_that_do_not_see_each_others_locks_lose_nothing",
        "test_a_silent_machine_is_taken_over_once",
        "test_locks_without_exclusion_are_detected",
    ),
}
"""The tests of each invariant. The random runs of `test_file_system.py` check all of them at once."""


def test_each_invariant_has_tests() -> None:
    """A new invariant of the docstring needs an entry, and an entry names existing tests."""
    listed = TEXT.partition("**Invariants**")[2].partition("**Order**")[0]
    assert [int(number) for number in re.findall(r"^(\d)\. ", listed, re.MULTILINE)] == [*HELD_BY]
    written = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = {name for names in HELD_BY.values() for name in names}
    assert {name for name in named if f"\ndef {name}(" not in written} == set()


def test_the_stated_limits_are_those_of_the_code() -> None:
    """Sizes and counts in the docstring are those of the policy and of the format."""
    policy = Policy()
    limits = " ".join(TEXT.partition("**Limits**")[2].partition("**Order**")[0].split())
    assert f"after {policy.segment_bytes >> 20} MiB" in limits
    assert f"{policy.max_bytes >> 30} GiB of waiting events" in limits
    assert f"while the disk has {policy.min_free >> 30} GiB free" in limits
    assert f"up to {policy.max_memory >> 20} MiB" in limits
    assert f"{policy.batch} events and {policy.batch_bytes >> 20} MiB" in limits
    digits = len(acked_field(0).partition(b".")[0])
    assert f"{digits} digits of `acked` allow {10**digits / 1e9:.0f} GB" in limits


class TearingDisk(Disk):
    """A disk that takes only a part of one line, as if it was full for a moment.

    Attributes:
        tears: Whether the next line is torn.
    """

    tears = False

    def write(self, descriptor: int, data: Any) -> int:
        """Write only a part of the line if the next one is torn."""
        if self.tears:
            self.tears = False
            data = data[: len(data) // 2]
        return super().write(descriptor, data)


def test_a_torn_line_is_the_last_of_its_segment(home: Path) -> None:
    """The writer continues in another segment, and everything appended before and after is read."""
    destination = Destination("torn", "http://torn", "a_fake_sink:make")
    disk = TearingDisk()
    writer = Writer(destination, Policy(), disk)
    bodies = [encode(Event("s", "k", n, {"n": n})) for n in range(6)]
    for number, body in enumerate(bodies):
        disk.tears = number == 3
        if disk.tears:
            with pytest.raises(OSError, match="in part"):
                writer.append(body)
        else:
            writer.append(body)
    writer.close()
    folder = spool_of(destination)
    torn, whole = (path.read_bytes() for _, path in sorted(segments(folder)))
    assert not torn.endswith(b"\n")
    assert whole.endswith(b"\n")
    spool = Spool(folder)
    assert spool.try_lock()
    assert [record.event.data["n"] for record in spool.collect(10)] == [0, 1, 2, 4, 5]
    spool.unlock()
