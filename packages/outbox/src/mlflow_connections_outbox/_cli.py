"""The command `mlflow-connections outbox`: show waiting events, deliver them, bring them back, drop them."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, suppress
from importlib.metadata import entry_points
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from . import _status as states
from . import admin
from ._dead_letters import files
from ._shipper import collect_garbage_seldom

COMMANDS = "mlflow_connections.outbox_commands"
"""The entry-point group of commands that other packages add.

Each entry names a function that receives `add(name, run, text)`. `add` creates a command and
returns its parser, which has `--destination` and `--output`; `run` takes the parsed arguments and
returns the exit code.
"""
_PROGRESS_EVERY = 0.2


def main(arguments: Sequence[str] | None = None, program: str = "mlflow-connections outbox") -> int:
    """Run the command.

    Args:
        arguments: The arguments after `outbox`; by default those of the command line.
        program: The words before them, for the help.

    Returns:
        0; or 1 if something failed, or if events still wait or were set aside.
    """
    parsed = _parser(program).parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except (OSError, ValueError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return code


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Show, deliver, retry or drop events that their destination does not have yet. `status`, "
        "`ship` and `retry` exit with 1 while events wait, were rejected or set aside.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--destination",
        metavar="NAME",
        help="the name of a destination or its first word, its URL, or the folder of its outbox (default: all)",
    )
    shared.add_argument(
        "--output", choices=("text", "json"), default="text", help="the format (default: text)"
    )

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[shared], help=text, description=text)
        added.set_defaults(run=run)
        return added

    status = command("status", _status, "Show waiting and set-aside events, with the reasons.")
    status.add_argument(
        *("--watch", "-w"),
        nargs="?",
        type=float,
        const=2.0,
        metavar="SECONDS",
        help="repeat the output every SECONDS (default: 2) until nothing waits",
    )
    ship = command("ship", _ship, "Deliver waiting events now.")
    ship.add_argument(
        *("--timeout", "-t"),
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="the time to spend on each destination (default: 60)",
    )
    ship.add_argument(
        "--other-machines",
        action="store_true",
        help="deliver events of other machines too, which must not write any more",
    )
    ship.add_argument(
        "--to",
        metavar="ADDRESS",
        help="deliver to another address of the same kind, if the destination has moved or never existed",
    )
    command(
        "retry", _retry, "Queue rejected events, and events that were too old, for delivery again."
    )
    drop = command("drop", _drop, "Delete waiting and set-aside events.")
    drop.add_argument("--rejected", action="store_true", help="drop only rejected events")
    drop.add_argument("--yes", "-y", action="store_true", help="do not ask for confirmation")
    for point in sorted(entry_points(group=COMMANDS)):
        point.load()(command)
    return parser


def _status(parsed: argparse.Namespace) -> int:
    while True:
        reports = admin.reports(parsed.destination)
        if parsed.output == "json":
            _print_json([report.plain() for report in reports])
        else:
            _print_reports(reports, clear=parsed.watch is not None and sys.stdout.isatty())
        clean = all(report.is_clean for report in reports)
        if parsed.watch is None or not any(report.content.events for report in reports):
            return 0 if clean else 1
        sys.stdout.flush()
        try:
            time.sleep(parsed.watch)
        except KeyboardInterrupt:
            return 0 if clean else 1


def _print_reports(reports: Sequence[admin.Report], *, clear: bool) -> None:
    if clear:
        print("\x1b[2J\x1b[H", end="")
    for report in reports:
        if report.destination is None:
            print(f"{report.folder}\n  problem   {report.problem}")
        else:
            _print_report(report)
    if not reports:
        print("There is no outbox.")


def _print_report(report: admin.Report) -> None:
    content, counts, status = report.content, report.counts, report.status
    since = "" if content.oldest is None else f", the oldest since {_when(content.oldest)}"
    rows = [
        ("waiting", f"{content.events:,} events, {content.bytes:,} bytes{since}"),
        ("delivered", f"{counts.delivered:,} events"),
        ("rejected", f"{content.rejected:,} events{_size(content.rejected_bytes)}"),
        ("set aside", f"{content.aside:,} events"),
        ("damaged", f"{content.damaged:,} lines"),
    ]
    if content.overflow:
        rows.append(("overflow", f"{content.overflow:,} of these events, beyond the limit"))
    if content.other_machines:
        rows.append(("elsewhere", f"{content.other_machines:,} of these events, by other machines"))
    if content.not_taken:
        rows.append(("lost", f"{content.not_taken:,} events, for which there was no room"))
    said = f": {status.reason}" if status.reason else ""
    if status.state == states.WAITING:
        said = f" for a response since {_when(status.since)}"
    rows += [
        ("writers", f"{content.writers}"),
        ("shipper", "at work" if report.shipping else "none"),
        ("delivery", f"{status.state}{said}"),
        ("folder", f"{report.folder}"),
    ]
    if report.problem:
        rows.append(("problem", report.problem))
    print(report.address)
    for what, text in rows:
        print(f"  {what:<9} {text}")


def _ship(parsed: argparse.Namespace) -> int:
    collect_garbage_seldom()
    results: list[dict[str, Any]] = []
    reports = admin.outboxes(parsed.destination)
    if parsed.to and len({report.address for report in reports}) > 1:
        raise ValueError("--to needs one destination: choose it with --destination.")
    for report, outcome in zip(reports, _outcomes(reports, parsed), strict=True):
        if isinstance(outcome, str):
            results.append(_problem(report._replace(problem=outcome)))
            continue
        results.append({**report.identity(), **outcome._asdict()})
        if parsed.output == "text":
            aside = f", {outcome.aside:,} set aside" if outcome.aside else ""
            why = f" ({outcome.reason})" if outcome.reason else ""
            print(
                f"{_label(report, reports)}: {outcome.delivered:,} delivered, "
                f"{outcome.waiting:,} waiting, {outcome.rejected:,} rejected{aside}{why}"
            )
            if outcome.dead_letters:
                print(_told_dead_letters(report.folder, outcome.dead_letters))
    if parsed.output == "json":
        _print_json(results)
    return 1 if any(_is_unfinished(result) for result in results) else 0


def _outcomes(
    reports: Sequence[admin.Report], parsed: argparse.Namespace
) -> list[admin.Shipped | str]:
    """Ship the outboxes, and return the result of each, or the reason why it could not be shipped.

    Several outboxes with events have a process each: a client reads its server's address and
    credentials from the environment and keeps them, and one that waits for its server must not delay
    the others.
    """
    how = (parsed.timeout, parsed.other_machines, parsed.to)
    busy = {report.folder: report for report in reports if _waiting(report)}
    if len(busy) < 2:
        return [_ship_one(report, *how, show=sys.stderr.isatty()) for report in reports]
    with ExitStack() as stack:
        # A pool of several processes may run two jobs in the one that starts first.
        pools = {
            folder: stack.enter_context(
                ProcessPoolExecutor(
                    1, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_DFL)
                )
            )
            for folder in busy
        }
        futures = {
            folder: pool.submit(_ship_one, busy[folder], *how) for folder, pool in pools.items()
        }
        if sys.stderr.isatty():
            _show_until_done(list(busy.values()), list(futures.values()))
        return [
            future.result()
            if (future := futures.get(report.folder)) is not None
            else _ship_one(report, *how)
            for report in reports
        ]


def _ship_one(
    report: admin.Report, timeout: float, adopt: bool, to: str | None, *, show: bool = False
) -> admin.Shipped | str:
    """Ship one outbox, and return the result, or the reason why it could not be shipped."""
    if report.problem:
        return report.problem
    progress = _Progress(report.address) if show else None
    try:
        return admin.ship(report.folder, timeout, progress, adopt=adopt, to=to)
    except (OSError, ValueError) as error:
        return str(error)
    finally:
        if progress:
            progress.end()


def _waiting(report: admin.Report) -> int:
    with suppress(OSError, ValueError):
        return admin.measure(report.folder, check=False).events
    return 0


def _show_until_done(reports: Sequence[admin.Report], futures: Sequence[Future[Any]]) -> None:
    """Show how many events of several outboxes wait, until all are done."""
    total = sum(map(_waiting, reports))
    progress = _Progress(f"{len(reports)} destinations")
    while not all(future.done() for future in futures):
        waiting = sum(map(_waiting, reports))
        progress(max(0, total - waiting), waiting)
        time.sleep(_PROGRESS_EVERY)
    progress.end()


def _is_unfinished(result: dict[str, Any]) -> bool:
    # A background shipper may have made the dead letters that a CI job must not miss.
    left = ("waiting", "dead_letters", "aside")
    return "problem" in result or any(result[name] for name in left)


def _told_dead_letters(folder: Path, count: int) -> str:
    found = [path for path in files(folder) if path.exists()]
    path = found[0] if len(found) == 1 else folder / "dead_letters*.jsonl"
    events, them = ("event is", "it") if count == 1 else ("events are", "them")
    return (
        f"  {count:,} rejected {events} kept, with the reason, in {path}: `mlflow-connections outbox retry` "
        f"queues {them} again, and `drop --rejected` deletes {them}"
    )


def _retry(parsed: argparse.Namespace) -> int:
    results: list[dict[str, Any]] = []
    reports = admin.outboxes(parsed.destination)
    for report in reports:
        events = 0
        try:
            if not report.problem:
                events = admin.retry(report.folder)
        except OSError as error:
            report = report._replace(problem=str(error))  # noqa: PLW2901
        if report.problem:
            results.append(_problem(report))
            continue
        results.append({**report.identity(), "retried": events})
        if parsed.output == "text":
            then = "; `mlflow-connections outbox ship` sends them" if events else ""
            print(f"{_label(report, reports)}: {events:,} wait again{then}")
    if parsed.output == "json":
        _print_json(results)
    return 1 if any(result.get("retried", True) for result in results) else 0


def _drop(parsed: argparse.Namespace) -> int:
    results: list[dict[str, Any]] = []
    reports = admin.reports(parsed.destination)
    for report in reports:
        if report.problem:
            results.append(_problem(report))
            continue
        content = report.content
        more = 0 if parsed.rejected else content.events + content.aside
        events = more + content.rejected
        label = _label(report, reports)
        asked = bool(events) and not parsed.yes
        if asked and not _confirmed(f"Drop {events:,} events for {label}? [y/N] "):
            return 1
        try:
            dropped = admin.drop(report.folder, rejected_only=parsed.rejected)
        except OSError as error:
            results.append(_problem(report._replace(problem=str(error))))
            continue
        results.append({**report.identity(), "dropped": dropped})
        if parsed.output == "text":
            print(f"{label}: {dropped:,} dropped")
    if parsed.output == "json":
        _print_json(results)
    return 1 if any("problem" in result for result in results) else 0


def _label(report: admin.Report, reports: Sequence[admin.Report]) -> str:
    """Return an outbox's name, with its address if another outbox has the same name."""
    is_alone = [each.name for each in reports].count(report.name) == 1
    return report.name if is_alone else report.address


def _problem(report: admin.Report) -> dict[str, Any]:
    """Print the problem of an outbox that cannot be used, and return it for programs."""
    print(f"{report.name}: {report.problem}", file=sys.stderr)
    return {**report.identity(), "problem": report.problem}


def _confirmed(question: str) -> bool:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _size(size: int) -> str:
    return f", {size:,} bytes" if size else ""


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class _Progress:
    """A line on a terminal that is overwritten."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown_at = float("-inf")
        self._shown = False

    def __call__(self, delivered: int, waiting: int) -> None:
        if time.monotonic() > self._shown_at + _PROGRESS_EVERY:
            self._shown_at, self._shown = time.monotonic(), True
            line = f"\r{self._name}: {delivered:,} delivered, {waiting:,} waiting "
            print(line, end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
