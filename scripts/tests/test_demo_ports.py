"""The ports of the demo's servers."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import ports

EXAMPLES = Path(ports.__file__).parent
OTHER = "import ports, sys\nwith ports.reserved_ports() as found: print(*found)"


def test_two_demos_at_once_have_ports_of_their_own() -> None:
    """A port that one process has reserved is not chosen by another one, nor by this one again."""
    with ports.reserved_ports(2) as ours, ports.reserved_ports() as more:
        done = subprocess.run(
            [sys.executable, "-c", OTHER], cwd=EXAMPLES, check=True, capture_output=True, text=True
        )
        chosen = [*ours, *more, int(done.stdout)]
        assert len(set(chosen)) == 4
        assert not {*ours, *more} & set(ports.free_ports(2))
        assert min(chosen) >= ports.FIRST


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a port is reserved for its choice alone"
)
def test_a_server_listens_on_a_reserved_port_again_and_again() -> None:
    """The reservation lets a server listen, also after it was killed, and others still do not choose the port."""
    with ports.reserved_ports() as (port,):
        for _ in range(2):
            address = ("127.0.0.1", port)
            with socket.create_server(address), socket.create_connection(address):
                assert port not in ports.free_ports(1)
            assert port not in ports.free_ports(1)
