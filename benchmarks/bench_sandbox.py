"""Start-up time and memory of the sandbox: without a stand-in, with each one, and with all.

Wall time depends on other load; CPU time and memory hardly do. Needs Linux's /proc.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from mlflow_connections_sandbox import STAND_INS

ROUNDS = 3
MAIN = "import sys; from mlflow_connections_sandbox._cli import main; sys.exit(main(sys.argv[1:]))"
_TICKS = os.sysconf("SC_CLK_TCK")


class Started(NamedTuple):
    """One start of the sandbox, until it printed its addresses.

    Attributes:
        seconds: Wall time.
        cpu: CPU seconds of all its processes.
        command: The memory of the command itself, with its stand-ins, in MB.
        server: The memory of the MLflow server, in MB.
    """

    seconds: float
    cpu: float
    command: float
    server: float


def main() -> None:
    """Measure, and print medians."""
    print(f"{'up':<12} {'seconds':>8} {'CPU s':>6} {'command MB':>11} {'MLflow MB':>10}")
    for name in (*STAND_INS, "all"):
        rounds = [start(name) for _ in range(ROUNDS)]
        median = Started(*(statistics.median(column) for column in zip(*rounds, strict=True)))
        print(
            f"{name:<12} {median.seconds:>8.1f} {median.cpu:>6.1f} {median.command:>11.0f} {median.server:>10.0f}",
            flush=True,
        )


def start(name: str) -> Started:
    """Start stand-ins, measure, and stop them."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "up", name, "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    with process.stdout:
        json.loads(process.stdout.readline())
        seconds = time.perf_counter() - begun
        tree = [process.pid, *descendants(process.pid)]
        sizes = {pid: memory(pid) for pid in tree}
        cpu = sum(map(cpu_seconds, tree))
        process.send_signal(signal.SIGINT)
        process.wait()
    return Started(seconds, cpu, sizes.pop(process.pid), sum(sizes.values()))


def descendants(pid: int) -> list[int]:
    """Return the descendants of a process."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for file in listed for child in file.read_text().split()]
    return [each for child in children for each in (child, *descendants(child))]


def memory(pid: int) -> float:
    """Return a process's memory with its share of shared pages, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if "VmRSS" in line)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of those that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


if __name__ == "__main__":
    main()
