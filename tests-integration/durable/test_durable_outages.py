"""One training, plain and through durable, during all kinds of outages: afterwards both are equal."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mlflow_connections_events.testing import differences
from mlflow_connections_sandbox import MlflowServer

Fault = Callable[[Any, threading.Event], None]
LONGEST_WAIT = 2.5
"""The longest wait of a call for a server that does not respond, in seconds; the machine's own load is added."""


def healthy(proxy: Any, ended: threading.Event) -> None:
    """Forward every request."""


def down(proxy: Any, ended: threading.Event) -> None:
    """Be down from start to end."""
    proxy.mode = "down"


def killed_in_the_middle(proxy: Any, ended: threading.Event) -> None:
    """Stop once the training has begun."""
    while not proxy.count("/runs/create") and not ended.wait(0.02):
        pass
    ended.wait(0.5)
    proxy.mode = "down"


def flapping(proxy: Any, ended: threading.Event) -> None:
    """Be down every other half second."""
    while not ended.wait(0.5):
        proxy.mode = "down" if proxy.mode == "up" else "up"


@pytest.mark.parametrize(
    ("fault", "pause"),
    [
        pytest.param(healthy, "0", marks=pytest.mark.slow),
        (down, "0"),
        pytest.param(killed_in_the_middle, "0.05", marks=pytest.mark.slow),
        pytest.param(flapping, "0.1", marks=pytest.mark.slow),
    ],
    ids=lambda each: getattr(each, "__name__", "")[:20],
)
def test_a_training_arrives_complete_and_once(
    fault: Fault,
    pause: str,
    proxy: Any,
    program: Any,
    described: Any,
    plain_training: dict[str, Any],
    mlflow_server: MlflowServer,
) -> None:
    """Whatever happens to the server, it finally has the same data as without durable, each run once."""
    ended = threading.Event()
    thread = threading.Thread(target=fault, args=(proxy, ended), daemon=True)
    name = f"durable {fault.__name__}"
    thread.start()
    if fault is down:
        thread.join()
    begun = time.monotonic()
    done = program.run(f"durable+{proxy.url}", "train", name, pause)
    lasted = time.monotonic() - begun
    ended.set()
    thread.join()
    proxy.mode = "up"
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    assert differences(plain_training, described(mlflow_server.url, name)) == []
    assert len(plain_training["runs"]) == 4
    longest = float(done.stdout.split()[-1])
    print(f"{fault.__name__}: longest call {longest:.3f} s, {lasted:.1f} s in all")


@pytest.mark.parametrize(
    "lost", ["/runs/create", pytest.param("/experiments/create", marks=pytest.mark.slow)]
)
def test_a_lost_response_duplicates_nothing(
    lost: str, proxy: Any, program: Any, described: Any, mlflow_server: MlflowServer
) -> None:
    """The server created the run and its response was lost: the shipper finds the run."""
    proxy.lose = [lost]
    name = f"lost {lost}"
    done = program.run(f"durable+{proxy.url}", "train", name)
    assert proxy.lose == []
    program.ship()
    runs = described(mlflow_server.url, name)["runs"]
    assert sorted(runs) == [
        f"<experiment>/{run}" for run in ("child", "deleted", "fails", "parent")
    ]
    rows = program.outbox("runs", "--output", "json")
    assert done.stdout.split()[-2] in rows
