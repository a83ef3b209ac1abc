"""The SQL of a pipeline is valid for Snowflake's grammar, whatever a name, a path or a parameter contains."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from snowflake.snowpark import Row
from snowflake.snowpark.exceptions import SnowparkSQLException

from mlflow_connections import InvalidOptionError
from mlflow_connections_snowflake import BridgeError, Statement
from mlflow_connections_snowflake._names import Identifier, literal
from mlflow_connections_snowflake.kedro._code import (
    Archives,
    old_procedures,
    procedures,
    version_of,
)
from mlflow_connections_snowflake.kedro._deploy import (
    deploy,
    drop_task,
    retry_statements,
    script,
    start,
    statements,
)
from mlflow_connections_snowflake.kedro._plan import Plan
from mlflow_connections_snowflake.kedro._watch import TaskRun

Parses = Callable[[str], bool]

ARCHIVES = Archives(Path("/a b/it's/project.zip"), Path("/a b/it's/ours.zip"), "d1ge57")
EVIL = "x'); DROP TABLE t; -- \\"


def everything(plan: Plan) -> list[Statement]:
    """Return every possible statement for a pipeline."""
    old = old_procedures(plan, [f"{plan.root.object}__RUN_NODE__0A1B2C3D"], [])
    assert len(old) == 1
    return [
        *statements(plan, ARCHIVES),
        start(plan, retry=True),
        drop_task(plan.end),
        *retry_statements(plan, ARCHIVES, "0A1B2C3D"),
        *old,
    ]


@pytest.fixture
def plan(planned: Callable[..., Plan]) -> Plan:
    """A pipeline with every clause."""
    return planned(schedule="USING CRON 0 6 * * * UTC", retries=2, timeout_minutes=90)


def test_every_statement_parses(plan: Plan, parses: Parses) -> None:
    """Each statement is one statement of Snowflake's SQL; sqlfluff knows all of their clauses."""
    assert [s.sql for s in everything(plan) if not parses(s.sql)] == []


@pytest.mark.parametrize(
    "sql",
    [
        "EXECUTE TASK a RETRY FIRST",
        "CREATE TASK a FINALIZE b AS SELECT 1",
        "ALTER TASK a RESUME; SELECT 1",
        "PUT 'file:///a' '@b' AUTO_COMPRESS = PERHAPS",
    ],
)
def test_the_checker_rejects_invalid_sql(sql: str, parses: Parses) -> None:
    """Broken statements, and two in one, are recognized."""
    assert not parses(sql)


def test_hostile_names_stay_names(plan: Plan, parses: Parses) -> None:
    """A node, a parameter or an environment that looks like SQL does not change a statement's structure."""
    steps = tuple(replace(step, node=EVIL) for step in plan.steps)
    hostile = replace(plan, steps=steps, params={"a": EVIL, "b": {"$$": EVIL}}, env=EVIL)
    written = everything(hostile)
    assert [s.sql.split(" ")[:2] for s in written] == [
        s.sql.split(" ")[:2] for s in everything(plan)
    ]
    calls = [s.sql for s in written if "RUN_NODE" in s.sql and " TASK " in s.sql]
    assert len(calls) == 4
    assert all(literal(EVIL) in sql and parses(sql) for sql in calls)
    root = next(s.sql for s in written if s.purpose == "the root")
    assert parses(root)


@settings(max_examples=30, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_parameters_arrive_unchanged(text: str) -> None:
    """A parameter's value survives CONFIG unchanged, read as Snowflake reads a literal."""
    written = literal(json.dumps({"a": text}))
    inner = written[1:-1].replace("''", "'").replace("\\\\", "\\")
    assert json.loads(inner) == {"a": text}


def test_the_order_of_statements(plan: Plan) -> None:
    """The root is suspended first, objects exist before they are named, and the root is resumed last."""
    sql = [s.sql for s in statements(plan, ARCHIVES)]
    forms = [" ".join(one.split()[:3]) for one in sql]
    assert forms[:2] == ["USE WAREHOUSE " + plan.settings.warehouse.sql, "CREATE STAGE IF"]
    assert forms.index("ALTER TASK IF") < forms.index("CREATE OR REPLACE", 8)
    seen: set[str] = set()
    for one in sql:
        lines = [line.strip() for line in one.splitlines()]
        for line in lines:
            if line.startswith(("AFTER ", "FINALIZE = ")):
                for name in line.removeprefix("AFTER ").removeprefix("FINALIZE = ").split(", "):
                    assert name in seen
        if lines[0].startswith("CREATE OR REPLACE TASK "):
            seen.add(lines[0].removeprefix("CREATE OR REPLACE TASK "))
    assert sql[-2] == f"ALTER TASK {plan.root.sql} RESUME"
    assert sql[-1] == f"EXECUTE TASK {plan.root.sql}"


def test_only_a_scheduled_root_is_resumed(planned: Callable[..., Plan]) -> None:
    """A root without a schedule runs when it is executed, and Snowflake would not resume it."""
    made = planned()
    resumed = [s.sql for s in statements(made, ARCHIVES) if s.sql.endswith(" RESUME")]
    assert f"ALTER TASK {made.root.sql} RESUME" not in resumed
    assert len(resumed) == len(made.tasks) - 1


def test_settings_become_clauses(plan: Plan) -> None:
    """Retries and the schedule belong to the root, the time limit to each node."""
    tasks = {s.purpose: s.sql for s in statements(plan, ARCHIVES) if "TASK" in s.sql}
    assert "TASK_AUTO_RETRY_ATTEMPTS = 2" in tasks["the root"]
    assert "SCHEDULE = 'USING CRON 0 6 * * * UTC'" in tasks["the root"]
    assert "USER_TASK_TIMEOUT_MS = 5400000" in tasks["the node join"]
    assert "USER_TASK_TIMEOUT_MS" not in tasks["the end, which always runs"]


def test_a_script_explains_its_statements(plan: Plan) -> None:
    """Each statement has its purpose before it, on one line whatever the node's name is."""
    steps = tuple(replace(step, node="a\nb; DROP") for step in plan.steps)
    hostile = replace(plan, steps=steps)
    text = script(hostile, statements(hostile, ARCHIVES))
    assert "-- the node a b; DROP\nCREATE OR REPLACE TASK" in text
    assert text.startswith("-- Kedro pipeline __default__ of wine.")


def test_wildcards_in_a_path_are_refused(plan: Plan) -> None:
    """PUT would treat wildcards in a path as patterns."""
    with pytest.raises(InvalidOptionError, match="wildcards"):
        statements(plan, ARCHIVES._replace(project=Path("/a[1]/project.zip")))


def test_a_stage_in_another_schema(planned: Callable[..., Plan], parses: Parses) -> None:
    """The stage may be in another schema, under any name."""
    made = planned(stage='@"My db"."s"."a; b"')
    assert made.settings.stage == Identifier(("My db", "s", "a; b"))
    assert [s.sql for s in everything(made) if "PUT" in s.sql and not parses(s.sql)] == []


class Account:
    """An account that remembers the tasks and procedures of a pipeline, as SHOW lists them."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, str]] = {}
        self.procedures: set[str] = set()
        self.ran: list[str] = []

    def sql(self, text: str) -> "Account":
        """Run a statement."""
        self._rows: list[Row] = []
        last = re.findall(r'"([^"]*)"', text.partition("(")[0].partition("\n")[0])[-1:]
        if text.startswith("SHOW TASKS"):
            self._rows = [Row(name=name, **task) for name, task in self.tasks.items()]
        elif text.startswith("SHOW PROCEDURES"):
            self._rows = [Row(name=name) for name in self.procedures]
        else:
            self.ran.append(text)
        if text.startswith("CREATE OR REPLACE TASK"):
            comment = re.search(r"COMMENT = '([^']*)'", text)
            body = text.partition("AS ")[2]
            told = comment[1] if comment else ""
            self.tasks[last[0]] = {"definition": body, "comment": told, "state": "suspended"}
        elif text.startswith("CREATE OR REPLACE PROCEDURE"):
            self.procedures |= set(last)
        elif text.endswith(" RESUME"):
            self.tasks[last[0]]["state"] = "started"
        elif text.startswith("DROP TASK"):
            del self.tasks[last[0]]
        elif text.startswith("DROP PROCEDURE"):
            self.procedures -= set(last)
        return self

    def collect(self) -> "list[Row]":
        """Return the rows of the last statement."""
        return self._rows


class Runs:
    """The history of a pipeline's tasks: the states of one run."""

    def __init__(self, *states: str) -> None:
        self._states = states

    def runs(self) -> list[TaskRun]:
        """Return the runs."""
        return [TaskRun("T", state, None, None, "", "", ("g", 1)) for state in self._states]


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    """Two small archives."""
    for name in ("project.zip", "ours.zip"):
        (tmp_path / name).write_text("x")
    return Archives(tmp_path / "project.zip", tmp_path / "ours.zip", "d1ge57")


def deployed(account: Account, plan: Plan, archives: Archives, *states: str, **more: Any) -> str:
    """Deploy a pipeline, and return the output."""
    console = Console(file=io.StringIO(), width=200)
    account.ran.clear()
    session: Any = account
    history: Any = Runs(*states)
    deploy(session, plan, archives, history, console, **more)
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]
    return shown


def verbs(account: Account) -> set[str]:
    """Return the first words of the statements that ran."""
    return {sql.split()[0] for sql in account.ran}


def test_unchanged_code_is_not_deployed_again(plan: Plan, archives: Archives) -> None:
    """The second run of the same code and settings uploads nothing, and runs one statement."""
    account = Account()
    assert "of code" in deployed(account, plan, archives)
    assert account.ran == [s.sql for s in statements(plan, archives)]
    assert "nothing changed" in deployed(account, plan, archives)
    assert account.ran == [start(plan).sql]


def test_a_changed_parameter_uploads_nothing(plan: Plan, archives: Archives) -> None:
    """Other parameters change only the tasks."""
    account = Account()
    deployed(account, plan, archives)
    shown = deployed(account, replace(plan, params={"a": 1}), archives)
    assert "the code is unchanged" in shown
    assert verbs(account) == {"ALTER", "CREATE", "EXECUTE"}
    assert not [sql for sql in account.ran if "PROCEDURE" in sql.partition("\n")[0]]


@pytest.mark.parametrize("damage", ["suspended", "dropped", "old node"])
def test_a_damaged_graph_is_deployed_again(plan: Plan, archives: Archives, damage: str) -> None:
    """A task that was suspended, dropped, or left from an older pipeline is detected."""
    account = Account()
    deployed(account, plan, archives)
    task = plan.steps[0].task.object
    if damage == "suspended":
        account.tasks[task]["state"] = "suspended"
    elif damage == "dropped":
        del account.tasks[task]
    else:
        account.tasks[f"{plan.root.object}__GONE"] = dict(account.tasks[task])
    deployed(account, plan, archives)
    assert set(account.tasks) == set(plan.tasks)
    assert account.tasks[task]["state"] == "started"


def test_a_run_keeps_its_own_code(plan: Plan, archives: Archives) -> None:
    """A new version has its own procedures, so a running version continues with its own code."""
    account = Account()
    deployed(account, plan, archives)
    first = set(account.procedures)
    deployed(account, plan, archives._replace(digest="second"), "EXECUTING")
    assert first < account.procedures
    second = account.procedures - first
    assert len(second) == len(first)
    assert not [sql for sql in account.ran if sql.startswith("DROP PROCEDURE")]


def test_old_versions_are_dropped_when_nothing_runs(plan: Plan, archives: Archives) -> None:
    """All but the new and the previous version are dropped once no run has an unfinished task."""
    account = Account()
    versions = [archives._replace(digest=digest) for digest in ("one", "two", "three", "four")]
    for made, state in zip(
        versions, ("SUCCEEDED", "SUCCEEDED", "EXECUTING", "FAILED"), strict=True
    ):
        deployed(account, plan, made, state)
        if state == "EXECUTING":
            assert len(account.procedures) == 9, "while a run goes on, nothing is dropped"
    kept = {
        name.object
        for made in versions[2:]
        for name in procedures(plan, version_of(plan, made)).values()
    }
    assert account.procedures == kept


def test_a_retry_replaces_the_code_of_the_failed_run(plan: Plan, archives: Archives) -> None:
    """Snowflake retries only an unchanged graph, so the procedures that it calls get the new code."""
    account = Account()
    deployed(account, plan, archives)
    before, tasks = set(account.procedures), dict(account.tasks)
    deployed(account, plan, archives._replace(digest="second"), "FAILED", retry=True)
    assert (account.procedures, account.tasks) == (before, tasks)
    assert account.ran[-1] == start(plan, retry=True).sql
    assert any("/second/project.zip" in sql for sql in account.ran)
    assert not [sql for sql in account.ran if " TASK " in sql and "EXECUTE" not in sql]


def test_an_error_says_to_run_the_command_again(plan: Plan, archives: Archives) -> None:
    """A failed statement is named, with a remedy that fits this command."""

    class Refusing(Account):
        def sql(self, text: str) -> "Account":
            if text.startswith("EXECUTE"):
                raise SnowparkSQLException("no privileges")
            return super().sql(text)

    with pytest.raises(BridgeError, match=r"no privileges.*run the command again"):
        deployed(Refusing(), plan, archives)


def test_external_access_is_a_clause_of_each_procedure(
    planned: Callable[..., Plan], parses: Parses
) -> None:
    """With external access the procedures name the integration and the secret, and no function."""
    made = planned(
        mlflow={"experiment_name": "x", "external_access": {"url": "https://mlflow.example.com"}}
    )
    written = [s.sql for s in statements(made, ARCHIVES)]
    created = [sql for sql in written if sql.startswith("CREATE OR REPLACE PROCEDURE")]
    assert len(created) == 3
    for sql in created:
        assert 'EXTERNAL_ACCESS_INTEGRATIONS = ("MLFLOW_ACCESS")' in sql
        assert """SECRETS = ('mlflow_token' = "DEMO"."PIPES"."MLFLOW_TOKEN")""" in sql
        assert parses(sql)
    assert any('"tracking_uri": "https://mlflow.example.com"' in sql for sql in written)


def test_secrets_of_credentials_are_in_the_clauses_too(
    planned: Callable[..., Plan], parses: Parses
) -> None:
    """Each secret has its own variable and each integration is named once; a change is a new version."""
    access = {"url": "https://mlflow.example.com", "integration": "OUT"}
    mlflow = {"experiment_name": "x", "external_access": access}
    plain = planned(mlflow=mlflow)
    secrets = {
        "bucket": {"secret": "bucket_key", "integration": "out"},
        "The api": {"secret": "a.b.api", "integration": "other"},
    }
    made = planned(mlflow=mlflow, secrets=secrets)
    sql = next(s.sql for s in statements(made, ARCHIVES) if "HANDLER = 'run_node'" in s.sql)
    assert 'EXTERNAL_ACCESS_INTEGRATIONS = ("OUT", "OTHER")' in sql
    assert """'credentials_bucket' = "DEMO"."PIPES"."BUCKET_KEY\"""" in sql
    assert re.search(r"'credentials_the_api_[0-9a-f]{8}' = \"A\"\.\"B\"\.\"API\"", sql)
    assert parses(sql)
    assert version_of(made, ARCHIVES) != version_of(plain, ARCHIVES)
    alone = planned(mlflow=None, secrets=secrets)
    assert all(
        "credentials_bucket" in s.sql
        for s in statements(alone, ARCHIVES)
        if s.sql.startswith("CREATE OR REPLACE PROCEDURE")
    )
