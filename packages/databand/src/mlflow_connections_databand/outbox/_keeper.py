"""The thread that does behind the user's back what an append must not wait for."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from ._launch import Launcher
from ._policy import Policy
from ._telling import logger
from ._writer import Writer

_WATCH_EVERY = 1.0


class Keeper:
    """Forces events to the disk, keeps a shipper there, and looks at what it reports.

    It sleeps nearly always, so that it takes the interpreter's lock from nobody.

    Args:
        writer: Whose events these are.
        launcher: Starts the shipper.
        policy: How often events are forced to the disk.
        watch: Called with the spool, and the time since which reports are of interest.
    """

    def __init__(
        self,
        writer: Writer,
        launcher: Launcher,
        policy: Policy,
        watch: Callable[[Path, float], None],
    ) -> None:
        self._writer = writer
        self._launcher = launcher
        self._watch = watch
        self._pause = min(policy.sync or _WATCH_EVERY, _WATCH_EVERY)
        self._begun = time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox keeper", daemon=True)

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: The process is ending, or has too many threads.
        """
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        watched = float("-inf")
        while True:
            try:
                if time.monotonic() > watched + _WATCH_EVERY:
                    watched = time.monotonic()
                    self._look_after_shipper()
                self._writer.sync()
            except Exception as error:  # noqa: BLE001 - it comes round again
                logger.debug("The outbox's keeper goes on after %r.", error)
            if self._stop.wait(self._pause):
                return

    def _look_after_shipper(self) -> None:
        if self._writer.mark():
            self._launcher.ensure()
        if folder := self._writer.folder:
            self._watch(folder, self._begun)
