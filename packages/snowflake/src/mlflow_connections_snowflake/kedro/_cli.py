"""The commands `kedro snowflake-mlflow run` and `watch`.

Kedro imports this module to list its commands, so the top of the module imports only click.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_connections.secrets import masked

if TYPE_CHECKING:
    from ._plan import Plan
    from ._watch import Progress, TaskHistory, TaskRun

F = TypeVar("F", bound=Callable[..., None])

_INTERRUPTED = 130


@click.group(name="snowflake-mlflow")
def commands() -> None:
    """The group of this package's commands, which Kedro merges with its own."""


@commands.group(name="snowflake-mlflow")
def snowflake() -> None:
    """Pipelines as tasks in Snowflake, with one MLflow run for all of them."""


def _common(function: F) -> F:
    """Add the options of all commands, and show this family's errors as one sentence."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from mlflow_connections import ConnectionsError

        try:
            function(*args, **kwargs)
        except ConnectionsError as error:
            raise click.ClickException(str(error)) from masked(error)

    for option in (
        click.option(
            "--pipeline", "-p", default="__default__", metavar="NAME", help="The pipeline's name."
        ),
        click.option("--env", "-e", metavar="ENV", help="The environment, as in kedro run."),
        click.option(
            "--connection",
            metavar="NAME",
            help="A connection in connections.toml; by default credentials.yml, else the "
            "environment.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="Stop watching after this time, with exit code 1; the pipeline goes on.",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the signature


@snowflake.command()
@_common
@click.option(
    "--params", metavar="KEY=VALUE,…", default="", help="Runtime parameters, as in kedro run."
)
@click.option("--dry-run", is_flag=True, help="Write the SQL, and do nothing in Snowflake.")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="The file for the SQL; by default a dry run prints it.",
)
@click.option(
    "--retry",
    is_flag=True,
    help="Rerun the failed tasks of the last run, with the current code.",
)
@click.option(
    "--wait-for-completion/--no-wait",
    "wait",
    default=True,
    help="Wait for the end of the pipeline, which is the default, or return once it has started.",
)
@click.pass_context
def run(
    context: click.Context,
    pipeline: str,
    env: str | None,
    connection: str | None,
    timeout: float | None,
    params: str,
    dry_run: bool,
    output: Path | None,
    retry: bool,
    wait: bool,
) -> None:
    """Deploy a pipeline, run it, and show its progress."""
    from ._code import version_of
    from ._deploy import deploy, retry_statements, script, statements

    if retry and params:
        raise click.UsageError("A retry has the parameters of the run that failed.")
    project = _project(context, env, params)
    plan = project.plan(pipeline)
    archives = project.archives(pipeline)
    if dry_run or output is not None:
        written = (
            retry_statements(plan, archives, version_of(plan, archives))
            if retry
            else statements(plan, archives)
        )
        text = script(plan, written)
        if output is not None:
            output.write_text(text, encoding="utf-8")
            click.echo(f"Written to {output}.", err=True)
        else:
            click.echo(text, nl=False)
    if dry_run:
        return

    from ._watch import Progress, TaskHistory, command

    progress = Progress(plan)
    with project.open_session(connection) as session:
        history = TaskHistory(session, plan)
        before = deploy(session, plan, archives, history, progress.console, retry=retry)
        if wait:
            _watch(history, plan, before, progress, timeout)
        else:
            progress.console.print(f"Started. Watch it: {command(plan, 'watch')}", markup=False)


@snowflake.command()
@_common
@click.pass_context
def watch(
    context: click.Context,
    pipeline: str,
    env: str | None,
    connection: str | None,
    timeout: float | None,
) -> None:
    """Show the progress of a pipeline's last run, or how it ended."""
    from mlflow_connections import MissingOptionError

    from ._watch import Progress, TaskHistory

    project = _project(context, env, "")
    plan = project.plan(pipeline)
    with project.open_session(connection) as session:
        history = TaskHistory(session, plan)
        runs = history.runs()
        if not runs:
            raise MissingOptionError(
                f"The pipeline {pipeline} has not run in Snowflake in the last hour."
            )
        last = runs[-1].id[0]
        others = {one.id for one in runs if one.id[0] != last}
        _watch(history, plan, others, Progress(plan), timeout)


def _project(context: click.Context, env: str | None, params: str) -> Any:
    from kedro.framework.cli.utils import _split_params

    from ._project import open_project

    if context.obj is None:
        raise click.ClickException(
            "This is not the folder of a Kedro project: there is no pyproject.toml with "
            "[tool.kedro]. Change into the project's folder."
        )
    option = next((one for one in context.command.params if one.name == "params"), None)
    return open_project(context.obj, env, _split_params(context, option, params) or {})


def _watch(
    history: "TaskHistory",
    plan: "Plan",
    before: "set[tuple[str, int]]",
    progress: "Progress",
    timeout: float | None,
) -> None:
    from ._watch import Watch, command, failure, has_succeeded, retry_hint

    console = progress.console
    again = command(plan, "watch")
    followed = Watch(history, plan, before, timeout)
    try:
        runs = progress.follow(followed.states())
    except KeyboardInterrupt:
        console.print(
            f"\nNo longer watching; the pipeline goes on. Watch it again: {again}", markup=False
        )
        raise click.exceptions.Exit(_INTERRUPTED) from None
    if followed.timed_out:
        console.print(
            f"\nNo longer watching after {timeout:g} s; the pipeline goes on. Watch it again: "
            f"{again}",
            markup=False,
        )
        raise click.exceptions.Exit(1)
    run = _mlflow_run(runs)
    if has_succeeded(plan, runs):
        console.print(f"{run}FINISHED" if run else "Done.", markup=False)
        return
    console.print(f"\n{failure(plan, runs)}\n", markup=False)
    if run:
        console.print(f"{run}FAILED", markup=False)
    console.print(retry_hint(plan), markup=False)
    raise click.exceptions.Exit(1)


def _mlflow_run(runs: "dict[str, TaskRun]") -> str:
    made = next((run.value for run in runs.values() if run.value), "")
    return f"MLflow run {made}: " if made else ""
