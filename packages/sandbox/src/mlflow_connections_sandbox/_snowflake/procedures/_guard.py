"""Block the network of a procedure's process and of every Python process that it starts.

Copied as `sitecustomize.py` to the front of the module path; it must import nothing of the package.
"""

import os
import re
import socket
import sys
import threading
from typing import Any


class _Guard:
    """Allows what the network rules of the procedure's integrations allow, and its account."""

    def __init__(self, places: str) -> None:
        split = [place.rpartition(":") for place in places.split(",")]
        self._rules = [(_pattern(host), port) for host, _, port in split]
        self._resolved: set[str] = set()
        self._resolving = threading.local()

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse an audited event that would leave the account."""
        if event in {"socket.connect", "socket.sendto"}:
            self._check_address(arguments[1])
        elif event == "socket.getaddrinfo" and arguments[0] is not None:
            name = arguments[0]
            self._check_name(name if isinstance(name, str) else name.decode())

    def _check_address(self, address: object) -> None:
        # Anything but host and port is a socket of this machine.
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
        # A connection names the address alone, so note those of a host that may be reached.
        self._resolving.active = True
        try:
            for found in socket.getaddrinfo(host, None):
                self._resolved.update(f"{found[4][0]}:{port}" for port in self._ports(host))
        except OSError:
            pass
        finally:
            self._resolving.active = False

    def _ports(self, host: str) -> list[str]:
        return [port for pattern, port in self._rules if pattern.fullmatch(host)]


def _pattern(host: str) -> "re.Pattern[str]":
    """Return what a host of a network rule matches: its `*` stands for letters, digits and hyphens."""
    return re.compile(re.escape(host).replace(r"\*", "[A-Za-z0-9-]+"), re.IGNORECASE)


if "SANDBOX_NETWORK" in os.environ:
    sys.addaudithook(_Guard(os.environ["SANDBOX_NETWORK"]).watch)
