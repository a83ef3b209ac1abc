"""Rules of task graphs: started roots, retries, limits, timeouts, versions and suspended tasks."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import snowflake.connector
from snowflake.connector.errors import DatabaseError, ProgrammingError

from mlflow_connections_sandbox._snowflake import Snowflake

Run = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snowflake]:
    """One account for all tests of the module."""
    folder = tmp_path_factory.mktemp("account")
    made = Snowflake("http://127.0.0.1:9", folder / "snowflake", folder / "artifacts")
    made.start()
    yield made
    made.close()


@pytest.fixture
def run(account: Snowflake, request: pytest.FixtureRequest) -> Iterator[Run]:
    """Return a function that executes a statement in the test's own schema, and returns its rows."""
    name = f"s{abs(hash(request.node.name))}"
    with snowflake.connector.connect(**account.connection(), paramstyle="qmark") as connection:

        def execute(sql: str, *values: Any) -> list[tuple[Any, ...]]:
            rows: Any = connection.cursor().execute(sql, values or None)
            return list(rows.fetchall())

        execute(f"CREATE SCHEMA demo.{name}")
        execute(f"USE SCHEMA demo.{name}")
        yield execute


def finished(run: Run, tasks: int, *, group: str = "") -> list[tuple[Any, ...]]:
    """Wait until so many task runs of the schema have ended, and return name, state and error of each."""
    schema = run("SELECT CURRENT_SCHEMA()")[0][0]
    deadline = time.monotonic() + 120
    rows: list[tuple[Any, ...]] = []
    while time.monotonic() < deadline:
        rows = run(
            "SELECT name, state, error_code FROM TABLE(DEMO.INFORMATION_SCHEMA.TASK_HISTORY())"
            f" WHERE schema_name = '{schema}' ORDER BY scheduled_time"
        )
        if len([r for r in rows if r[1] not in {"SCHEDULED", "EXECUTING"}]) == tasks:
            return rows
        time.sleep(0.05)
    raise AssertionError(rows)


def graph(run: Run, *tasks: str, clauses: str = "") -> None:
    """Create a root and tasks after it, each written as `name AFTER other, … [AS statement]`."""
    run(f"CREATE TASK root WAREHOUSE = COMPUTE_WH SCHEDULE = '60 minute' {clauses} AS SELECT 1")
    for task in tasks:
        name, _, rest = task.partition(" ")
        rest = rest if " AS " in rest else f"{rest} AS SELECT 1"
        run(f"CREATE TASK {name} WAREHOUSE = COMPUTE_WH {rest}")
    for task in reversed(tasks):
        run(f"ALTER TASK {task.partition(' ')[0]} RESUME")


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TASK a SUSPEND",
        "ALTER TASK a SET COMMENT = 'x'",
        "ALTER TASK root SET COMMENT = 'x'",
        "ALTER TASK b REMOVE AFTER a",
        "DROP TASK a",
        "DROP TASK last",
        "CREATE OR REPLACE TASK a AFTER root AS SELECT 2",
        "CREATE OR REPLACE TASK root SCHEDULE = '60 minute' AS SELECT 2",
        "CREATE TASK c AFTER b AS SELECT 1",
        "ALTER TASK idle RESUME",
    ],
)
def test_a_started_graph_cannot_be_changed(run: Run, sql: str) -> None:
    """While the root is started every change below it is refused with 091421, which names the root."""
    graph(run, "a AFTER root", "b AFTER a", "last FINALIZE = root")
    run("CREATE TASK idle AFTER root AS SELECT 1")
    run("ALTER TASK root RESUME")
    schema = run("SELECT CURRENT_SCHEMA()")[0][0]
    with pytest.raises(ProgrammingError) as refused:
        run(sql)
    assert (
        f"091421 (22000): Unable to update graph with root task DEMO.{schema}.ROOT since that root "
        "task is not suspended." in str(refused.value)
    )
    run("ALTER TASK root SUSPEND")
    run(sql)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE TASK x AFTER root TASK_AUTO_RETRY_ATTEMPTS = 1 AS SELECT 1", "root task"),
        ("CREATE TASK x FINALIZE = root TASK_AUTO_RETRY_ATTEMPTS = 1 AS SELECT 1", "root task"),
        ("CREATE TASK x TASK_AUTO_RETRY_ATTEMPTS = 31 AS SELECT 1", "between 0 and 30"),
        ("CREATE TASK x WAREHOUSE = nope_wh AS SELECT 1", "NOPE_WH"),
    ],
)
def test_invalid_clauses_of_a_task(run: Run, sql: str, words: str) -> None:
    """Retries belong to the root and are at most 30; the warehouse must exist."""
    graph(run)
    run("CREATE TASK zero TASK_AUTO_RETRY_ATTEMPTS = 0 AS SELECT 1")
    with pytest.raises(ProgrammingError, match=words):
        run(sql)


def test_a_task_has_at_most_a_hundred_children(run: Run, account: Snowflake) -> None:
    """The 101st child is refused."""
    graph(run)
    schema = run("SELECT CURRENT_SCHEMA()")[0][0]
    account.execute(
        f"CREATE TASK DEMO.{schema}.T{n} AFTER DEMO.{schema}.ROOT AS SELECT 1" for n in range(100)
    )
    with pytest.raises(ProgrammingError, match="100 children"):
        run("CREATE TASK more AFTER root AS SELECT 1")


def test_a_suspended_task_counts_as_succeeded(run: Run) -> None:
    """A task after a suspended one runs, and the suspended one has no run."""
    graph(run, "a AFTER root", "b AFTER a")
    run("ALTER TASK a SUSPEND")
    run("EXECUTE TASK root")
    assert [row[:2] for row in finished(run, 2)] == [("ROOT", "SUCCEEDED"), ("B", "SUCCEEDED")]


def test_a_run_keeps_the_graph_it_began_with(run: Run) -> None:
    """A task that is replaced while the graph runs keeps its old definition until the run ends."""
    run("CREATE TABLE t (a VARCHAR)")
    wait = "SELECT COUNT(*) FROM TABLE(GENERATOR(ROWCOUNT => 1))"
    graph(run, "a AFTER root AS INSERT INTO t VALUES ('old')")
    run(f"CREATE OR REPLACE TASK b WAREHOUSE = COMPUTE_WH AFTER root AS {wait}")
    run("EXECUTE TASK root")
    run(
        "CREATE OR REPLACE TASK a WAREHOUSE = COMPUTE_WH AFTER root AS INSERT INTO t VALUES ('new')"
    )
    finished(run, 2)
    assert run("SELECT a FROM t") == [("old",)]


SLEEP = """
import time

def main(session):
    time.sleep(60)
"""


@pytest.mark.parametrize("where", ["root", "child"])
def test_a_timeout_ends_a_run(run: Run, where: str) -> None:
    """The root's USER_TASK_TIMEOUT_MS limits the graph, a task's own limits the task: error 630."""
    run(
        "CREATE PROCEDURE sleep() RETURNS VARCHAR LANGUAGE PYTHON RUNTIME_VERSION = '3.11'"
        f" PACKAGES = ('snowflake-snowpark-python') HANDLER = 'main' AS $$\n{SLEEP}\n$$"
    )
    limit = "USER_TASK_TIMEOUT_MS = 1500"
    own = limit if where == "child" else ""
    graph(
        run,
        f"a {own} AFTER root AS CALL sleep()",
        "b AFTER a",
        clauses=limit if where == "root" else "",
    )
    run("EXECUTE TASK root")
    rows = finished(run, 3)
    assert [(name, state) for name, state, _ in rows] == [
        ("ROOT", "SUCCEEDED"),
        ("A", "FAILED"),
        ("B", "SKIPPED"),
    ]
    assert rows[1][2] == 630


def test_ten_failures_suspend_the_root(run: Run) -> None:
    """After SUSPEND_TASK_AFTER_NUM_FAILURES consecutive failed runs the root is suspended."""
    clauses = "SUSPEND_TASK_AFTER_NUM_FAILURES = 2"
    graph(run, "a AFTER root AS SELECT * FROM missing", clauses=clauses)
    run("ALTER TASK root RESUME")
    for count in (2, 4):
        assert [row[9] for row in run("SHOW TASKS LIKE 'root'")] == ["started"]
        run("EXECUTE TASK root")
        finished(run, count)
        time.sleep(0.2)
    assert [row[9] for row in run("SHOW TASKS LIKE 'root'")] == ["suspended"]


@pytest.mark.parametrize("after_each", [True, False])
def test_the_finalizers_time_is_configurable(
    run: Run, account: Snowflake, after_each: bool
) -> None:
    """After each automatic retry, or once after the last: the documentation allows both interpretations."""
    account.assumptions.finalizer_after_each_attempt = after_each
    try:
        graph(
            run,
            "a AFTER root AS SELECT * FROM missing",
            "last FINALIZE = root",
            clauses="TASK_AUTO_RETRY_ATTEMPTS = 1",
        )
        run("EXECUTE TASK root")
        names = [row[0] for row in finished(run, 5 if after_each else 4)]
    finally:
        account.assumptions.finalizer_after_each_attempt = True
    assert names == ["ROOT", "A", "LAST", "A", "LAST"] if after_each else ["ROOT", "A", "A", "LAST"]


def test_names_of_predecessors_are_case_sensitive(run: Run) -> None:
    """SYSTEM$GET_PREDECESSOR_RETURN_VALUE accepts a name exactly as it is stored."""
    graph(
        run,
        "a AFTER root AS SELECT SYSTEM$GET_PREDECESSOR_RETURN_VALUE('ROOT')",
        "b AFTER root AS SELECT SYSTEM$GET_PREDECESSOR_RETURN_VALUE('root')",
    )
    run("EXECUTE TASK root")
    assert sorted(row[:2] for row in finished(run, 3)) == [
        ("A", "SUCCEEDED"),
        ("B", "FAILED"),
        ("ROOT", "SUCCEEDED"),
    ]


def test_a_task_without_a_warehouse_is_serverless(run: Run, account: Snowflake) -> None:
    """Serverless tasks compute without a warehouse, but their owner needs EXECUTE MANAGED TASK."""
    run("CREATE TABLE t (a INT)")
    run("CREATE TASK root SCHEDULE = '60 minute' AS INSERT INTO t VALUES (1)")
    run("EXECUTE TASK root")
    assert [row[:2] for row in finished(run, 1)] == [("ROOT", "SUCCEEDED")]
    run("GRANT EXECUTE TASK ON ACCOUNT TO ROLE SYSADMIN")
    run("GRANT OWNERSHIP ON TASK root TO ROLE SYSADMIN")
    with pytest.raises(DatabaseError, match="Insufficient privileges"):
        run("EXECUTE TASK root")
