"""The parent's side of authentication in child processes: it serves headers on a private Unix socket.

The socket is in a folder that only this user may enter, and answers only processes of this user.
The secret itself never leaves this process; children get the headers that are currently valid.
"""

import atexit
import contextlib
import json
import os
import shutil
import socket
import struct
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ._errors import ConnectionsError

__all__ = ["HeadersOwner", "agent_for", "forget_agents"]

_QUESTION_WITHIN = 10.0  # seconds
_LONGEST_QUESTION = 1 << 20  # bytes


class HeadersOwner(Protocol):
    """The authenticator whose headers are served."""

    def headers(self, rejected: Mapping[str, str] | None = None) -> Any:
        """Return valid headers as a `Headers`; see `Authenticator.headers`."""


_agents: "dict[int, _Agent]" = {}
"""Keyed by the identity of the object: two equal authenticators may be bound at the same time."""


def agent_for(authenticator: HeadersOwner) -> str:
    """Serve an authenticator's headers for its lifetime, and return the path of the socket.

    The path is empty on a system without Unix sockets: this process works there, and its children
    raise an error with the remedy.
    """
    if not hasattr(socket, "AF_UNIX"):
        return ""
    key = id(authenticator)
    if key not in _agents:
        _agents[key] = _Agent(authenticator)
        weakref.finalize(authenticator, _close, key)
    return str(_agents[key].path)


def forget_agents() -> None:
    """Close a forked child's copies of the sockets. The parent continues to serve them."""
    while _agents:
        _agents.popitem()[1].listener.close()


def _close(key: int) -> None:
    agent = _agents.pop(key, None)
    if agent is not None:
        agent.close()


@atexit.register
def _close_all() -> None:
    for key in [*_agents]:
        _close(key)


class _Agent:
    def __init__(self, authenticator: HeadersOwner) -> None:
        # A weak reference, so that the agent ends with the authenticator.
        self.authenticator = weakref.ref(authenticator)
        self.folder = Path(tempfile.mkdtemp(prefix="mlflow-connections-"))  # 0700
        self.path = self.folder / "agent"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.path.chmod(0o600)
        self.listener.listen(64)
        threading.Thread(target=self._serve, name="mlflow-connections-agent", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in `accept`
        self.listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            client.settimeout(_QUESTION_WITHIN)
            if not _is_this_user(client):
                return
            with client.makefile("rb") as stream:
                question = json.loads(stream.readline(_LONGEST_QUESTION))
            try:
                if (authenticator := self.authenticator()) is None:
                    return
                found = authenticator.headers(question.get("rejected"))
                answer: dict[str, object] = {
                    "headers": dict(found.values),
                    "lifetime": found.lifetime,
                    "renew_in": found.renew_in,
                }
            except ConnectionsError as error:
                answer = {"error": str(error)}
            client.sendall(json.dumps(answer).encode() + b"\n")


def _is_this_user(client: socket.socket) -> bool:
    """Return whether the peer runs as this user, if the system can tell (Linux); otherwise the folder protects it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", raw)
    return bool(user == os.getuid())
