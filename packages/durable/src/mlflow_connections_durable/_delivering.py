"""The mark of a delivering thread, whose calls to MLflow must reach the server and no outbox."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_thread = threading.local()


def is_delivering() -> bool:
    """Return whether the current thread delivers events."""
    return getattr(_thread, "delivers", False)


@contextmanager
def delivering() -> Iterator[None]:
    """Mark the current thread as one that delivers."""
    before = is_delivering()
    _thread.delivers = True
    try:
        yield
    finally:
        _thread.delivers = before
