"""The last known addresses of servers, in a folder next to the spools."""

import hashlib
import json
import uuid
from contextlib import suppress
from pathlib import Path

from mlflow_connections.secrets import get_logger
from mlflow_connections_outbox import common_folder

logger = get_logger("mlflow_connections_events")

_FOLDER = "addresses"


class Addresses:
    """Stores the address of each server that was resolved; see `mlflow_connections.last_known`."""

    def read(self, key: str) -> str | None:
        """Return the address that was written last, or None if there is none."""
        with suppress(OSError, ValueError, RecursionError):
            noted = json.loads(_path(key).read_text(encoding="utf-8"))
            if isinstance(noted, dict) and noted.get("key") == key:
                uri = noted.get("uri")
                return uri if uri and isinstance(uri, str) else None
        return None

    def write(self, key: str, uri: str) -> None:
        """Store an address, unless it is known."""
        if self.read(key) == uri:
            return
        try:
            path = _path(key)
            temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
            temporary.write_text(json.dumps({"key": key, "uri": uri}, indent=1), encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            logger.debug("The address of %s is not stored: %s", key, error)


def _path(key: str) -> Path:
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return common_folder(_FOLDER) / f"{digest}.json"
