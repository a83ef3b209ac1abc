"""The command `mlflow-databand`, an alias: `mlflow-databand outbox` is `mlflow-connections outbox`."""

import sys
from collections.abc import Sequence

from mlflow_connections.command_line import CommandParser, add_version, run_command
from mlflow_connections_outbox import _cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code of `mlflow-connections outbox`; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_command("mlflow-databand", lambda: _answer(words))


def _answer(words: Sequence[str]) -> int:
    if words[:1] == ["outbox"]:
        return _cli.main(words[1:], "mlflow-databand outbox")
    parser = CommandParser(
        prog="mlflow-databand", description="Another name for `mlflow-connections outbox`."
    )
    add_version(parser, "mlflow-connections-databand")
    parser.add_argument(
        "command", choices=["outbox"], help="show, deliver, retry or drop waiting events"
    )
    parser.parse_args(words)
    return 0
