"""The commands `kedro mlflow-connections init|list|show|check|schema`.

Kedro imports this module to list its commands, so its top imports only click.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., None])


def _split_params(context: click.Context, parameter: Any, value: Any) -> Any:
    from kedro.framework.cli.utils import _split_params as split

    return split(context, parameter, value)


def _settings_options(function: F) -> F:
    """Add the options with which `kedro run` selects its settings."""
    env = click.option(
        "--env", "-e", metavar="ENV", help="The project's environment, as in kedro run."
    )
    params = click.option(
        "--params",
        default="",
        callback=_split_params,
        metavar="NAME=VALUE,...",
        help="Runtime parameters, as in kedro run, for ${runtime_params:...} in mlflow.yml.",
    )
    return env(params(function))


@click.group(name="mlflow-connections")
def commands() -> None:
    """The group that Kedro merges with its own commands."""


@commands.group(name="mlflow-connections")
def connections() -> None:
    """Connections to MLflow, as mlflow.yml configures them."""


def _one_line_errors(function: F) -> F:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from mlflow_connections import ConnectionsError
        from mlflow_connections.secrets import explain, masked, masked_output

        try:
            with masked_output():
                function(*args, **kwargs)
        except ConnectionsError as error:
            raise click.ClickException(" ".join(str(error).split())) from masked(error)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - Kedro would print its secrets
            text = f"{type(error).__name__}: {explain(error)}"
            raise click.ClickException(text) from masked(error)

    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the signature


def _metadata(context: click.Context) -> Any:
    if context.obj is None:
        raise click.ClickException(
            "This is not the folder of a Kedro project (it has no pyproject.toml with "
            "[tool.kedro]): change into its folder."
        )
    return context.obj


@connections.command()
@click.option("--connection", "keyword", metavar="KEYWORD", help="The keyword; skips its question.")
@click.option(
    "--option",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the connection; skips its question. Secrets are never asked for.",
)
@click.option(
    "--env", "-e", metavar="ENV", help="Write into this environment; by default the base one."
)
@click.option("--force", is_flag=True, help="Replace the server section of an existing mlflow.yml.")
@click.option("--no-input", is_flag=True, help="Ask no questions: use --option and defaults.")
@click.pass_context
@_one_line_errors
def init(
    context: click.Context,
    keyword: str | None,
    given: tuple[str, ...],
    env: str | None,
    *,
    force: bool,
    no_input: bool,
) -> None:
    """Write mlflow.yml and a template of credentials.yml for a connection, then check it."""
    from ._init import init_project

    init_project(_metadata(context), keyword, given, env, force=force, ask=not no_input)


@connections.command(name="list")
@_one_line_errors
def list_command() -> None:
    """List the installed keywords and the packages that register them."""
    from mlflow_connections.reports import connection_rows, table

    rows = connection_rows()
    click.echo(
        table(rows)
        if rows
        else "No connection is installed. Try: pip install mlflow-connections-databricks"
    )


@connections.command()
@_settings_options
@click.pass_context
@_one_line_errors
def show(context: click.Context, env: str | None, params: dict[str, Any]) -> None:
    """Show the settings and the source of each value; secrets are masked."""
    from ._report import lines, read_project

    # Compute all lines first: an error must be the only output.
    click.echo("\n".join(lines(read_project(_metadata(context), env, params))))


@connections.command()
@_settings_options
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="The time limit for the whole check, in seconds.",
)
@click.pass_context
@_one_line_errors
def check(context: click.Context, env: str | None, params: dict[str, Any], timeout: float) -> None:
    """Resolve the settings and ask the server. Creates no run and no experiment."""
    from ._report import answer, read_project

    click.echo(answer(read_project(_metadata(context), env, params), timeout))


@connections.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, writable=True),
    help="The file to write; by default the schema is printed.",
)
@_one_line_errors
def schema(output: str | None) -> None:
    """Print the JSON schema of mlflow.yml for editors, with the options of what is installed."""
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
