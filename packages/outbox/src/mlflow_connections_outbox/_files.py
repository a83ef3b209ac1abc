"""Where spools are: one private folder for each destination, below one for each user."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

from ._interface import Destination, sink_of

FOLDER = "MLFLOW_CONNECTIONS_OUTBOX_DIR"
"""The environment variable that moves all spools elsewhere."""

DESTINATION = "destination.json"
STATE = "state"


def root() -> Path:
    """Give the folder that holds this user's spools; it need not exist.

    Raises:
        OSError: There is no home to put it in.
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
        # The XDG specification has relative paths ignored.
        given = os.environ.get("XDG_STATE_HOME", "")
        return Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise FileNotFoundError(f"There is no home folder; set {FOLDER}.") from error


def spool_of(destination: Destination) -> Path:
    """Give the folder of one destination; the factory may move between versions, so it does not count."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", destination.name).strip("-")[:32] or "destination"
    digest = hashlib.sha256(f"{destination.name}\0{destination.url}".encode()).hexdigest()
    return root() / f"{slug}-{digest[:12]}"


def create(folder: Path, destination: Destination) -> None:
    """Make the folder of a destination, for this user alone, and note what it is for.

    Raises:
        OSError: It cannot be written, or somebody else owns it.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    refuse_foreign(folder)
    note = json.dumps(destination._asdict(), indent=1).encode()
    path = folder / DESTINATION
    try:
        if path.read_bytes() == note:
            return
    except FileNotFoundError:
        pass
    replace(path, note)


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that others could have written to: it names code that is going to be run.

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
    """Read what a spool is for.

    Raises:
        OSError: It cannot be read, or others could have written it.
        ValueError: It is damaged.
    """
    refuse_foreign(folder)
    noted = json.loads((folder / DESTINATION).read_bytes())
    try:
        name, url = noted["name"], noted["url"]
        # Format 1 wrote the path of a function with another signature, in a private module.
        sink = noted["sink"] if "sink" in noted else sink_of(name) or noted["factory"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / DESTINATION} does not describe a destination.") from error
    return Destination(name, url, sink)


def state_of(folder: Path) -> Path:
    """Create and return the folder where the sink of a spool keeps its state.

    Raises:
        OSError: It cannot be created.
    """
    state = folder / STATE
    state.mkdir(mode=0o700, exist_ok=True)
    return state


def spools() -> list[Path]:
    """Give the folders of all destinations, sorted."""
    try:
        return sorted(path.parent for path in root().glob(f"*/{DESTINATION}"))
    except OSError:
        return []


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, and only its owner sees it.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, for its mode
            file.write(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
