"""Run nox's default sessions one after another, and print the CPU time of each: `python scripts/session_times.py`.

The CPU time includes the session and every process that it waited for (`resource.getrusage`), so
that other load on the machine hardly changes it. Arguments are names of sessions; by default all of
the default ones. The exit code is 1 if one failed.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SLOWEST = 10


def main(names: Sequence[str]) -> int:
    """Run sessions, and print a line for each and a table of the slowest."""
    took = []
    failed = []
    for name in names or default_sessions():
        before, begun = cpu_seconds(), time.monotonic()
        done = subprocess.run(nox("-s", name), cwd=ROOT, check=False)
        took.append((cpu_seconds() - before, time.monotonic() - begun, name))
        failed += [name] if done.returncode else []
        print(f"{took[-1][0]:7.1f} CPU s {took[-1][1]:7.1f} s  {name}", file=sys.stderr, flush=True)
    print(table(took))
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def nox(*arguments: str) -> list[str]:
    """Return a command of nox."""
    return [sys.executable, "-m", "nox", *arguments]


def default_sessions() -> list[str]:
    """Return the names of the sessions that nox runs without arguments."""
    listed = subprocess.run(
        nox("--list", "--json"), cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [each["session"] for each in json.loads(listed.stdout)]


def cpu_seconds() -> float:
    """Return the CPU time of every process that this one has waited for, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(took: Sequence[tuple[float, float, str]]) -> str:
    """Return the slowest sessions and the sum of all as a table in Markdown.

    Args:
        took: CPU seconds, seconds and name of each session.
    """
    lines = ["| session | CPU s |", "|---|---|"]
    lines += [f"| `{name}` | {cpu:.0f} |" for cpu, _, name in sorted(took, reverse=True)[:SLOWEST]]
    total, wall = sum(cpu for cpu, _, _ in took), sum(seconds for _, seconds, _ in took)
    lines.append(f"| all {len(took)}, {wall / 60:.0f} min one after the other | {total:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
