"""Bringing the events of many processes into one order."""

import heapq
from collections.abc import Collection, Iterator

from ._reader import Reader, Record


def merged(readers: Collection[Reader], boot: str, now: int) -> Iterator[Record]:
    """Merge segments by stamp, opening each only where its first event can be next.

    An event is stamped and written before its append returns. So what caused an event that is
    stamped before now is on the disk by now, whichever process wrote it; of what is stamped later
    that cannot be said, and it stays for the next time.

    Args:
        readers: The segments, listed after `now` was read from the clock.
        boot: The current boot. The events of other boots stand before or behind all of it, as the
            numbers of their first segments say.
        now: Nanoseconds of the monotonic clock.
    """
    ranks: dict[str, int] = {}
    for reader in sorted(readers, key=lambda r: r.name):
        ranks.setdefault(reader.header.boot, len(ranks))
    upcoming = sorted(
        readers,
        key=lambda r: (ranks[r.header.boot], r.header.created, r.name),
        reverse=True,
    )
    # The name decides between equal stamps, so that records are never compared.
    heap: list[tuple[int, int, str, Record, Iterator[Record], Reader]] = []
    while upcoming or heap:
        if upcoming and (not heap or _first_possible(upcoming[-1], ranks) <= heap[0][:2]):
            reader = upcoming.pop()
            records = reader.records()
        else:
            *_, record, records, reader = heapq.heappop(heap)
            yield record
        following = next(records, None)
        if following and (following.stamp < now or reader.header.boot != boot):
            rank = ranks[reader.header.boot]
            item = (rank, following.stamp, reader.name, following, records, reader)
            heapq.heappush(heap, item)


def _first_possible(reader: Reader, ranks: dict[str, int]) -> tuple[int, int]:
    return ranks[reader.header.boot], reader.header.created
