"""The command `mlflow-databand`, an alias: `mlflow-databand outbox` is `mlflow-connections outbox`."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from mlflow_connections_outbox import _cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code of `mlflow-connections outbox`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["outbox"]:
        return _cli.main(words[1:], "mlflow-databand outbox")
    parser = argparse.ArgumentParser(prog="mlflow-databand", description=__doc__)
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {version('mlflow-connections-databand')}"
    )
    parser.add_argument("command", choices=["outbox"], help="show, deliver or drop what waits")
    parser.parse_args(words)
    return 0
