"""The folder of a destination: its path, its owner, and its small files."""

import hashlib
import json
import os
import re
import secrets
import sys
from contextlib import suppress
from pathlib import Path

from mlflow_connections.secrets import masked

from ._disk import DISK, Disk
from ._format import SegmentName, segment_name
from ._interface import Destination, sink_of

FOLDER = "MLFLOW_CONNECTIONS_OUTBOX_DIR"
"""The environment variable that moves all spools to another folder."""

DESTINATION = "destination.json"
STATE = "state"
ASIDE = "aside"
OVERFLOW = "overflow"


def root() -> Path:
    """Return the folder that holds this user's spools; it need not exist.

    Raises:
        OSError: There is no home folder.
    """
    if given := os.environ.get(FOLDER):
        return Path(given).absolute()
    return _state_folder() / "mlflow-connections" / "outbox"


def _state_folder() -> Path:
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support"
        # The XDG specification requires relative paths to be ignored.
        given = os.environ.get("XDG_STATE_HOME", "")
        return Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise FileNotFoundError(f"There is no home folder; set {FOLDER}.") from masked(error)


def spool_of(destination: Destination) -> Path:
    """Return the folder of a destination. Its sink is irrelevant, because it may be renamed between versions."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", destination.name).strip("-")[:32] or "destination"
    digest = hashlib.sha256(f"{destination.name}\0{destination.url}".encode()).hexdigest()
    return root() / f"{slug}-{digest[:12]}"


def create(folder: Path, destination: Destination) -> None:
    """Create the folder of a destination, for this user only, and record its destination.

    Raises:
        OSError: It cannot be written, or another user owns it.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    refuse_foreign(folder)
    note = json.dumps(destination._asdict(), indent=1).encode()
    path = folder / DESTINATION
    with suppress(FileNotFoundError):
        if path.read_bytes() == note:
            return
    replace(path, note)


def common_folder(name: str) -> Path:
    """Create and return a folder next to the spools, for data that belongs to no single destination.

    Raises:
        OSError: It cannot be created, or others could have written to it.
    """
    folder = root() / name
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    refuse_foreign(folder)
    return folder


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that others could have written to: a spool names code that will be run.

    Raises:
        PermissionError: Another user owns it, or may write to it.
    """
    if hasattr(os, "geteuid"):
        status = folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(
                f"{folder} must belong to you and be writable by nobody else: "
                f"remove it, or set {FOLDER} to another folder."
            )


def read_destination(folder: Path) -> Destination:
    """Read the destination of a spool.

    Raises:
        OSError: It cannot be read, or others could have written it.
        ValueError: It is damaged.
    """
    refuse_foreign(folder)
    try:
        noted = json.loads((folder / DESTINATION).read_bytes())
        name, url = noted["name"], noted["url"]
        # Format 1 contained the path of a function with another signature, in a private module.
        sink = noted["sink"] if "sink" in noted else sink_of(name) or noted["factory"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / DESTINATION} does not describe a destination.") from masked(
            error
        )
    return Destination(name, url, sink)


def state_of(folder: Path) -> Path:
    """Create and return the folder in which the sink of a spool keeps its state.

    Raises:
        OSError: It cannot be created.
    """
    state = folder / STATE
    state.mkdir(mode=0o700, exist_ok=True)
    return state


def spools() -> list[Path]:
    """List the folders of all destinations, sorted."""
    try:
        folders = sorted(root().iterdir())
    except OSError:
        return []
    return [folder for folder in folders if _may_be_spool(folder)]


def _may_be_spool(folder: Path) -> bool:
    try:
        return folder.is_dir() and (folder / DESTINATION).exists()
    except OSError:
        return True  # another user's: reading it reports the problem


def segments(folder: Path, disk: Disk = DISK) -> list[tuple[SegmentName, Path]]:
    """List the segments of a spool, including those beyond its limit, in the order of their creation.

    Raises:
        OSError: The folder cannot be read.
    """
    found = segments_in(folder, disk)
    with suppress(FileNotFoundError):
        found += segments_in(folder / OVERFLOW, disk)
    return sorted(found)


def segments_in(folder: Path, disk: Disk = DISK) -> list[tuple[SegmentName, Path]]:
    """List the segments in one folder, in no order.

    Raises:
        OSError: The folder cannot be read.
    """
    names = disk.names(folder)
    return [(parsed, folder / name) for name in names if (parsed := segment_name(name))]


def replace(path: Path, content: bytes, disk: Disk = DISK) -> None:
    """Write a file atomically: a reader sees the old content or the new one. Only its owner can read it.

    Raises:
        OSError: It cannot be written.
    """
    # Unique per writer: threads, signal handlers, and machines with the same process ID.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = disk.open(temporary, flags, 0o600)
    try:
        try:
            if disk.write(descriptor, content) != len(content):
                raise OSError(f"{path} could be written in part only: the disk is full.")
        finally:
            disk.close(descriptor)
        disk.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            disk.unlink(temporary)
        raise


def read(path: Path, disk: Disk = DISK) -> bytes:
    """Read a whole file.

    Raises:
        OSError: It cannot be read.
    """
    descriptor = disk.open(path, os.O_RDONLY | os.O_CLOEXEC, 0o600)
    try:
        content = b""
        while block := disk.pread(descriptor, 1 << 20, len(content)):
            content += block
        return content
    finally:
        disk.close(descriptor)
