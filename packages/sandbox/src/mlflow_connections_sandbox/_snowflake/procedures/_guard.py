"""Blocks the network of a procedure's process and of every Python process that it starts.

Copied as `sitecustomize.py` to the front of the module path; it must import nothing of the package.
"""

import os
import socket
import sys
from typing import Any


def _install() -> None:
    allowed = set(os.environ["SANDBOX_NETWORK"].split(","))
    hosts = {place.rpartition(":")[0] for place in allowed}

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"socket.connect", "socket.sendto"}:
            address = arguments[1]
            # Anything but host and port is a socket of this machine.
            if isinstance(address, tuple) and f"{address[0]}:{address[1]}" not in allowed:
                raise OSError(
                    16, f"Device or resource busy: no network access to {address[0]}:{address[1]}"
                )
        elif event == "socket.getaddrinfo" and arguments[0] is not None:
            host = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode()
            if host not in hosts:
                raise socket.gaierror(
                    socket.EAI_NONAME, f"Name or service not known: no network access to {host}"
                )

    sys.addaudithook(watch)


if "SANDBOX_NETWORK" in os.environ:
    _install()
