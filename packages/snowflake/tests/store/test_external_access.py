"""The SQL of external access, alone and combined with the external functions."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections_snowflake import drops, read, script, statements
from mlflow_connections_snowflake._sql import procedure_clauses


@pytest.fixture
def content(setup_files: Path) -> dict[str, Any]:
    """A configuration with external access in addition to the rest."""
    loaded: dict[str, Any] = yaml.safe_load((setup_files / "aws.yml").read_text())["snowflake"]
    loaded["mlflow"]["external_access"] = {"url": "https://mlflow.example.com/base"}
    return loaded


def test_rule_secret_and_integration_belong_to_the_administrator(content: dict[str, Any]) -> None:
    """All three are created in the order in which they name each other, before the owner's part."""
    written = statements(read(content))
    mine = [
        s
        for s in written
        if s.target and s.target.name.object in {"MLFLOW_EGRESS", "MLFLOW_TOKEN", "MLFLOW_ACCESS"}
    ]
    assert [s.sql.split('"')[0].strip() for s in mine] == [
        "CREATE OR REPLACE NETWORK RULE",
        "CREATE SECRET IF NOT EXISTS",
        "CREATE EXTERNAL ACCESS INTEGRATION IF NOT EXISTS",
        "ALTER EXTERNAL ACCESS INTEGRATION",
        "GRANT USAGE ON INTEGRATION",
        "GRANT READ ON SECRET",
    ]
    assert {s.run_as for s in mine} == {"admin"}
    assert "VALUE_LIST = ('mlflow.example.com:443')" in mine[0].sql


def test_it_works_alone(content: dict[str, Any]) -> None:
    """Without a gateway there are no external functions, and the rest is still written."""
    section = content["mlflow"]
    del section["gateway"], section["storage"]
    text = script(statements(read(content)))
    assert "EXTERNAL ACCESS INTEGRATION" in text
    assert "EXTERNAL FUNCTION" not in text
    assert drops(read(content)) == []
    gone = script(drops(read(content), with_integrations=True))
    assert "MLFLOW_ACCESS" in gone
    assert "FUNCTION" not in gone
    section["functions"] = {key: "f_" + key for key in section["functions"]}
    with pytest.raises(MissingOptionError, match=r"mlflow\.database"):
        statements(read(content))


def test_apply_sets_the_token_from_a_variable(content: dict[str, Any]) -> None:
    """The secret's value is inserted when the statement runs: a script shows only the variable."""
    content["mlflow"]["external_access"]["token_from_env"] = "MY_TOKEN"
    written = statements(read(content))
    [value] = [s for s in written if s.target and (s.verb, s.target.kind) == ("ALTER", "SECRET")]
    assert value.sql == (
        'ALTER SECRET "DEMO"."DEMO"."MLFLOW_TOKEN" SET\n  SECRET_STRING = \'${MY_TOKEN}\''
    )
    assert value.variables == ("MY_TOKEN",)
    assert "${MY_TOKEN}" in script(written)
    names = [s.sql.partition("\n")[0] for s in written]
    assert names.index('CREATE SECRET IF NOT EXISTS "DEMO"."DEMO"."MLFLOW_TOKEN"') < names.index(
        value.sql.partition("\n")[0]
    )
    content["mlflow"]["external_access"]["token_from_env"] = "not a name"
    with pytest.raises(InvalidOptionError, match=r"external_access\.token_from_env"):
        read(content)


def test_dropping_takes_the_integration_first(content: dict[str, Any]) -> None:
    """An integration is dropped before the objects that it names."""
    gone = [s.sql.split('"')[0].strip() for s in drops(read(content), with_integrations=True)][-3:]
    assert gone == [
        "DROP INTEGRATION IF EXISTS",
        "DROP SECRET IF EXISTS",
        "DROP NETWORK RULE IF EXISTS",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://mlflow.example.com",
        "mlflow.example.com",
        "https://",
        "https://me:pw@mlflow.example.com",
        "https://mlflow.example.com:99999",
        "https://a'b.example.com",
    ],
)
def test_an_address_that_no_rule_can_hold_is_refused(content: dict[str, Any], url: str) -> None:
    """Only https and a plain host name are accepted in a network rule."""
    content["mlflow"]["external_access"]["url"] = url
    with pytest.raises(InvalidOptionError, match=r"mlflow\.external_access\.url"):
        read(content)


def test_alone_it_needs_no_functions(content: dict[str, Any]) -> None:
    """Names of functions are required only if there is a gateway."""
    section = content["mlflow"]
    del section["functions"]
    with pytest.raises(MissingOptionError, match=r"mlflow\.functions\.experiment_get_by_name"):
        read(content)
    del section["gateway"], section["storage"]
    section |= {"database": "demo", "schema": "demo"}
    assert "EXTERNAL ACCESS INTEGRATION" in script(statements(read(content)))


def test_a_procedures_clauses(content: dict[str, Any]) -> None:
    """A procedure names the integration, and the secret under the name that the connection reads."""
    access = read(content).external_access
    assert access is not None
    clauses = procedure_clauses([access.integration], {"mlflow_token": access.secret})
    assert clauses == [
        'EXTERNAL_ACCESS_INTEGRATIONS = ("MLFLOW_ACCESS")',
        'SECRETS = (\'mlflow_token\' = "DEMO"."DEMO"."MLFLOW_TOKEN")',
    ]
