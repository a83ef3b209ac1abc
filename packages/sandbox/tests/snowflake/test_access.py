"""Roles and privileges, through the real connector."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import snowflake.connector
from snowflake.connector.errors import DatabaseError, ProgrammingError

from mlflow_connections_sandbox._snowflake import Snowflake

Run = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def caller(bridge: Snowflake, run: Run, echo: Callable[..., str]) -> Iterator[Run]:
    """A connection with a role that may only use the schema; ECHO exists."""
    run(echo("a VARCHAR"))
    run("CREATE ROLE caller")
    run("CREATE WAREHOUSE other_wh")
    run("GRANT USAGE ON WAREHOUSE compute_wh TO ROLE caller")
    run("GRANT USAGE ON DATABASE demo TO ROLE caller")
    run("GRANT USAGE ON SCHEMA demo.demo TO ROLE caller")
    run("GRANT ROLE caller TO USER sandbox")
    with snowflake.connector.connect(**bridge.connection(role="CALLER")) as connection:

        def execute(sql: str) -> list[tuple[Any, ...]]:
            rows: Any = connection.cursor().execute(sql)
            return list(rows.fetchall())

        yield execute


def test_a_call_needs_usage_on_the_function(caller: Run, run: Run) -> None:
    """Without the grant the function is unknown; with it the call works; OR REPLACE removes the grant."""
    with pytest.raises(ProgrammingError, match="Unknown function ECHO"):
        caller("SELECT ECHO('x')")
    run("GRANT USAGE ON FUNCTION echo(VARCHAR) TO ROLE caller")
    assert "x" in caller("SELECT ECHO('x'):row[1]")[0][0]
    run("GRANT OWNERSHIP ON FUNCTION echo(VARCHAR) TO ROLE SYSADMIN")
    assert "x" in caller("SELECT ECHO('x'):row[1]")[0][0]


def test_replacing_a_function_drops_its_grants(
    caller: Run, run: Run, echo: Callable[..., str]
) -> None:
    """A grant on a replaced function is lost, and no future grant restores it."""
    run("GRANT USAGE ON FUTURE FUNCTIONS IN SCHEMA demo.demo TO ROLE caller")
    run("GRANT USAGE ON FUNCTION echo(VARCHAR) TO ROLE caller")
    caller("SELECT ECHO('x')")
    run(echo("a VARCHAR").replace("CREATE ", "CREATE OR REPLACE "))
    with pytest.raises(ProgrammingError, match="Unknown function ECHO"):
        caller("SELECT ECHO('x')")


@pytest.mark.parametrize(
    "sql",
    [
        "DESC INTEGRATION MLFLOW_API",
        "CREATE STAGE s",
        "CREATE ROLE other",
        "CREATE DATABASE other",
        "DROP FUNCTION ECHO(VARCHAR)",
        "ALTER INTEGRATION MLFLOW_API SET ENABLED = FALSE",
        "GRANT USAGE ON FUNCTION ECHO(VARCHAR) TO ROLE PUBLIC",
        "GRANT ROLE SYSADMIN TO ROLE caller",
        "USE WAREHOUSE OTHER_WH",
    ],
)
def test_a_role_without_privileges_is_refused(caller: Run, sql: str) -> None:
    """An object without privileges for the role appears missing, or cannot be changed."""
    with pytest.raises(ProgrammingError) as refused:
        caller(sql)
    assert refused.value.errno in {2003, 2043, 3001}


def test_invisible_objects_are_not_listed(caller: Run, run: Run) -> None:
    """SHOW lists an object only to a role that owns it or has a privilege on it."""
    assert caller("SHOW EXTERNAL FUNCTIONS") == []
    run("GRANT USAGE ON FUNCTION echo(VARCHAR) TO ROLE caller")
    assert [row[1] for row in caller("SHOW EXTERNAL FUNCTIONS")] == ["ECHO"]
    assert ("USAGE", "FUNCTION") in {row[1:3] for row in caller("SHOW GRANTS TO ROLE caller")}


def test_roles_inherit(caller: Run, run: Run) -> None:
    """A role has the privileges of each role granted to it."""
    run("CREATE ROLE inner_role")
    run("GRANT USAGE ON FUNCTION echo(VARCHAR) TO ROLE inner_role")
    run("GRANT ROLE inner_role TO ROLE caller")
    caller("SELECT ECHO('x')")
    run("REVOKE ROLE inner_role FROM ROLE caller")
    with pytest.raises(ProgrammingError):
        caller("SELECT ECHO('x')")


def test_creating_a_function_needs_the_integration(
    caller: Run, run: Run, echo: Callable[..., str]
) -> None:
    """CREATE FUNCTION on the schema is not enough without USAGE on integration and translators."""
    run("GRANT CREATE FUNCTION ON SCHEMA demo.demo TO ROLE caller")
    sql = echo("a VARCHAR", name="mine")
    with pytest.raises(ProgrammingError, match="MLFLOW_API"):
        caller(sql)
    run("GRANT USAGE ON INTEGRATION MLFLOW_API TO ROLE caller")
    with pytest.raises(ProgrammingError, match="REQUEST"):
        caller(sql)
    for translator in ("REQUEST", "RESPONSE"):
        run(f"GRANT USAGE ON FUNCTION {translator}(OBJECT) TO ROLE caller")
    caller(sql)


@pytest.mark.parametrize("changed", [{"password": "wrong"}, {"user": "NOBODY"}, {"role": "NOBODY"}])
def test_wrong_login_data_is_refused(stand_in: Snowflake, changed: dict[str, str]) -> None:
    """A wrong password, user or role is refused at login."""
    with pytest.raises(DatabaseError):
        snowflake.connector.connect(**stand_in.connection(**changed))


def test_a_missing_database_is_not_created(stand_in: Snowflake) -> None:
    """Connecting to a missing database opens a session without one, as in Snowflake."""
    with (
        snowflake.connector.connect(**stand_in.connection(database="NOWHERE")) as connection,
        pytest.raises(ProgrammingError, match="current database"),
    ):
        connection.cursor().execute("CREATE STAGE s")


def test_an_invisible_schema_cannot_be_listed(caller: Run) -> None:
    """SHOW … IN is refused for a missing schema or database, or one without privileges for the role."""
    assert caller("SHOW TASKS IN SCHEMA demo.demo") == []
    for place in ("SCHEMA demo.nowhere", "SCHEMA demo.public", "DATABASE nowhere"):
        with pytest.raises(ProgrammingError, match="does not exist or not authorized"):
            caller(f"SHOW TASKS IN {place}")
