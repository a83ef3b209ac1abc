"""The command `mlflow-snowflake`: sql, apply, check, clean, drop, gateway."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from mlflow_connections import ConnectionsError
from mlflow_connections.command_line import CommandParser, add_version, run_command

from ._config import BridgeConfig, load
from ._gateway import azure_policy, is_private, openapi, proxy
from ._provision import apply, check, clean, ways
from ._session import open_session
from ._sql import drops, script, statements
from ._statement import ADMIN, OWNER, Statement

_PARTS = (ADMIN, OWNER)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 on success, 1 if a check found a fault or the output could not be written, 2 if the command could not
        run, 130 after Ctrl-C.
    """
    return run_command("mlflow-snowflake", lambda: _answer(arguments))


def _answer(arguments: Sequence[str] | None) -> int:
    given = _parser().parse_args(arguments)
    try:
        result: int = given.run(load(given.config), given)
    except ConnectionsError as error:
        print(f"mlflow-snowflake: {error}", file=sys.stderr)
        return 2
    return result


def console() -> NoReturn:
    """Run the command and end the process: the entry point of the console script."""
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="mlflow-snowflake",
        description="Connect Snowflake to MLflow: write, run and check the SQL.",
    )
    add_version(parser, "mlflow-connections-snowflake")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    sql = _command(commands, "sql", _sql, "Write the SQL that connects Snowflake to MLflow.")
    run = _command(commands, "apply", _apply, "Run the SQL that `sql` writes.")
    remove = _command(commands, "drop", _drop, "Drop the objects that `apply` created.")
    for command in (sql, run, remove):
        command.add_argument(
            "--part", choices=_PARTS, help="one part of the statements; by default both"
        )
    for command in (run, remove):
        command.add_argument(
            "--dry-run", action="store_true", help="print the statements, and run nothing"
        )
    remove.add_argument(
        "--stages",
        action="store_true",
        help="drop the stages too; files on internal stages are lost",
    )
    remove.add_argument(
        "--integrations",
        action="store_true",
        help="drop the integrations too; the cloud must then trust the new ones",
    )
    proof = _command(commands, "check", _check, "Check the account, and call MLflow from it.")
    sweep = _command(commands, "clean", _clean, "Remove files that uploads left on a stage.")
    sweep.add_argument(
        "--older-than",
        type=float,
        default=24.0,
        metavar="HOURS",
        help="remove only files that are older; by default %(default)g",
    )
    for command in (run, remove, proof, sweep):
        command.add_argument(
            "--connection",
            metavar="NAME",
            help="a connection in connections.toml; by default the SNOWFLAKE_* variables, then the "
            "default connection",
        )
    gateway = _command(commands, "gateway", _gateway, "Write the definition of the gateway's API.")
    gateway.add_argument(
        "--backend",
        required=True,
        metavar="URL",
        help="the MLflow server's URL, as the gateway reaches it",
    )
    shown = gateway.add_mutually_exclusive_group()
    shown.add_argument("--policy", action="store_true", help="write Azure's policy instead")
    shown.add_argument(
        "--proxy",
        action="store_true",
        help="write an nginx configuration to put in front of MLflow, if Amazon's gateway renames the "
        "Authorization header",
    )
    return parser


def _command(
    commands: "argparse._SubParsersAction[CommandParser]",
    name: str,
    run: Callable[[BridgeConfig, argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument(
        "--config",
        type=Path,
        default=Path("conf/base/snowflake.yml"),
        metavar="FILE",
        help="the configuration; by default %(default)s",
    )
    command.set_defaults(run=run)
    return command


def _sql(config: BridgeConfig, given: argparse.Namespace) -> int:
    sys.stdout.write(script(_chosen(statements(config), given.part)))
    return 0


def _apply(config: BridgeConfig, given: argparse.Namespace) -> int:
    return _run(_chosen(statements(config), given.part), given)


def _drop(config: BridgeConfig, given: argparse.Namespace) -> int:
    dropped = drops(config, with_stages=given.stages, with_integrations=given.integrations)
    return _run(_chosen(dropped, given.part), given)


def _chosen(written: list[Statement], part: str | None) -> list[Statement]:
    return [statement for statement in written if part in {None, statement.run_as}]


def _run(written: list[Statement], given: argparse.Namespace) -> int:
    if given.dry_run:
        sys.stdout.write(script(written))
        return 0

    def progress(number: int, statement: Statement) -> None:
        purpose = " ".join(statement.purpose.split())
        sys.stderr.write(f"[{number}/{len(written)}] {statement.run_as}: {purpose}\n")

    with open_session(given.connection) as session:
        apply(session, written, progress)
    sys.stderr.write(f"{len(written)} statements ran.\n")
    return 0


def _check(config: BridgeConfig, given: argparse.Namespace) -> int:
    wrong = 0
    with open_session(given.connection) as session:
        for finding in check(session, config):
            wrong += not finding.ok
            sys.stdout.write(f"{'ok    ' if finding.ok else 'WRONG '} {finding.what}\n")
            for line in finding.fix.splitlines():
                sys.stdout.write(f"       {line}\n")
        sys.stdout.write("Ways to MLflow in this account:\n")
        for way in ways(session, config):
            sys.stdout.write(f"{'yes   ' if way.ready else 'no    '} {way.name}: {way.detail}\n")
    sys.stdout.write("Nothing to fix.\n" if not wrong else f"{wrong} to fix.\n")
    return 1 if wrong else 0


def _clean(config: BridgeConfig, given: argparse.Namespace) -> int:
    with open_session(given.connection) as session:
        count = clean(session, config, timedelta(hours=given.older_than))
    sys.stderr.write(f"Removed the files of {count} transfers.\n")
    return 0


def _gateway(config: BridgeConfig, given: argparse.Namespace) -> int:
    if given.policy:
        sys.stdout.write(azure_policy(config, given.backend))
    elif given.proxy:
        sys.stdout.write(proxy(given.backend))
    else:
        definition = json.dumps(openapi(config, given.backend), indent=2)
        gateway, _, _ = config.require_gateway()
        if gateway.cloud == "aws" and not gateway.vpc_link and is_private(given.backend):
            print(
                f"mlflow-snowflake: {given.backend} looks private. Amazon's gateway reaches it only "
                "through a VPC link: name it as mlflow.gateway.vpc_link in snowflake.yml.",
                file=sys.stderr,
            )
        sys.stdout.write(definition + "\n")
    return 0
