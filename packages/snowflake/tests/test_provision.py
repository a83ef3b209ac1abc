"""`check` and `apply`, against a small in-memory account that understands the generator's statements."""

import re
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.snowpark import Row
from snowflake.snowpark.exceptions import SnowparkSQLException

from mlflow_connections_snowflake import (
    BridgeConfig,
    BridgeError,
    Statement,
    apply,
    check,
    drops,
    statements,
)

if TYPE_CHECKING:
    from mlflow_connections_snowflake._statement import SqlObject


class Account:
    """Records the objects that statements create, and shows them in the columns that Snowflake documents."""

    def __init__(self) -> None:
        self.things: set[SqlObject] = set()
        self.grants: set[tuple[SqlObject, str, str]] = set()
        self.settings: dict[str, dict[str, str]] = {}
        self.ran: list[str] = []
        self.fails: str | None = None
        self.answer: str | Exception = '{"body": {"experiments": []}}'

    def run(self, statement: Statement) -> None:
        """Create the object of a statement."""
        thing = statement.target
        if thing is None:
            return
        if statement.verb == "GRANT":
            assert statement.role is not None
            self.grants.add((thing, statement.privilege, statement.role.object))
        elif statement.verb == "DROP":
            self.things.discard(thing)
        elif statement.verb == "CREATE" or thing in self.things:
            self.things.add(thing)
            clauses = re.findall(r"^  ([A-Z_]+) = (.*)$", statement.sql, re.MULTILINE)
            told = {key: value.strip("()'").lower() for key, value in clauses}
            self.settings.setdefault(thing.name.sql, {}).update(told)

    def sql(self, text: str, params: list[Any] | None = None) -> "_Answer":
        """Run a SHOW, a DESCRIBE or a call, as a session does."""
        self.ran.append(text)
        if self.fails and self.fails in text:
            raise SnowparkSQLException("it broke; see the log")
        if text.startswith("SELECT"):
            if isinstance(self.answer, Exception):
                raise self.answer
            return _Answer([Row(V=self.answer)])
        return _Answer(self.rows(text))

    def rows(self, text: str) -> list[Row]:
        """Answer a SHOW or a DESCRIBE."""
        if text.startswith("SHOW GRANTS "):
            wanted = text.removeprefix("SHOW GRANTS ON ").removeprefix("SHOW GRANTS OF ")
            return [
                Row(privilege=privilege, grantee_name=role)
                for thing, privilege, role in self.grants
                if thing.granted == wanted
            ]
        if text.startswith("DESCRIBE INTEGRATION "):
            settings = self.settings.get(text.removeprefix("DESCRIBE INTEGRATION "), {})
            return [Row(property=k, property_value=v) for k, v in settings.items()]
        kind, _, place = text.removeprefix("SHOW ").partition(" IN ")
        return [
            Row(
                name=thing.name.object,
                arguments=f"{thing.name.object}({', '.join(thing.types or ())}) RETURN VARIANT",
                is_external_function="Y" if thing.kind.startswith("EXTERNAL") else "N",
            )
            for thing in self.things
            if f"{thing.word}S" == kind.rpartition(" ")[2]
            and place.partition(" ")[2] == ".".join(f'"{p}"' for p in thing.name.parts[:-1])
        ]


class _Answer:
    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def collect(self) -> list[Row]:
        return self._rows


def built(setup: BridgeConfig, *without: Statement) -> Account:
    """An account in which every statement ran except the given ones."""
    account = Account()
    for statement in statements(setup):
        if statement not in without:
            account.run(statement)
    return account


def findings(account: Any, setup: BridgeConfig) -> list[Any]:
    """Return the faults that a check of the account finds."""
    return [finding for finding in check(account, setup) if not finding.ok]


def test_a_complete_account_has_no_faults(setup: BridgeConfig) -> None:
    """If everything ran, there is nothing to fix, and each statement was checked."""
    found = list(check(built(setup), setup))  # type: ignore[arg-type] # the account is a session
    assert [finding for finding in found if not finding.ok] == []
    asked = [s for s in statements(setup) if s.target is not None]
    assert len(found) == len(asked) + 1


def test_a_missing_object_is_reported_with_its_fix(aws: BridgeConfig) -> None:
    """For each missing statement, the check returns it, and running the fix repairs the account."""
    for left_out in statements(aws):
        if left_out.target is None or left_out.verb == "ALTER":
            continue
        account = built(aws, left_out)
        [finding] = findings(account, aws)
        assert left_out.sql in finding.fix
        assert str(left_out.target) in finding.what
        for statement in finding.fix_statements:
            account.run(statement)
        assert findings(account, aws) == []


def test_the_fix_of_a_function_grants_it_too(aws: BridgeConfig) -> None:
    """Replacing a function drops its grants, so the fix includes them."""
    left_out = next(s for s in statements(aws) if s.target and s.target.kind == "EXTERNAL FUNCTION")
    [finding] = findings(built(aws, left_out), aws)
    assert "GRANT USAGE ON FUNCTION" in finding.fix


def test_an_empty_account_gets_every_fix(setup: BridgeConfig) -> None:
    """If nothing ran, the fixes together are all statements except the changes of roles."""
    account = Account()
    account.answer = SnowparkSQLException("Unknown user-defined function DEMO.DEMO.X")
    *things, call = findings(account, setup)
    fixes = "\n".join(finding.fix for finding in things)
    for statement in statements(setup):
        assert statement.verb == "ALTER" or statement.sql in fixes
    assert "does not exist, or this role may not call it" in call.fix


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"ENABLED": "false"}, "is not enabled"),
        ({"API_ALLOWED_PREFIXES": "https://other.example/"}, "does not allow https://"),
    ],
)
def test_an_integration_that_allows_too_little(
    setup: BridgeConfig, change: dict[str, str], what: str
) -> None:
    """An integration that is disabled, or belongs to another gateway, is fixed by its ALTER."""
    account = built(setup)
    account.settings[setup.require_gateway()[0].integration.sql].update(change)
    [finding] = findings(account, setup)
    assert what in finding.what
    use_role, alter = finding.fix.split(";\n")
    assert use_role == 'USE ROLE "ACCOUNTADMIN"'
    assert alter.startswith("ALTER API INTEGRATION ")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("remote service error: 503 '<html>'", "is down: it responded 503"),
        ("Error parsing JSON: <html>", "a page instead of MLflow's JSON"),
        ("Request failed for external function F: timed out", "did not respond in time"),
    ],
)
def test_a_gateway_that_fails_is_one_finding(aws: BridgeConfig, said: str, sentence: str) -> None:
    """A gateway that is down, slow or returns HTML is one line, not Snowflake's traceback."""
    account = built(aws)
    account.answer = SnowparkSQLException(said)
    [finding] = findings(account, aws)
    assert finding.what == "MLflow cannot be reached"
    assert sentence in finding.fix
    assert "\n" not in finding.fix


def test_a_check_changes_nothing(aws: BridgeConfig) -> None:
    """A check only reads."""
    account = built(aws)
    list(check(account, aws))  # type: ignore[arg-type] # the account is a session
    assert {text.split()[0] for text in account.ran} == {"SHOW", "DESCRIBE", "SELECT"}
    assert len(account.ran) == len(set(account.ran))


def test_apply_runs_all_in_order_and_reports(setup: BridgeConfig) -> None:
    """Apply runs each statement once, in order, and names each before it runs."""
    account = Account()
    told: list[tuple[int, str]] = []
    written = statements(setup)
    apply(account, written, lambda number, s: told.append((number, s.sql)))  # type: ignore[arg-type]
    assert account.ran == [statement.sql for statement in written]
    assert told == [(n, s.sql) for n, s in enumerate(written, 1)]


def test_apply_stops_at_a_failure(aws: BridgeConfig) -> None:
    """The failed statement is named with Snowflake's message, and none runs after it."""
    account = Account()
    account.fails = "CREATE SCHEMA"
    with pytest.raises(BridgeError, match=r"Statement \d+ of \d+ \(CREATE SCHEMA .*it broke"):
        apply(account, statements(aws))  # type: ignore[arg-type] # the account is a session
    assert account.ran[-1].startswith("CREATE SCHEMA")


@pytest.mark.parametrize(("role", "runs"), [("MLFLOW_OWNER", True), ("SYSADMIN", False)])
def test_a_token_restricted_to_a_role(aws: BridgeConfig, role: str, runs: bool) -> None:
    """Such a session may not run USE ROLE, not even for its own role, and apply still works."""

    class Restricted(Account):
        def sql(self, text: str, params: list[Any] | None = None) -> "_Answer":
            if text.startswith("USE ROLE"):
                raise SnowparkSQLException("003107 Current session is restricted.")
            if text == "SELECT CURRENT_ROLE()":
                return _Answer([Row(R=role)])
            return super().sql(text, params)

    account = Restricted()
    mine = [s for s in statements(aws) if s.run_as == "owner"]
    if runs:
        apply(account, mine)  # type: ignore[arg-type] # the account is a session
        assert account.ran == [s.sql for s in mine[1:]]
    else:
        with pytest.raises(BridgeError, match="Current session is restricted"):
            apply(account, mine)  # type: ignore[arg-type] # the account is a session


def test_drop_leaves_no_function(setup: BridgeConfig) -> None:
    """After a drop only objects with data or trust remain."""
    account = built(setup)
    for statement in drops(setup):
        account.run(statement)
    assert {thing.word for thing in account.things} == {
        "ROLE",
        "INTEGRATION",
        "DATABASE",
        "SCHEMA",
        "STAGE",
    }
