"""The tables of the Snowflake stand-in on the sandbox's page."""

from collections.abc import Callable
from typing import Any

import pytest
from snowflake.connector.errors import ProgrammingError

from mlflow_connections_sandbox._snowflake import Snowflake

Run = Callable[..., list[Any]]


def texts(stand_in: Snowflake, number: int) -> list[list[str]]:
    """Return the texts of one of the tables, without the times."""
    table = stand_in.tables()[number]
    assert all(len(row.cells) == len(table.columns) for row in table.rows)
    return [[cell.text for cell in row.cells if cell.kind != "number"] for row in table.rows]


def test_statements_show_with_their_outcome_and_without_secrets(
    stand_in: Snowflake, run: Run
) -> None:
    """The newest is first, on one line, with the number of its error if it was refused."""
    run("CREATE SECRET k TYPE = GENERIC_STRING SECRET_STRING = 'sesame'")
    with pytest.raises(ProgrammingError):
        run("DROP SECRET\n  other")
    refused, made = texts(stand_in, 0)[:2]
    assert refused == ["DROP SECRET other", "ACCOUNTADMIN", "2003"]
    assert made[1:] == ["ACCOUNTADMIN", "done"]
    assert "sesame" not in made[0]


def test_calls_of_external_functions_show(
    bridge: Snowflake, run: Run, echo: Callable[..., str]
) -> None:
    """Each request to a gateway is shown with its function, address and status."""
    run(echo("a NUMBER"))
    run("SELECT echo(1)")
    ((function, method, address, status),) = texts(bridge, 1)
    assert (function, method, status) == ("ECHO", "POST", "200")
    assert address.endswith("/prod/api/echo")


def test_only_the_newest_are_kept_on_request(
    bridge: Snowflake, run: Run, echo: Callable[..., str]
) -> None:
    """Statements, calls and requests of the gateways are limited alike."""
    run(echo("a NUMBER"))
    bridge.keep(1)
    for number in range(3):
        run(f"SELECT echo({number})")
    assert [e.sql for e in bridge.statements.matching()] == ["SELECT echo(2)"]
    assert len(bridge.deliveries) == 1
    assert [len(g.journal.requests()) for g in bridge.gateways.values()] == [1, 0, 0]
