"""Loopback ports for the demo's servers, reserved so that two concurrent demos never choose the same one."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

FIRST = 5000
"""MLflow's own port."""


@contextmanager
def reserved_ports(count: int = 1) -> Iterator[list[int]]:
    """Reserve free ports, from MLflow's own upwards, until the end of the block.

    A server can listen on a reserved port, and again after it was killed, but a program that
    searches for a free port does not choose it.

    Args:
        count: The number of ports.
    """
    with ExitStack() as stack:
        ports: list[int] = []
        port = FIRST
        while len(ports) < count:
            holder = stack.enter_context(socket.socket())
            try:
                holder.bind(("127.0.0.1", port))
            except OSError:
                holder.close()
            else:
                ports.append(port)
                if sys.platform == "linux":
                    # A server on the same port as a socket that does not listen needs this on both;
                    # set before, it would let a second reservation succeed.
                    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                else:
                    holder.close()  # no server could listen on this port
            port += 1
        yield ports


def free_ports(count: int) -> list[int]:
    """Return ports that are free and not reserved now."""
    with reserved_ports(count) as ports:
        return ports
