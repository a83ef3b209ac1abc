"""A line on a terminal that shows the progress of a copy. Nothing is written if the output is not a terminal."""

import shutil
import sys
import threading

_BAR = 24


class ProgressLine:
    """Counts items, not bytes: a run with a large file takes longer than its share of the bar.

    Safe for threads.
    """

    def __init__(self) -> None:
        self._total = 0
        self._done = 0
        self._is_shown = sys.stderr.isatty()
        self._lock = threading.Lock()

    def expect(self, count: int) -> None:
        """Add items to the expected total."""
        self._total += count

    def show(self, kind: str, name: str) -> None:
        """Show the item that is being copied."""
        filled = _BAR * self._done // max(self._total, 1)
        bar = "#" * filled + "-" * (_BAR - filled)
        self._write(f"[{bar}] {self._done}/{self._total}  {kind} {name}")

    def advance(self) -> None:
        """Count an item as copied."""
        with self._lock:
            self._done += 1

    def close(self) -> None:
        """Remove the line, so that later output begins on an empty one."""
        self._write("")

    def _write(self, line: str) -> None:
        if self._is_shown and self._total:
            width = shutil.get_terminal_size().columns - 1
            # Control characters in a name must not move the cursor.
            text = "".join(c if c.isprintable() else "?" for c in line)[:width]
            with self._lock:
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()
