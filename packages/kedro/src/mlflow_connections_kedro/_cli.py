"""The commands `kedro mlflow-connections list|show|check|schema`.

Kedro imports this module to build its list of commands, so only click stands at its top.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., None])

_ENV = click.option(
    "--env", "-e", metavar="ENV", help="The project's environment, as in kedro run."
)


@click.group(name="mlflow-connections")
def commands() -> None:
    """The family's group, as Kedro merges it with its own commands."""


@commands.group(name="mlflow-connections")
def connections() -> None:
    """Where MLflow tracks, according to mlflow.yml."""


def _clear_errors(function: F) -> F:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from mlflow_connections import ConnectionsError

        try:
            function(*args, **kwargs)
        except ConnectionsError as error:
            raise click.ClickException(str(error)) from error

    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the signature


def _project(metadata: Any, env: str | None) -> Any:
    from ._project import open_project

    if metadata is None:
        raise click.ClickException(
            "This is no folder of a Kedro project (no pyproject.toml with [tool.kedro] was found): "
            "change into one."
        )
    return open_project(metadata, env)


@connections.command(name="list")
@_clear_errors
def list_command() -> None:
    """List the keywords that are installed, and who brings them."""
    from mlflow_connections.reports import connection_rows, table

    rows = connection_rows()
    click.echo(
        table(rows)
        if rows
        else "No connection is installed. Try: pip install mlflow-connections-databricks"
    )


@connections.command()
@_ENV
@click.pass_obj
@_clear_errors
def show(metadata: Any, env: str | None) -> None:
    """Show the settings, and where each value of a connection comes from now; secrets are masked."""
    from ._show import lines

    for line in lines(_project(metadata, env)):
        click.echo(line)


@connections.command()
@_ENV
@click.pass_obj
@_clear_errors
def check(metadata: Any, env: str | None) -> None:
    """Resolve the project's settings and ask the server. No run and no experiment is made."""
    from ._show import answer

    click.echo(answer(_project(metadata, env)))


@connections.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, writable=True),
    help="The file to write; by default it is printed.",
)
@_clear_errors
def schema(output: str | None) -> None:
    """Print the JSON schema of mlflow.yml, made from what is installed, for editors."""
    import json
    from pathlib import Path

    from ._schema import mlflow_yml

    made, left_out = mlflow_yml()
    for sentence in left_out:
        click.echo(f"Left out: {sentence}", err=True)
    text = json.dumps(made, indent=2)
    if output is None:
        click.echo(text)
    else:
        Path(output).write_text(text + "\n", encoding="utf-8")
        click.echo(f"Written to {output}.", err=True)
