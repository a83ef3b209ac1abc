"""The command `outbox`: show what waits for its destination, deliver it, or drop it."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from . import admin

_PROGRESS_EVERY = 0.2


def main(arguments: Sequence[str] | None = None, program: str = "mlflow-connections") -> int:
    """Run the command.

    Returns:
        0; or 1 if something could not be done or still waits.
    """
    parsed = _parser(program).parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    outbox = parser.add_subparsers(required=True, metavar="outbox").add_parser(
        "outbox", help="the events on this machine that their destination does not have yet"
    )
    commands = outbox.add_subparsers(required=True, metavar="status | ship | drop")

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--destination", metavar="NAME", help="only this one (default: all)")
    shared.add_argument("--output", choices=("text", "json"), default="text")

    status = commands.add_parser("status", parents=[shared], help="show what waits, and why")
    status.set_defaults(run=_status)

    ship = commands.add_parser("ship", parents=[shared], help="deliver what waits, now")
    ship.add_argument(
        *("--timeout", "-t"),
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to try for each destination (default: 60)",
    )
    ship.set_defaults(run=_ship)

    drop = commands.add_parser("drop", parents=[shared], help="give up what waits")
    drop.add_argument("--refused", action="store_true", help="only what was refused for good")
    drop.add_argument("--yes", "-y", action="store_true", help="do not ask")
    drop.set_defaults(run=_drop)
    return parser


def _status(parsed: argparse.Namespace) -> int:
    reports = admin.reports(parsed.destination)
    if parsed.output == "json":
        _print_json([report.plain() for report in reports])
        return 0
    for report in reports:
        waiting = report.waiting
        print(f"{report.destination.name} at {report.destination.url}")
        since = "" if waiting.oldest is None else f", the oldest since {_when(waiting.oldest)}"
        print(f"  waiting   {waiting.events:,} events, {waiting.bytes:,} bytes{since}")
        print(f"  refused   {waiting.refused:,} events")
        print(f"  writers   {waiting.writers}")
        print(f"  shipper   {'at work' if report.shipping else 'none'}")
        reason = f": {report.status.reason}" if report.status.reason else ""
        print(f"  delivery  {report.status.state}{reason}")
        print(f"  folder    {report.folder}")
    if not reports:
        print("There is no outbox.")
    return 0


def _ship(parsed: argparse.Namespace) -> int:
    results: list[dict[str, Any]] = []
    for report in admin.reports(parsed.destination):
        progress = _Progress(report.destination.name)
        shipped = admin.ship(report.folder, parsed.timeout, progress)
        progress.end()
        results.append({"name": report.destination.name, **shipped._asdict()})
        if parsed.output == "text":
            why = f" ({shipped.reason})" if shipped.reason else ""
            print(
                f"{report.destination.name}: {shipped.delivered:,} delivered, "
                f"{shipped.waiting:,} waiting, {shipped.refused:,} refused{why}"
            )
    if parsed.output == "json":
        _print_json(results)
    return 1 if any(result["waiting"] for result in results) else 0


def _drop(parsed: argparse.Namespace) -> int:
    results: list[dict[str, Any]] = []
    for report in admin.reports(parsed.destination):
        waiting = 0 if parsed.refused else report.waiting.events
        name, events = report.destination.name, waiting + report.waiting.refused
        if not parsed.yes and not _confirmed(f"Give up {events:,} events for {name}? [y/N] "):
            return 1
        dropped = admin.drop(report.folder, refused_only=parsed.refused)
        results.append({"name": name, "dropped": dropped})
        if parsed.output == "text":
            print(f"{name}: {dropped:,} given up")
    if parsed.output == "json":
        _print_json(results)
    return 0


def _confirmed(question: str) -> bool:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class _Progress:
    """One line on a terminal that is written over; nothing where nobody looks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown_at = float("-inf")
        self._shown = False

    def __call__(self, delivered: int, waiting: int) -> None:
        if sys.stderr.isatty() and time.monotonic() > self._shown_at + _PROGRESS_EVERY:
            self._shown_at, self._shown = time.monotonic(), True
            line = f"\r{self._name}: {delivered:,} delivered, {waiting:,} waiting "
            print(line, end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
