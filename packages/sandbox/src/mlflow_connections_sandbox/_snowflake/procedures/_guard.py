"""Confine a process inside the account: its network, and for a procedure its files and processes.

A procedure writes only to its temporary folder and starts no process, as Snowflake documents
("Limitations", writing stored procedures in Python). How Snowflake refuses is not published, so
these errors are those of a read-only file system and of a missing permission. A container may do
both.

Copied as `sitecustomize.py` to the front of the module path; it must not import other modules of
the package.
"""

import errno
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

Address = tuple[Any, ...]

_PROCESSES = frozenset(
    (
        *("subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn"),
        *("os.system", "pty.spawn"),
    )
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_MADE = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.truncate": 0}
"""Audit events of changes to the file system, and the position of the changed path."""


class NetworkGuard:
    """Allows the hosts in the network rules of the integrations, and the account.

    Args:
        places: The allowed `host:port`, separated by commas; a host may have one `*`.
        servers: The local port that serves a public `host:port`.
    """

    def __init__(self, places: str, servers: Mapping[str, int]) -> None:
        split = [place.rpartition(":") for place in places.split(",")]
        self._rules = [(_pattern(host), port) for host, _, port in split]
        self._servers = servers
        self._resolved: set[str] = set()
        self._resolving = threading.local()
        self._look_up = socket.getaddrinfo

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse an audited event that would leave the account."""
        if event in {"socket.connect", "socket.sendto"}:
            self._check_address(arguments[1])
        elif event == "socket.getaddrinfo" and arguments[0] is not None:
            name = arguments[0]
            self._check_name(name if isinstance(name, str) else name.decode())

    def resolve(
        self,
        host: "str | bytes | None",
        port: "str | int | None",
        family: int = 0,
        type: int = 0,  # noqa: A002 - the name of the standard library
        proto: int = 0,
        flags: int = 0,
    ) -> list[Address]:
        """Look up a name: a public name of the sandbox is a server on this machine."""
        name = host if isinstance(host, str) else (host or b"").decode()
        server = self._servers.get(f"{name.lower()}:{port}")
        if server is None:
            return list(self._look_up(host, port, family, type, proto, flags))
        self._check_name(name)
        if str(port) in self._ports(name):
            self._resolved.add(f"127.0.0.1:{server}")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", server))]

    def _check_address(self, address: object) -> None:
        # Anything else than host and port is a socket of this machine.
        if not isinstance(address, tuple):
            return
        place = f"{address[0]}:{address[1]}"
        if str(address[1]) not in self._ports(str(address[0])) and place not in self._resolved:
            raise OSError(16, f"Device or resource busy: no network access to {place}")

    def _check_name(self, host: str) -> None:
        if not self._ports(host):
            raise socket.gaierror(
                socket.EAI_NONAME, f"Name or service not known: no network access to {host}"
            )
        if getattr(self._resolving, "active", False):
            return
        # A connection contains only the address, so record the addresses of allowed hosts.
        self._resolving.active = True
        try:
            for found in self._look_up(host, None):
                self._resolved.update(f"{found[4][0]}:{port}" for port in self._ports(host))
        except OSError:
            pass
        finally:
            self._resolving.active = False

    def _ports(self, host: str) -> list[str]:
        return [port for pattern, port in self._rules if pattern.fullmatch(host)]


class ProcedureGuard:
    """Refuses writes outside of the temporary folder, and new processes.

    Args:
        writable: The temporary folder, and the files that the stand-in itself writes.
    """

    def __init__(self, writable: list[str]) -> None:
        self._writable = [os.path.realpath(path) for path in writable]

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse an audited event that a procedure may not cause."""
        if event in _PROCESSES:
            raise PermissionError(
                errno.EPERM, "Operation not permitted: a stored procedure creates no processes"
            )
        if event == "open" and arguments[2] & _WRITES:
            self._check(arguments[0])
        elif event in _MADE:
            self._check(arguments[_MADE[event]])

    def _check(self, path: object) -> None:
        # A number is a file that is already open.
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = os.path.realpath(os.fsdecode(path))
        # Compiled modules of this environment, which a handler cannot distinguish from existing
        # ones.
        is_cache = real.startswith(sys.prefix) and f"{os.sep}__pycache__" in real
        if real.startswith("/dev/") or is_cache:
            return
        if not any(real == root or real.startswith(root + os.sep) for root in self._writable):
            raise OSError(errno.EROFS, "Read-only file system", os.fsdecode(path))


def _pattern(host: str) -> "re.Pattern[str]":
    """Return the pattern of a host in a network rule: its `*` matches letters, digits and hyphens."""
    return re.compile(re.escape(host).replace(r"\*", "[A-Za-z0-9-]+"), re.IGNORECASE)


def _install() -> None:
    network = NetworkGuard(
        os.environ["SANDBOX_NETWORK"], json.loads(os.environ.get("SANDBOX_SERVERS", "{}"))
    )
    vars(socket)["getaddrinfo"] = network.resolve
    sys.addaudithook(network.watch)
    if writable := os.environ.get("SANDBOX_WRITABLE"):
        sys.addaudithook(ProcedureGuard(json.loads(writable)).watch)


if "SANDBOX_NETWORK" in os.environ:
    _install()
