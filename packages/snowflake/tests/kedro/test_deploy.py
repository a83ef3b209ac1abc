"""The SQL of a pipeline: Snowflake's grammar takes it, whatever is in a name, a path or a parameter."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_connections import InvalidOptionError
from mlflow_connections_snowflake import Statement
from mlflow_connections_snowflake._names import Identifier, literal
from mlflow_connections_snowflake.kedro._code import Archives
from mlflow_connections_snowflake.kedro._deploy import drop_task, script, start, statements
from mlflow_connections_snowflake.kedro._plan import Plan

Parses = Callable[[str], bool]

ARCHIVES = Archives(Path("/a b/it's/project.zip"), Path("/a b/it's/ours.zip"), "d1ge57")
EVIL = "x'); DROP TABLE t; -- \\"


def everything(plan: Plan) -> list[Statement]:
    """Every statement that can be written for a pipeline."""
    return [*statements(plan, ARCHIVES), start(plan, retry=True), drop_task(plan.end)]


@pytest.fixture
def plan(planned: Callable[..., Plan]) -> Plan:
    """A pipeline that has every clause."""
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
def test_the_judge_can_say_no(sql: str, parses: Parses) -> None:
    """Broken statements, and two in one, are seen as such."""
    assert not parses(sql)


def test_hostile_names_stay_names(plan: Plan, parses: Parses) -> None:
    """A node, a parameter or an environment that looks like SQL changes no statement's form."""
    steps = tuple(replace(step, node=EVIL) for step in plan.steps)
    hostile = replace(plan, steps=steps, params={"a": EVIL, "b": {"$$": EVIL}}, env=EVIL)
    written = everything(hostile)
    assert [s.sql.split(" ")[:2] for s in written] == [
        s.sql.split(" ")[:2] for s in everything(plan)
    ]
    calls = [s.sql for s in written if "RUN_NODE" in s.sql and "TASK" in s.sql]
    assert len(calls) == 4
    assert all(literal(EVIL) in sql and parses(sql) for sql in calls)
    root = next(s.sql for s in written if s.purpose == "the root")
    assert parses(root)


@settings(max_examples=30, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_parameters_arrive_as_they_were(text: str) -> None:
    """What a parameter holds is read back from CONFIG as it was, as Snowflake reads a literal."""
    written = literal(json.dumps({"a": text}))
    inner = written[1:-1].replace("''", "'").replace("\\\\", "\\")
    assert json.loads(inner) == {"a": text}


def test_the_order_of_things(plan: Plan) -> None:
    """The root is suspended first, what is named exists before, and the root is resumed last of all."""
    sql = [s.sql for s in statements(plan, ARCHIVES)]
    forms = [" ".join(one.split()[:3]) for one in sql]
    assert forms[0] == "CREATE STAGE IF"
    assert forms.index("ALTER TASK IF") < forms.index("CREATE OR REPLACE", 7)
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


def test_only_what_is_scheduled_is_resumed(planned: Callable[..., Plan]) -> None:
    """A root without a schedule runs when it is executed, and Snowflake would not resume it."""
    made = planned()
    resumed = [s.sql for s in statements(made, ARCHIVES) if s.sql.endswith(" RESUME")]
    assert f"ALTER TASK {made.root.sql} RESUME" not in resumed
    assert len(resumed) == len(made.tasks) - 1


def test_settings_become_clauses(plan: Plan) -> None:
    """Retries and the schedule are the root's, the time limit each node's."""
    tasks = {s.purpose: s.sql for s in statements(plan, ARCHIVES) if "TASK" in s.sql}
    assert "TASK_AUTO_RETRY_ATTEMPTS = 2" in tasks["the root"]
    assert "SCHEDULE = 'USING CRON 0 6 * * * UTC'" in tasks["the root"]
    assert "USER_TASK_TIMEOUT_MS = 5400000" in tasks["the node join"]
    assert "USER_TASK_TIMEOUT_MS" not in tasks["the end, whatever happened before"]


def test_a_script_tells_what_it_does(plan: Plan) -> None:
    """Each statement has its purpose before it, in one line whatever the node is called."""
    steps = tuple(replace(step, node="a\nb; DROP") for step in plan.steps)
    hostile = replace(plan, steps=steps)
    text = script(hostile, statements(hostile, ARCHIVES))
    assert "-- the node a b; DROP\nCREATE OR REPLACE TASK" in text
    assert text.startswith("-- Kedro pipeline __default__ of wine.")


def test_wildcards_in_a_path_are_refused(plan: Plan) -> None:
    """PUT would take them for patterns."""
    with pytest.raises(InvalidOptionError, match="wildcards"):
        statements(plan, ARCHIVES._replace(project=Path("/a[1]/project.zip")))


def test_a_stage_elsewhere(planned: Callable[..., Plan], parses: Parses) -> None:
    """The stage may lie in another schema, under any name."""
    made = planned(stage='@"My db"."s"."a; b"')
    assert made.settings.stage == Identifier(("My db", "s", "a; b"))
    assert [s.sql for s in everything(made) if "PUT" in s.sql and not parses(s.sql)] == []
