"""The console script `mlflow-connections`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._endpoint import Endpoint
from ._errors import ConnectionsError, InvalidOptionError
from ._resolve import DEFAULT, resolve
from ._use import environment_of_child
from .command_line import CommandParser, add_version, run_command
from .deadline import CHECK_SECONDS
from .mlflow_state import REGISTRY_VARIABLE, TRACKING_VARIABLE
from .options import SourceNames
from .reports import connection_rows, describe, named_rows, probe, table
from .secrets import MASK, unmasked

if TYPE_CHECKING:
    from ._commands import Run

OWN_COMMANDS = ("list", "show", "check", "run", "env", "init", "schema")
"""Commands that no other distribution may add."""

# Columns of `show`; the JSON contains more.
_SHOWN = ("option", "value", "from", "variable", "help")

SOURCE_NAMES = SourceNames(
    remedy="others can read a command line, so name its source in a connections file"
)
"""The wording of messages: credentials come from variables, never from flags."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0 for success, 1 for an error that is one sentence, 2 for wrong usage, 130 after Ctrl-C, 126 and
        127 as in a shell.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_command("mlflow-connections", lambda: _answer(words))


def _answer(words: list[str]) -> int:
    parsed = argparse.Namespace()
    try:
        added = _added_command(words)
        if added is not None:
            return added(words[1:]) or 0
        # Arguments after the first `--` are the user's command, whose options are not parsed.
        split = words.index("--") if "--" in words else len(words)
        _parser(words).parse_args(words[:split], parsed)
        parsed.arguments = words[split + 1 :]
        code: int = parsed.command(parsed)
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


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="mlflow-connections",
        description="Turn a keyword, credentials and options into an MLflow tracking URI that works.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_list_of_added(words),
    )
    add_version(parser, "mlflow-connections")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=run)
        return added

    listing = command("list", _list, "List the installed keywords and the named connections.")
    showing = command("show", _show, "Show a connection's options and the source of each value.")
    checking = command("check", _check, "Resolve a connection and call its server.")
    running = command("run", _run, "Run a command with the resolved environment.")
    exporting = command("env", _env, "Print the resolved environment, secrets included.")
    starting = command("init", _init, "Ask for a connection, and add it to a connections file.")
    command("schema", _schema, "Print the JSON schema of a connections file, for editors.")
    for added in (listing, showing, checking):
        added.add_argument(
            "--output",
            choices=("table", "json"),
            default="table",
            help="the format (default: table)",
        )
    for added in (showing, checking, running, exporting):
        added.add_argument(
            "connection",
            metavar="CONNECTION",
            nargs="?",
            default=DEFAULT,
            help="a name in a connections file, a keyword, or a URI; by default the value of "
            f"{DEFAULT}",
        )
        added.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="an option of the connection; secrets come from environment variables only",
        )
    for added in (checking, running, exporting):
        added.add_argument(
            "--registry",
            metavar="KEYWORD_OR_URI",
            help="the model registry, if it is on another server",
        )
    checking.add_argument(
        "--timeout",
        type=_seconds,
        default=CHECK_SECONDS,
        metavar="SECONDS",
        help=f"the time limit for the whole check; {CHECK_SECONDS:g} by default",
    )
    running.usage = f"{running.prog} [options] [CONNECTION] -- COMMAND [ARGUMENT ...]"
    exporting.add_argument(
        "--format",
        choices=("sh", "dotenv", "json", "github"),
        default="sh",
        help="for eval, a .env file, a program, or $GITHUB_ENV",
    )
    starting.add_argument(
        "--user", action="store_true", help="write the user's file instead of the project's"
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _list(parsed: argparse.Namespace) -> int:
    keywords, names = connection_rows(), named_rows()
    if parsed.output == "json":
        print(json.dumps({"keywords": keywords, "connections": names}, indent=2))
        return 0
    if keywords:
        print(table(keywords, ("keyword", "distribution", "version", "note")))
    else:
        print("No connection is installed. Try: pip install mlflow-connections-databricks")
    if names:
        print(f"\n{table(names)}")
    return 0


def _show(parsed: argparse.Namespace) -> int:
    shown = describe(parsed.connection, _options(parsed), SOURCE_NAMES)
    if parsed.output == "json":
        print(json.dumps(shown, indent=2))
        return 0
    print(shown["title"])
    if shown["options"]:
        print(table(shown["options"], _SHOWN))
    elif shown["keyword"]:
        print("It declares no options: it takes those that its author documents.")
    return 0


def _check(parsed: argparse.Namespace) -> int:
    result = probe(
        parsed.connection,
        options=_options(parsed),
        registry=parsed.registry,
        source_names=SOURCE_NAMES,
        timeout=parsed.timeout,
    )
    if parsed.output == "json":
        print(json.dumps({"ok": True, **result._asdict()}))
    else:
        print(result.sentence)
    return 0


def _run(parsed: argparse.Namespace) -> int:
    if not parsed.arguments:
        name = "" if parsed.connection == DEFAULT else f"{parsed.connection} "
        raise InvalidOptionError(
            f"There is no command to run; write: mlflow-connections run {name}-- COMMAND"
        )
    from .child import become, stay
    from .spark import INHERITED_VARIABLE, mark_of

    endpoint = _endpoint(parsed)
    environment = environment_of_child(endpoint)
    environment[INHERITED_VARIABLE] = mark_of(endpoint.tracking_uri)
    needing = [each for each in endpoint.authenticators if each.needs_parent()]
    if endpoint.authenticators:
        from .authentication import variables_of

        environment |= variables_of(endpoint.authenticators)
    for name in (name for each in needing for name in each.secret_variables):
        environment.pop(name, None)
    return (stay if needing else become)(parsed.arguments, environment)


def _endpoint(parsed: argparse.Namespace) -> Endpoint:
    return resolve(
        parsed.connection,
        options=_options(parsed),
        registry=parsed.registry,
        source_names=SOURCE_NAMES,
    )


def _env(parsed: argparse.Namespace) -> int:
    from ._export_formats import export_text, github_masks

    endpoint = _endpoint(parsed)
    variables: dict[str, str | None] = {
        TRACKING_VARIABLE: endpoint.tracking_uri,
        REGISTRY_VARIABLE: endpoint.registry_uri,
        **endpoint.environment,
    }
    if endpoint.authenticators:
        from .authentication import variables_for_shell

        for_shell = variables_for_shell(endpoint.authenticators)
        if for_shell is None:
            raise InvalidOptionError(
                "The tokens of this connection come from a process that keeps running, and `env` ends at once: use "
                f"mlflow-connections run {parsed.connection} -- COMMAND, or set `share_with_workers: true`."
            )
        variables |= for_shell
    # Variables of another server, such as its experiment, are not inherited either.
    variables |= dict.fromkeys(os.environ.keys() - environment_of_child(endpoint).keys())
    if endpoint.registry_uri is None and REGISTRY_VARIABLE not in os.environ:
        del variables[REGISTRY_VARIABLE]
    if sys.stdout.isatty():
        hidden = {name: value and MASK for name, value in variables.items()}
        print(export_text(hidden, "sh"), end="")
        name = "" if parsed.connection == DEFAULT else f" {parsed.connection}"
        print(
            "mlflow-connections: values are hidden on a terminal; use "
            f'eval "$(mlflow-connections env{name})", or redirect the output.',
            file=sys.stderr,
        )
        return 0
    text = export_text(variables, parsed.format)
    if parsed.format == "github" and os.environ.get("GITHUB_ACTIONS") == "true":
        # The runner reads commands from standard error too, and hides the values in the log.
        values = [value for value in variables.values() if value]
        print(github_masks(values), end="", file=unmasked(sys.stderr))
    unmasked(sys.stdout).write(text)
    return 0


def _init(parsed: argparse.Namespace) -> int:
    from ._init import write_first

    def ask(question: str) -> str:
        print(question, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise InvalidOptionError("The answers ended before the last question.")
        return line

    name, path = write_first(ask, for_user=parsed.user)
    print(f"Wrote {path}. Try: mlflow-connections check {name}")
    return 0


def _schema(_parsed: argparse.Namespace) -> int:
    from ._schema import file_schema

    schema, left_out = file_schema()
    print(json.dumps(schema, indent=2))
    for keyword in left_out:
        print(
            f"mlflow-connections: '{keyword}' cannot be loaded and is left out: run "
            f"mlflow-connections show {keyword}.",
            file=sys.stderr,
        )
    return 0


def _options(parsed: argparse.Namespace) -> dict[str, str]:
    options = {}
    for text in parsed.option:
        name, equals, value = text.partition("=")
        if not equals or not name:
            # The text is not shown: it may be a secret that was meant for a variable.
            raise InvalidOptionError("--option takes NAME=VALUE, and one of them has no '='.")
        options[name] = value
    return options
