"""The file system as the outbox uses it, in one object that tests replace with a simulated one."""

import hashlib
import os
import re
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # on Windows an outbox works in memory
    fcntl = None  # type: ignore[assignment]

# Only one machine can mount these for writing.
_LOCAL = frozenset(
    [
        "apfs",
        "bcachefs",
        "btrfs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "hfs",
        "jfs",
        "nilfs2",
        "ntfs3",
        "overlay",
        "ramfs",
        "reiserfs",
        "tmpfs",
        "ufs",
        "vfat",
        "xfs",
        "zfs",
    ]
)
# Their locks apply across machines unless a mount option disables that.
_COHERENT = frozenset({"ceph", "cifs", "gfs2", "gpfs", "nfs", "nfs4", "ocfs2", "smb3"})
_PRIVATE_LOCKS = frozenset({"local_lock=all", "local_lock=flock", "nobrl", "nolock"})


class Machine(NamedTuple):
    """A running operating system.

    Attributes:
        host: A name that survives a reboot.
        boot: Identifies the boot. Processes of one boot share a monotonic clock, and see each
            other's locks.
    """

    host: str
    boot: str


class FileStatus(NamedTuple):
    """A file's size in bytes, and the time of the last write, in seconds since the epoch."""

    size: int
    mtime: float


class Disk:
    """The system calls of an outbox. Every method may raise OSError."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    write = staticmethod(os.write)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    names = staticmethod(os.listdir)
    truncate = staticmethod(os.ftruncate)
    monotonic_ns = staticmethod(time.monotonic_ns)

    if sys.platform != "win32":
        pread = staticmethod(os.pread)
        pwrite = staticmethod(os.pwrite)

    def is_supported(self) -> bool:
        """Return whether this operating system has the features that an outbox on disk needs."""
        return fcntl is not None

    def machine(self) -> Machine:
        """Return the machine that this process runs on."""
        return _machine()

    def time(self) -> float:
        """Return the time of the wall clock, in seconds since the epoch."""
        return time.time()

    def size(self, descriptor: int) -> int:
        """Return the size of an open file, in bytes."""
        return os.fstat(descriptor).st_size

    def is_linked(self, descriptor: int) -> bool:
        """Return whether an open file still has a name and was not removed."""
        return os.fstat(descriptor).st_nlink > 0

    def is_named(self, descriptor: int, path: Path) -> bool:
        """Return whether a path leads to an open file."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116 - one call
        except FileNotFoundError:
            return False

    def status(self, path: Path) -> FileStatus:
        """Read the size of a file and the time of its last write."""
        found = os.stat(path)  # noqa: PTH116 - names are plain strings in hot loops
        return FileStatus(found.st_size, found.st_mtime)

    def free(self, path: Path) -> int:
        """Return the free bytes for this user on the file system of a path."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def touch(self, path: Path) -> None:
        """Create a file unless it exists, and set its modification time to now."""
        path.touch(mode=0o600)
        os.utime(path)

    def make_folder(self, path: Path) -> None:
        """Create a private folder unless it exists."""
        path.mkdir(mode=0o700, exist_ok=True)

    def sync(self, descriptor: int) -> None:
        """Sync an open file to the disk."""
        # macOS has only the stronger call.
        getattr(os, "fdatasync", os.fsync)(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Sync the names in a folder to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, descriptor: int) -> bool:
        """Lock a file unless another opening of it holds the lock, also one of this process.

        The lock ends when every copy of the descriptor is closed, so a forked child must close its
        own and must never unlock.

        Returns:
            Whether the lock is held now.
        """
        if fcntl is None:
            raise OSError("This operating system has no file locks that suit an outbox.")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def sees_other_machines(self, folder: Path) -> bool:
        """Return whether locks in a folder show those of every other machine, or no other machine can write to it."""
        return sees_other_machines(*mount_of(folder))


DISK = Disk()


def sees_other_machines(kind: str, options: frozenset[str]) -> bool:
    """Return whether a file system's locks are visible to all machines that can write to it.

    Args:
        kind: The type of the file system, as the kernel names it; empty if unknown.
        options: Its mount options.
    """
    if kind == "lustre":
        return "flock" in options and "localflock" not in options
    if kind in _COHERENT:
        return not options & _PRIVATE_LOCKS
    return kind in _LOCAL


@lru_cache(maxsize=16)
def mount_of(folder: Path) -> tuple[str, frozenset[str]]:
    """Read the type and the options of the file system that holds a folder; empty if unknown."""
    if os.name != "posix":
        return "", frozenset()
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        # macOS mounts homes from the network only if an administrator sets that up.
        return ("apfs" if os.uname().sysname == "Darwin" else ""), frozenset()
    return find_mount(text, os.path.realpath(folder))


def find_mount(mountinfo: str, path: str) -> tuple[str, frozenset[str]]:
    """Find the type and the options of the file system at a path in the kernel's mount table."""
    best, found = -1, ("", frozenset[str]())
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, more = left.split(), right.split()
        if len(fields) < 6 or len(more) < 3:
            continue
        point = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), fields[4])
        # Of two mounts at one point the later one is visible.
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= best:
            best = len(point)
            found = more[0], frozenset([*fields[5].split(","), *more[2].split(",")])
    return found


@lru_cache(maxsize=1)
def _machine() -> Machine:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename if hasattr(os, "uname") else "")
    digest = hashlib.sha256(_read("/etc/machine-id").encode()).hexdigest()[:8]
    return Machine(f"{name[:48]}.{digest}", _boot())


def _boot() -> str:
    text = _read("/proc/sys/kernel/random/boot_id")
    if len(text) == 36:
        return text
    # Other systems: the minute of the boot. If the clock is set, one boot has two names, and its
    # segments are then ordered only by their numbers.
    return f"{int((time.time() - time.monotonic()) // 60):036x}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
