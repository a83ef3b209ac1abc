r"""A crash-safe outbox: an event is on disk when `append` returns, and another process delivers it.

The outbox knows neither what events say nor where they go; a destination is one `Sink`. This docstring is
the one place for the format of a spool, its invariants, and how it recovers.

**Format**

A *spool* is the folder of one destination::

    00000007-9f86d081884c7d65.seg   a segment: the events of one process
    destination.json                name, url, and the sink as `module:function`
    lock                            locked by whoever takes events out
    flush                           touched by a process that waits for delivery
    status.json                     the last report of the shipper
    counts.json                     delivered, rejected, expired, damaged: since the beginning
    not_taken                       counts of events for which neither the disk nor memory had room
    dead_letters.jsonl              rejected events with the reason; dead_letters.1.jsonl is the oldest
    overflow/                       segments beyond the limit of the spool
    aside/                          segments that were too old
    state/                          the sink's own

A *segment* is a header and one line for each event (`\n` stands once, at the end of each)::

    outbox/2 acked=00000000312.1f3a created=<ns> boot=<36> host=<64> pid=<10>
    <crc32 of the rest, 8 hex digits> <stamp> ["stream","kind",at,{data}]

`acked` is the byte before which the destination has everything, with a checksum of its digits; it is
written in place, so that a full disk allows it. `created` and `stamp` are nanoseconds of the
monotonic clock, which the processes of one boot share. An event's ID is `<name of the segment>:<byte of
its line>`; one that was set aside and retried has its ID as a fifth element. JSON is ASCII and escapes
newlines, so that a reader finds the next line behind any damage. Format 1 (`outbox/1`, `born=`, no host,
a plain `acked`, `refused.jsonl`, `factory` in `destination.json`) is read, not written.

**Invariants**

1. A segment has one writer, who holds a lock on it from before it has its name until the writer ends or
   goes on to the next.
2. An event is written by one `write` to a file opened for appending. When `append` returns, killing
   any process loses nothing; a power cut loses what was not forced to the disk: the shipper does that five
   times a second, or every `append` does (`Policy.sync_events`).
3. A torn line is the last of its segment: after an error its writer begins another one.
4. `acked` grows only after the destination accepted, and only over what it accepted or what is a dead
   letter that was forced to the disk.
5. Only the holder of the spool's lock takes events out, acknowledges and removes. It removes a
   segment when everything in it is acknowledged and its writer is gone.
6. Nothing is removed because delivery failed. A spool at its limit goes on in `overflow`, whose segments are
   delivered like the others, until the disk has little room left. Old segments are set aside up to a bound,
   and stay where they are beyond it. Dead letters take the room that their segments give back; none is dropped.
7. A lock is believed only where it can be seen: on one boot, or on a file system whose locks hold
   among all machines. Elsewhere a segment belongs to the machine that its header names, until it was
   silent for a day; then another machine adopts it by renaming it. A writer that was idle for a second looks
   whether its segment still has its name before it writes. Where locks exclude nobody, no segment is begun.

**Order**

Events of all processes are merged by their stamps. The shipper reads the clock, then lists the
segments, then delivers what is stamped before: an event is stamped and written before its append
returns, so whatever caused an event that is stamped before now is on the disk by now. Events of other boots
stand before or behind this one's, as the numbers of their segments say.

**Recovery**

- A damaged line is passed over and counted. A damaged header reads as nothing delivered.
- An `acked` that points behind the data, or whose checksum is wrong, reads as nothing delivered.
- A segment without a living writer is delivered by the next shipper, then removed.
- A spool that is removed under a living process is created again; only what was in it is lost.
- Events that the disk does not take are sent from memory, and are lost with the process.

**Delivered twice**

Delivery is at least once, always with the same ID: after a kill or a power cut between a
destination's acceptance and the acknowledgement; after a reply that was lost, unless the sink finds out;
and a dead letter whose retry was interrupted.
"""

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
from ._outbox import Outbox, shared_outbox
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
    "shared_outbox",
]
