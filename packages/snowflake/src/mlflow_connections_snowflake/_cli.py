"""The command `mlflow-snowflake`."""

import argparse
import sys
from pathlib import Path

from mlflow_connections import ConnectionsError

from ._setup import load
from ._sql import drops, script, statements


def main(arguments: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    parser = argparse.ArgumentParser(prog="mlflow-snowflake")
    parser.add_argument("--config", type=Path, default=Path("conf/base/snowflake.yml"))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sql")
    commands.add_parser("drop")
    given = parser.parse_args(arguments)
    try:
        setup = load(given.config)
        written = statements(setup) if given.command == "sql" else drops(setup)
        sys.stdout.write(script(written))
    except ConnectionsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
