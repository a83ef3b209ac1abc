"""The outbox of one destination in this process."""

from collections.abc import Mapping

from ._events import Destination, Event


class Outbox:
    """Keeps events on the disk until their destination has them. Safe for threads, fork and spawn.

    Args:
        destination: Where the events go.
        secrets: Environment variables that the sink's factory sees and the disk never does.
    """

    def __init__(self, destination: Destination, secrets: Mapping[str, str] | None = None) -> None:
        raise NotImplementedError

    def append(self, event: Event) -> None:
        """Keep an event: it is on the disk when this returns. Never raises, whatever is wrong."""
        raise NotImplementedError

    def flush(self, timeout: float) -> int:
        """Wait until all that this process appended is delivered, but never long.

        Returns at once where waiting is known to be pointless: the destination just failed, or was
        waited for in vain before and has accepted nothing since.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            How many events of this process still wait.
        """
        raise NotImplementedError
