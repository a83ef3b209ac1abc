"""The console script `mlflow-connections`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._errors import ConnectionsError, InvalidOptionError
from ._resolve import resolve
from ._use import environment_of_child
from .discovery import find_connection, installed_connections
from .options import declared_options
from .reports import connection_rows, option_rows, probe, table
from .secrets import mask, masked_output

if TYPE_CHECKING:
    from ._commands import Run

OWN_COMMANDS = ("list", "show", "check", "run")
"""Commands that no other distribution can add."""

# The exit codes of a shell.
NOT_EXECUTABLE = 126
NOT_FOUND = 127
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0 for success, 1 for an error that is one sentence, 2 for a wrong usage, 130
        after Ctrl-C, 126 and 127 as a shell has them.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with masked_output():
            code = _answer(words)
        sys.stdout.flush()  # a full disk or a closed pipe shows at the flush
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # The rest of the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # `mlflow-connections list | head` is no fault
            print(f"mlflow-connections: {mask(error.strerror or str(error))}", file=sys.stderr)
        return 1
    return code


def _answer(words: list[str]) -> int:
    parsed = argparse.Namespace()
    try:
        added = _added_command(words)
        if added is not None:
            return added(words[1:]) or 0
        # The text after the first `--` is the user's command, whose options are not parsed.
        split = words.index("--") if "--" in words else len(words)
        _parser(words).parse_args(words[:split], parsed)
        parsed.arguments = words[split + 1 :]
        code: int = parsed.command(parsed)
    except SystemExit as leaving:  # argparse, after `--help` or a wrong usage
        return leaving.code if isinstance(leaving.code, int) else 1
    except ConnectionsError as error:
        if getattr(parsed, "output", "table") == "json":
            print(json.dumps({"ok": False, "error": type(error).__name__, "message": str(error)}))
        print(f"mlflow-connections: {error}", file=sys.stderr)
        return 1
    return code


def _added_command(words: Sequence[str]) -> "Run | None":
    if not words or words[0].startswith("-") or words[0] in OWN_COMMANDS:
        return None
    from ._commands import load_command

    return load_command(words[0])


def _list_of_added(words: Sequence[str]) -> str:
    if words[:1] not in (["-h"], ["--help"]):
        return ""
    from ._commands import installed_commands

    added = [f"  {each.name:<20}from {each.distribution}" for each in installed_commands()]
    return "\n".join(["commands of other distributions:", *added]) if added else ""


class _Parser(argparse.ArgumentParser):
    """A parser whose help fails when it cannot be written; argparse's own ignores that."""

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)


class _Version(argparse.Action):
    """Print the version, which is read from the metadata only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"mlflow-connections {version('mlflow-connections')}")
        parser.exit()


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mlflow-connections",
        description="Turn a keyword, credentials and options into an MLflow tracking URI that works.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_list_of_added(words),
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=run)
        return added

    listing = command("list", _list, "List the keywords that are installed, and who brings them.")
    showing = command("show", _show, "Show a connection's options and where each value comes from.")
    checking = command("check", _check, "Resolve a connection and ask its server.")
    running = command("run", _run, "Run a command with the resolved environment.")
    for added in (listing, showing, checking):
        added.add_argument("--output", choices=("table", "json"), default="table")
    for added in (showing, checking, running):
        added.add_argument("keyword", metavar="KEYWORD" if added is showing else "KEYWORD_OR_URI")
        added.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="an option; secrets are read from their environment variables only",
        )
    for added in (checking, running):
        added.add_argument("--registry", metavar="KEYWORD_OR_URI", help="also for the registry")
    running.usage = f"{running.prog} [options] KEYWORD_OR_URI -- COMMAND [ARGUMENT ...]"
    return parser


def _list(parsed: argparse.Namespace) -> int:
    rows = connection_rows()
    if parsed.output == "json":
        print(json.dumps(rows, indent=2))
    elif rows:
        print(table(rows))
    else:
        print("No connection is installed. Try: pip install mlflow-connections-databricks")
    return 0


def _show(parsed: argparse.Namespace) -> int:
    connection = find_connection(parsed.keyword)
    owner = next(f for f in installed_connections() if f.keyword == parsed.keyword)
    rows = option_rows(connection, options=_options(parsed))
    if parsed.output == "json":
        print(
            json.dumps({**owner._asdict(), "entry_point": owner.target, "options": rows}, indent=2)
        )
        return 0
    print(f"{owner.keyword}: {owner.target}, from {owner.distribution} {owner.version}")
    if declared_options(connection):
        print(table(rows))
    else:
        print("It declares no options; what its author documents can be given.")
    return 0


def _check(parsed: argparse.Namespace) -> int:
    answer = probe(parsed.keyword, options=_options(parsed), registry=parsed.registry)
    if parsed.output == "json":
        print(json.dumps({"ok": True, **answer._asdict()}))
    else:
        print(answer.sentence)
    return 0


def _run(parsed: argparse.Namespace) -> int:
    if not parsed.arguments:
        raise InvalidOptionError(
            f"There is no command to run; write: mlflow-connections run {parsed.keyword} -- COMMAND"
        )
    endpoint = resolve(parsed.keyword, options=_options(parsed), registry=parsed.registry)
    return _become(parsed.arguments, environment_of_child(endpoint))


def _become(command: Sequence[str], environment: dict[str, str]) -> int:
    """Let the command take this process's place, so that signals and the exit code are its own."""
    try:
        if os.name == "posix":
            sys.stdout.flush()
            os.execvpe(command[0], list(command), environment)  # noqa: S606 - no shell is wanted
        import subprocess

        return subprocess.run(command, env=environment, check=False).returncode
    except OSError as error:
        print(f"mlflow-connections: {command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _options(parsed: argparse.Namespace) -> dict[str, str]:
    options = {}
    for text in parsed.option:
        name, equals, value = text.partition("=")
        if not equals or not name:
            # The text itself is not shown: it may be a secret that was meant for a variable.
            raise InvalidOptionError("--option takes NAME=VALUE, and one of them has no '='.")
        options[name] = value
    return options
