"""The generator: its output, and that it is valid for Snowflake's grammar whatever the names are."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_connections_snowflake import BridgeConfig, Statement, drops, read, script, statements

Parses = Callable[[str], bool]

NOT_IN_SQLFLUFF = {
    "ALTER API INTEGRATION": "sqlfluff 4 knows ALTER STORAGE INTEGRATION, and no other one"
}
"""Beginnings of statements that sqlfluff's dialect does not know, and why they are correct nevertheless."""


@pytest.mark.parametrize(
    "sql",
    ["USE ROLE a; USE ROLE b", "CREATE STAGE IF EXISTS x", "GRANT USAGE ON x", "DROP FUNCTION f(;"],
)
def test_the_checker_rejects_invalid_sql(sql: str, parses: Parses) -> None:
    """Two statements in one, and broken ones, are recognized."""
    assert not parses(sql)


def known(statement: Statement) -> bool:
    """Return whether sqlfluff can check a statement."""
    return not statement.sql.startswith(tuple(NOT_IN_SQLFLUFF))


def everything(setup: BridgeConfig) -> list[Statement]:
    """Return every possible statement for a configuration."""
    return [*statements(setup), *drops(setup, with_stages=True, with_integrations=True)]


def test_every_statement_parses(setup: BridgeConfig, parses: Parses) -> None:
    """For each cloud, each statement is one statement of Snowflake's SQL."""
    wrong = [s.sql for s in everything(setup) if known(s) and not parses(s.sql)]
    assert wrong == []


def test_the_exceptions_are_needed(setup: BridgeConfig, parses: Parses) -> None:
    """Each statement listed as unknown to sqlfluff is unknown to it."""
    excepted = [statement.sql for statement in everything(setup) if not known(statement)]
    assert len(excepted) == len(NOT_IN_SQLFLUFF)
    assert not any(parses(sql) for sql in excepted)


# sqlfluff also parses the first four, which is slow; all are split as a lexer would.
NAMES = (
    "'; DROP DATABASE demo; --",
    'a" ; DROP ROLE x; --',
    "$$",
    "new\nline; DROP TABLE t;",
    "*/ x /*",
    "\\'",
    "it's",
    "\u6771\u4eac",
    "select",
    "{{ jinja }}",
)


def hostile(evil: str) -> BridgeConfig:
    """A configuration whose names are all the given one, unless names must differ."""
    quoted = '"' + evil.replace('"', '""') + '"'
    keys = (
        "experiment_get_by_name",
        "run_create",
        "run_update",
        "run_log_metric",
        "run_log_parameter",
    )
    functions = {key: f'{quoted}.{quoted}."{key}{quoted[1:]}' for key in keys}
    return read(
        {
            "mlflow": {
                "experiment_name": evil,
                "stage": f'{quoted}.{quoted}."s{quoted[1:]}',
                "functions": functions,
                "roles": {"owner": quoted, "caller": f'"c{quoted[1:]}', "admin": f'"a{quoted[1:]}'},
                "gateway": {
                    "provider": "google",
                    "url": "https://demo.gateway.dev",
                    "audience": evil.replace("\n", ""),
                    "integration": quoted,
                },
                "storage": {
                    "location": "gcs://bucket",
                    "integration": quoted,
                    "internal_stage": f'"i{quoted[1:]}',
                },
            }
        }
    )


@pytest.mark.parametrize("evil", NAMES[:4])
def test_hostile_names_stay_names(evil: str, parses: Parses) -> None:
    """A name that looks like SQL produces exactly the statements that a harmless one produces."""
    harmless = hostile("x")
    written = everything(hostile(evil))
    # The translators' bodies contain no names: parsing them again would only take time.
    linted = [s for s in written if known(s) and "$$\n" not in s.sql]
    assert [s.sql for s in linted if not parses(s.sql)] == []
    assert [s.verb for s in written] == [s.verb for s in everything(harmless)]


def split(sql: str) -> list[str]:
    """Split a script as Snowflake's lexer does; a second parser, independent of the generator."""
    parts, current, position = [], "", 0
    ends = {"'": "'", '"': '"', "$$": "$$", "--": "\n"}
    while position < len(sql):
        start = next((mark for mark in ends if sql.startswith(mark, position)), None)
        if start is None:
            if sql[position] == ";":
                parts.append(current.strip())
                current = ""
            else:
                current += sql[position]
            position += 1
            continue
        end = position + len(start)
        while not sql.startswith(ends[start], end):
            # In a literal a backslash escapes the next character.
            end += 2 if start == "'" and sql[end] == "\\" else 1
        end += len(ends[start])
        current += "" if start == "--" else sql[position:end]
        position = end
    assert not current.strip()
    return parts


@settings(max_examples=40, deadline=None)
# A blank experiment name is refused.
@given(evil=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40).filter(str.strip))
def test_a_script_of_any_names_splits_into_its_statements(evil: str) -> None:
    """Whatever the names, a reader of the file finds the statements that were written, and no others."""
    written = everything(hostile(evil))
    assert split(script(written)) == [statement.sql.strip() for statement in written]


@pytest.mark.parametrize("evil", NAMES)
def test_comments_cannot_be_ended_by_a_name(evil: str) -> None:
    """A name with a line break in it cannot escape from the comment that shows it."""
    written = everything(hostile(evil))
    assert split(script(written)) == [statement.sql.strip() for statement in written]


def test_integrations_are_never_replaced(setup: BridgeConfig) -> None:
    """A replaced integration has a new external ID, which breaks the cloud's trust."""
    for statement in statements(setup):
        if "INTEGRATION" in statement.sql.partition("\n")[0] and statement.verb == "CREATE":
            assert "IF NOT EXISTS" in statement.sql
            assert "OR REPLACE" not in statement.sql


def test_only_functions_are_replaced(setup: BridgeConfig) -> None:
    """Objects with data or trust are created only if missing, so that the script can be run again."""
    for statement in statements(setup):
        if statement.verb == "CREATE":
            function = statement.target is not None and statement.target.word == "FUNCTION"
            assert ("OR REPLACE" in statement.sql) is function
            assert ("IF NOT EXISTS" in statement.sql) is not function


def test_grants_follow_each_replacement(setup: BridgeConfig) -> None:
    """Replacing a function drops its grants, so the next statement grants it again."""
    written = statements(setup)
    for statement, following in pairwise(written):
        if statement.verb == "CREATE" and "OR REPLACE" in statement.sql:
            assert following.target == statement.target
            assert following.sql.startswith("GRANT USAGE ON FUNCTION ")


def test_named_objects_are_created_before(setup: BridgeConfig) -> None:
    """An integration and both translators exist before the function that names them."""
    seen: set[str] = set()
    for statement in statements(setup):
        for line in statement.sql.splitlines():
            key, _, value = line.strip().partition(" = ")
            if key.endswith("_TRANSLATOR") or key in {"API_INTEGRATION", "STORAGE_INTEGRATION"}:
                assert value in seen
        if statement.target is not None and statement.verb == "CREATE":
            seen.add(statement.target.name.sql)


def test_each_part_belongs_to_one_role(setup: BridgeConfig) -> None:
    """The administrator's part creates no function, the owner's part no integration."""
    parts: dict[str, list[Statement]] = {"admin": [], "owner": []}
    for statement in statements(setup):
        parts[statement.run_as].append(statement)
    assert all(part[0].verb == "USE" for part in parts.values())
    assert all(s.verb != "USE" for part in parts.values() for s in part[1:])
    made = {
        k: {s.target.word for s in v if s.target and s.verb == "CREATE"} for k, v in parts.items()
    }
    assert made == {
        "admin": {"ROLE", "INTEGRATION", "DATABASE", "SCHEMA"},
        "owner": {"FUNCTION", "STAGE"},
    }


def test_functions_meet_mlflows_requirements(setup: BridgeConfig) -> None:
    """Nothing is compressed, which MLflow would refuse, and only https below the prefix is called."""
    prefix = setup.require_gateway()[0].prefix
    external = [s.sql for s in statements(setup) if "CREATE OR REPLACE EXTERNAL" in s.sql]
    assert len(external) == 14
    for sql in external:
        assert "COMPRESSION = NONE" in sql
        assert f"AS '{prefix}" in sql
        assert prefix.startswith("https://")
        assert "MAX_BATCH_ROWS = " in sql


def test_an_internal_stage_without_storage(aws: BridgeConfig) -> None:
    """Without storage the stage is an internal one, and no storage integration is created."""
    import dataclasses

    written = statements(dataclasses.replace(aws, storage=None))
    stages = [s.sql for s in written if s.sql.startswith("CREATE STAGE")]
    assert stages == [f"CREATE STAGE IF NOT EXISTS {aws.stage.sql}"]
    assert not any("STORAGE" in s.sql.partition("\n")[0] for s in written)


def test_other_schemas_get_their_grants() -> None:
    """A function in another schema can be created there, and its callers can use the schema."""
    setup: Any = {
        "mlflow": {
            "experiment_name": "x",
            "functions": {
                "experiment_get_by_name": "a.b.f1",
                "run_create": "a.b.f2",
                "run_update": "c.d.f3",
                "run_log_metric": "a.b.f4",
                "run_log_parameter": "a.b.f5",
            },
            "gateway": {"provider": "google", "url": "https://x.dev", "audience": "y"},
        }
    }
    sql = {statement.sql for statement in statements(read(setup))}
    assert 'GRANT CREATE FUNCTION ON SCHEMA "C"."D" TO ROLE "MLFLOW_OWNER"' in sql
    assert 'GRANT USAGE ON DATABASE "C" TO ROLE "MLFLOW_CALLER"' in sql


def test_drop_keeps_data_and_trust_unless_asked(setup: BridgeConfig) -> None:
    """Stages hold files and integrations hold trust: both stay unless they are requested."""
    kinds = {s.target.word for s in drops(setup) if s.target}
    assert kinds == {"FUNCTION"}
    dropped = {s.sql for s in drops(setup, with_stages=True, with_integrations=True)}
    made = {s.target for s in statements(setup) if s.target and s.verb == "CREATE"}
    for thing in made:
        if thing.word in {"FUNCTION", "STAGE", "INTEGRATION"}:
            assert f"DROP {thing.word} IF EXISTS {thing.sql}" in dropped
