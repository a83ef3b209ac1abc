r"""A crash-safe outbox: an event is on disk when `append` returns, and another process delivers it.

The outbox depends neither on the content of events nor on their destination; a destination is one `Sink`.
This docstring is the only description of the format of a spool, its invariants, and its recovery.

**Format**

A *spool* is the folder of one destination::

    00000007-9f86d081884c7d65.seg   a segment: the events of one process
    destination.json                name, url, and the sink as `module:function`
    lock                            locked by the process that takes events out
    flush                           touched by a process that waits for delivery
    status.json                     the last report of the shipper
    counts.json                     delivered, rejected, expired, damaged: since the beginning
    not_taken                       the number of events for which neither the disk nor memory had room
    dead_letters.jsonl              rejected events with the reason; dead_letters.1.jsonl is the oldest
    overflow/                       segments beyond the limit of the spool
    aside/                          segments that were too old
    state/                          the sink's state

A *segment* is a header and one line for each event (`\n` occurs only at their ends)::

    outbox/2 acked=00000000312.1f3a created=<ns> boot=<36> host=<64> pid=<10>
    <crc32 of the rest, 8 hex digits> <stamp> ["stream","kind",at,{data}]

The destination has everything before the byte `acked`, which has a checksum of its digits and is
written in place, which works on a full disk. `created` and `stamp` are nanoseconds of the monotonic
clock, which the processes of one boot share. An event's ID is `<name of the segment>:<byte of its line>`;
an event that was set aside and retried has its ID as a fifth element. JSON is ASCII and escapes newlines,
so that a reader finds the next line after any damage. Format 1 (`outbox/1`, `born=`, no host, a plain
`acked`, `refused.jsonl`, `factory` in `destination.json`) is read, not written.

**Invariants**

1. A segment has one writer, who holds a lock on it from before it has its name until the writer ends or
   continues in the next one.
2. An event is written by one `write` to a file opened for appending. When `append` returns, killing
   any process loses nothing; a power failure loses the data that was not synced to the disk: the shipper
   syncs five times a second, or every `append` does (`Policy.sync_events`).
3. A torn line is the last of its segment: after an error its writer starts another one.
4. `acked` only grows, after the destination accepted, and only over accepted events and dead letters
   that were synced to the disk.
5. Only the holder of the spool's lock takes events out, acknowledges and removes. It removes a
   segment when everything in it is acknowledged and its writer is gone.
6. Nothing is removed because delivery failed. A spool at its limit continues in `overflow`, whose segments
   are delivered like the others, until the disk has little room left. Old segments are set aside up to a
   limit, and stay in place beyond it. Dead letters use the room that their segments release; none is dropped.
7. A lock is trusted only where it is visible: within one boot, or on a file system whose locks apply
   across machines. Elsewhere a segment belongs to the machine that its header names, until that has been
   silent for a day; then another machine adopts it by renaming it. A writer that was idle for a second checks
   that its segment still has its name before it writes. Where locks do not exclude other
   processes, no segment is created.

**Limits**

- A writer starts its next segment after 4 MiB. An event may have any size: the 11 digits of `acked` allow
  100 GB for a segment.
- A spool holds 1 GiB of waiting events. Later events go to `overflow` while the disk has 1 GiB free, and then to
  the memory of their process, up to 64 MiB. Events beyond that are lost: they are counted in `not_taken`, and the
  user is warned.
- A batch has at most 500 events and 8 MiB; a single event may be larger.

`Policy` defines these limits, and the variables that change some of them.

**Order**

Events of all processes are merged by their stamps. The shipper reads the clock, then lists the
segments, then delivers events stamped earlier: an event is stamped and written before its append
returns, so every cause of an event with an earlier stamp is already on the disk. Events of other boots
come before or after this one's, according to the numbers of their segments.

**Recovery**

- A damaged line is skipped and counted. A damaged header reads as nothing delivered.
- An `acked` beyond the data, or with a wrong checksum, reads as nothing delivered.
- A segment without a living writer is delivered by the next shipper, then removed.
- A spool that is removed under a living process is created again; only its content is lost.
- Events that the disk does not take are sent from memory, and are lost with the process.

**Delivered twice**

Delivery is at least once, always with the same ID. An event may be delivered twice after a kill or a power
failure between a destination's acceptance and the acknowledgement; after a lost reply, unless the sink
detects it; and after the interrupted retry of a dead letter.
"""

from ._files import common_folder
from ._interface import (
    Batch,
    Destination,
    Event,
    OpenSink,
    Rejected,
    Sink,
    Unauthorized,
    Unavailable,
)
from ._outbox import Outbox, outbox_in_force, shared_outbox
from ._policy import Policy

__all__ = [
    "Batch",
    "Destination",
    "Event",
    "OpenSink",
    "Outbox",
    "Policy",
    "Rejected",
    "Sink",
    "Unauthorized",
    "Unavailable",
    "common_folder",
    "outbox_in_force",
    "shared_outbox",
]
