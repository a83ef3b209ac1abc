"""The console script `mlflow-connections-sandbox`."""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mlflow_connections.child import end_as, run_to_its_end
from mlflow_connections.command_line import INTERRUPTED, CommandParser, add_version, run_command
from mlflow_connections.secrets import unmasked

from ._sandbox import STAND_INS, Sandbox, load_stand_in
from ._stand_in import exports, shell_of

PROGRAM = "mlflow-connections-sandbox"
DEFAULT_NAMES = ("databricks",)
ALL = "all"
"""Selects every stand-in."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 on success, also if Ctrl-C ends `up`; 1 for an error that is one sentence; 2 for wrong usage. `run` returns
        the exit code of its command; if a signal ended the command, the same signal ends this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Each signal ends the sandbox in order, even before everything has started. SIGINT is listed
    # because a shell lets background commands of a script ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # unless under nohup
        signal.signal(signal.SIGHUP, _interrupt)
    return end_as(run_command(PROGRAM, lambda: _answer(words)))


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's signature
    raise KeyboardInterrupt


def _answer(words: list[str]) -> int:
    # Arguments after the first `--` are the user's command, whose options are not parsed.
    split = words.index("--") if "--" in words else len(words)
    parsed = _parser().parse_args(words[:split])
    parsed.arguments = words[split + 1 :]
    try:
        code: int = parsed.command(parsed)
    except (ImportError, RuntimeError, ValueError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=PROGRAM, description="Local stand-ins of services in front of a real MLflow server."
    )
    add_version(parser, PROGRAM)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "Start stand-ins, print the variables to export, and run until Ctrl-C."
    up = commands.add_parser("up", help=text, description=text)
    up.set_defaults(command=_up)
    text = "Run a command that reaches stand-ins, and stop them when it ends."
    run = commands.add_parser("run", help=text, description=text)
    run.set_defaults(command=_run)
    run.usage = f"{run.prog} [options] [NAME ...] -- COMMAND [ARGUMENT ...]"
    for added in (up, run):
        added.add_argument(
            "names",
            nargs="*",
            metavar="NAME",
            help=f"a stand-in: {', '.join(STAND_INS)}, or {ALL} for each one whose requirements are installed; "
            f"{' '.join(DEFAULT_NAMES)} by default",
        )
        added.add_argument(
            "--folder",
            type=Path,
            help="keep data, ports and tokens in this folder; by default they are deleted at the end",
        )
        added.add_argument(
            "--port",
            type=_port,
            default=0,
            help="the page's port; MLflow and the stand-ins use the next ones; by default the ports of the folder's "
            "last start, or any free ones",
        )
    up.add_argument(
        "--output", choices=("text", "json"), default="text", help="the format (default: text)"
    )
    up.add_argument("--open", action="store_true", help="open the sandbox's page in a web browser")
    return parser


def _port(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 65_500:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"'{text}' is not a port that leaves room for the stand-ins' own"
    )


def _chosen(names: Sequence[str]) -> list[str]:
    """Return the names of the stand-ins to start, and report those that `all` has to omit."""
    if ALL not in names:
        return list(names) or list(DEFAULT_NAMES)
    return [name for name in STAND_INS if _can_be_loaded(name)]


def _can_be_loaded(name: str) -> bool:
    try:
        load_stand_in(name)
    except ImportError as error:
        print(f"{PROGRAM}: left out: {error}", file=sys.stderr)
        return False
    return True


@contextmanager
def _running(parsed: argparse.Namespace, *, page: bool) -> Iterator[Sandbox]:
    """Start a sandbox in the given folder, or in a temporary one."""
    names = _chosen(parsed.names)
    with tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-") as temporary:
        folder = Path(temporary) if parsed.folder is None else parsed.folder
        sandbox = Sandbox(folder.resolve(), names, page=page, port=parsed.port)
        print("Starting a real MLflow server ...", file=sys.stderr, flush=True)
        with sandbox:
            for name in sandbox.names:
                sandbox[name].administer()
            yield sandbox


def _up(parsed: argparse.Namespace) -> int:
    if parsed.arguments:
        raise ValueError("`up` takes no command; use: run NAME -- COMMAND")
    try:
        with _running(parsed, page=True) as sandbox:
            text = _json(sandbox) if parsed.output == "json" else _text(sandbox)
            # Its own tokens are printed so that they can be pasted.
            print(text, file=unmasked(sys.stdout), flush=True)
            if parsed.open and not webbrowser.open(sandbox.page_url):
                print(f"No web browser was found to open {sandbox.page_url}.", file=sys.stderr)
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    return 0


def _run(parsed: argparse.Namespace) -> int:
    if not parsed.arguments:
        raise ValueError("There is no command to run; write: run NAME -- COMMAND")
    try:
        with _running(parsed, page=False) as sandbox:
            stand_ins = [sandbox[name] for name in sandbox.names]
            return run_to_its_end(parsed.arguments, shell_of(stand_ins, os.environ), PROGRAM)
    except KeyboardInterrupt:
        return INTERRUPTED


def _json(sandbox: Sandbox) -> str:
    environment = {name: dict(sandbox.environment(name)) for name in sandbox.names}
    return json.dumps(
        {
            "page_url": sandbox.page_url,
            "mlflow_url": sandbox.mlflow_url,
            "folder": str(sandbox.folder),
            "environment": environment,
        }
    )


def _text(sandbox: Sandbox) -> str:
    """Write lines that can be pasted into a shell."""
    lines = [
        f"# The sandbox's page: {sandbox.page_url}",
        f"# MLflow's own pages: {sandbox.mlflow_url}",
        f"# Data and logs:      {sandbox.folder}",
    ]
    for name in sandbox.names:
        lines += ["", f"# {name}, at {sandbox[name].url}"]
        lines += exports(sandbox.environment(name))
        lines += [f"# {note}" for note in sandbox[name].notes()]
    return "\n".join([*lines, "", "# It runs until Ctrl-C."])
