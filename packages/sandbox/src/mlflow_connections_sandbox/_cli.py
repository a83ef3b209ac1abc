"""The console script `mlflow-connections-sandbox`."""

import argparse
import json
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from ._sandbox import STAND_INS, Sandbox
from ._stand_in import exports

DEFAULT_NAMES = ("databricks",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 for success and 1 for an error that is one sentence."""
    parsed = _parser().parse_args(arguments)
    # Each ends it in order, also before all was started. SIGINT is named because a shell lets the
    # commands that a script starts in the background ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # unless under nohup
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        _up(parsed)
    except KeyboardInterrupt:
        return 0
    except (ImportError, RuntimeError, ValueError) as error:
        print(f"mlflow-connections-sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's signature
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlflow-connections-sandbox",
        description="Local stand-ins of services before a real MLflow server.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {version('mlflow-connections-sandbox')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "Start stand-ins, print what to export, and keep running until Ctrl-C."
    up = commands.add_parser("up", help=text, description=text)
    up.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(STAND_INS)}; {' '.join(DEFAULT_NAMES)} if none is named",
    )
    up.add_argument(
        "--folder", type=Path, help="keep the data here; without it they are deleted at the end"
    )
    up.add_argument("--output", choices=("text", "json"), default="text")
    up.add_argument("--open", action="store_true", help="show its page in a web browser")
    return parser


def _up(parsed: argparse.Namespace) -> None:
    with ExitStack() as running:
        folder = parsed.folder
        if folder is None:
            prefix = "mlflow-connections-sandbox-"
            folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))
        sandbox = Sandbox(folder.resolve(), parsed.names or DEFAULT_NAMES, page=True)
        print("Starting a real MLflow server ...", file=sys.stderr, flush=True)
        running.enter_context(sandbox)
        for name in sandbox.names:
            sandbox[name].administer()
        print(_json(sandbox) if parsed.output == "json" else _text(sandbox), flush=True)
        if parsed.open and not webbrowser.open(sandbox.page_url):
            print(f"No web browser was found to open {sandbox.page_url}.", file=sys.stderr)
        threading.Event().wait()


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
    """Write lines that a shell can be given as they are."""
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
