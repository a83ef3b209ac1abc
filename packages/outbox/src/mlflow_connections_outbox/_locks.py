"""Locks that end with the process that holds them, however it ends."""

try:
    import fcntl
except ImportError:  # Windows: an outbox there works in memory
    fcntl = None  # type: ignore[assignment]


def try_lock(descriptor: int) -> bool:
    """Lock a file unless another opening of it holds the lock, also one of this process.

    The lock ends when every copy of the descriptor is closed, so a forked child has to close its
    own and must never unlock.

    Raises:
        OSError: The file system, or the operating system, has no such locks.
    """
    if fcntl is None:
        raise OSError("This operating system has no file locks that suit an outbox.")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
