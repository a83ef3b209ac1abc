"""Accepted and refused statements, one by one, through the real connector."""

from collections.abc import Callable
from typing import Any

import pytest
from snowflake.connector.errors import ProgrammingError

from mlflow_connections_sandbox._snowflake import Snowflake

Run = Callable[..., list[tuple[Any, ...]]]

_AWS = "API_AWS_ROLE_ARN = 'arn:aws:iam::123456789012:role/mlflow'"
_REST = "API_ALLOWED_PREFIXES = ('https://x.example/a/') ENABLED = TRUE"
_GUID = "'11111111-2222-3333-4444-555555555555'"


@pytest.mark.parametrize(
    "sql",
    [
        f"CREATE API INTEGRATION i API_PROVIDER = aws_api_gateway {_AWS} {_REST}",
        f"create api integration if not exists i api_provider=aws_private_api_gateway {_AWS} {_REST}",
        (
            f"CREATE OR REPLACE API INTEGRATION i API_PROVIDER = AWS_API_GATEWAY {_AWS}"
            f" API_KEY = 'k' API_BLOCKED_PREFIXES = ('https://x.example/a/b') {_REST} COMMENT = 'it''s'"
        ),
        (
            "CREATE API INTEGRATION i API_PROVIDER = azure_api_management AZURE_TENANT_ID = "
            f"{_GUID} AZURE_AD_APPLICATION_ID = {_GUID} {_REST}"
        ),
        (
            "CREATE API INTEGRATION i API_PROVIDER = google_api_gateway GOOGLE_AUDIENCE = 'a'"
            f" /* a comment */ {_REST}; -- and another"
        ),
        (
            "CREATE STORAGE INTEGRATION i TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = 'GCS'"
            " ENABLED = TRUE STORAGE_ALLOWED_LOCATIONS = ('gcs://b/')"
        ),
        (
            "CREATE STORAGE INTEGRATION i TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = AZURE ENABLED = TRUE"
            f" AZURE_TENANT_ID = {_GUID} STORAGE_ALLOWED_LOCATIONS = ('azure://a.example/c/')"
        ),
        "CREATE FUNCTION f(EVENT OBJECT) RETURNS OBJECT LANGUAGE JAVASCRIPT AS 'return {};'",
        (
            "CREATE OR REPLACE FUNCTION f(a FLOAT, b STRING) RETURNS VARIANT NOT NULL"
            " LANGUAGE JAVASCRIPT STRICT IMMUTABLE COMMENT = 'c' AS $$ return `${B}`; // $ $$"
        ),
        'CREATE STAGE "a ""quoted"" stage" DIRECTORY = (ENABLE = TRUE)',
        "CREATE STAGE s ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE') COMMENT = 'c'",
        "CREATE ROLE r",
        "CREATE WAREHOUSE w WITH WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60",
        "CREATE SECRET k TYPE = GENERIC_STRING SECRET_STRING = 's'",
        "CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS VALUE_LIST = ('h.example:443')",
        "CREATE SCHEMA IF NOT EXISTS demo.other",
        "SHOW INTEGRATIONS",
        "SHOW EXTERNAL FUNCTIONS LIKE 'mlflow%' IN SCHEMA demo.demo",
        "SHOW GRANTS ON SCHEMA demo.demo",
        "SHOW GRANTS TO ROLE SYSADMIN",
        "SHOW GRANTS OF ROLE SYSADMIN",
        "GRANT ALL PRIVILEGES ON SCHEMA demo.demo TO ROLE SYSADMIN WITH GRANT OPTION",
        "GRANT SELECT ON ALL TABLES IN SCHEMA demo.demo TO ROLE PUBLIC",
        "GRANT USAGE ON FUTURE FUNCTIONS IN SCHEMA demo.demo TO ROLE PUBLIC",
        "REVOKE USAGE ON DATABASE demo FROM ROLE PUBLIC",
        "DROP INTEGRATION IF EXISTS nothing",
        "DROP FUNCTION IF EXISTS nothing(VARCHAR, NUMBER(10, 2))",
        "ALTER STAGE IF EXISTS nothing SET COMMENT = 'c'",
    ],
)
def test_accepts(run: Run, sql: str) -> None:
    """A statement that Snowflake documents is executed."""
    run(sql)


@pytest.mark.parametrize(
    ("sql", "number", "words"),
    [
        (
            f"CREATE API INTEGRATION i API_PROVIDER = aws_api_gateway {_REST}",
            2029,
            "API_AWS_ROLE_ARN",
        ),
        (f"CREATE API INTEGRATION i API_PROVIDER = aws {_AWS} {_REST}", 1008, "API_PROVIDER"),
        (
            f"CREATE API INTEGRATION i API_PROVIDER = google_api_gateway GOOGLE_AUDIENCE = 'a' {_AWS} {_REST}",
            1420,
            "API_AWS_ROLE_ARN",
        ),
        (
            f"CREATE API INTEGRATION i API_PROVIDER = aws_api_gateway {_AWS} ENABLED = TRUE",
            2029,
            "PREFIXES",
        ),
        (
            (
                f"CREATE API INTEGRATION i API_PROVIDER = aws_api_gateway {_AWS}"
                " API_ALLOWED_PREFIXES = ('http://x/') ENABLED = TRUE"
            ),
            1008,
            "https",
        ),
        (
            "CREATE API INTEGRATION i API_PROVIDER = aws_api_gateway API_AWS_ROLE_ARN = 'role' "
            + _REST,
            1008,
            "ARN",
        ),
        (
            f"CREATE API INTEGRATION i API_PROVIDER = aws_api_gateway {_AWS} {_REST} FOO = 1",
            1420,
            "FOO",
        ),
        (
            f"CREATE API INTEGRATION i API_PROVIDER = aws_api_gateway {_AWS} {_REST} ENABLED = TRUE",
            1421,
            "ENABLED",
        ),
        (
            f"CREATE API INTEGRATION i API_PROVIDER = aws_api_gateway {_AWS} {_REST} nonsense",
            1003,
            "nonsense",
        ),
        (f"CREATE OR REPLACE API INTEGRATION IF NOT EXISTS i {_REST}", 1003, "unexpected"),
        ("CREATE STAGE s URL = 's3://b/'", 3167, "STORAGE_INTEGRATION"),
        ("CREATE STAGE s URL = 's3://b/' STORAGE_INTEGRATION = missing", 2003, "MISSING"),
        (
            (
                "CREATE STORAGE INTEGRATION i TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = 'S3' ENABLED = TRUE"
                " STORAGE_AWS_ROLE_ARN = 'arn:aws:iam::123456789012:role/r'"
                " STORAGE_ALLOWED_LOCATIONS = ('gcs://b/')"
            ),
            1008,
            "s3://",
        ),
        (
            "CREATE FUNCTION f(EVENT OBJECT) RETURNS OBJECT LANGUAGE JAVASCRIPT AS 'return {'",
            100132,
            "DEMO.DEMO.F",
        ),
        (
            "CREATE FUNCTION f(a NUMBER) RETURNS FLOAT LANGUAGE JAVASCRIPT AS 'return A;'",
            2108,
            "NUMBER",
        ),
        ("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE PYTHON AS 'x'", 2, "PYTHON"),
        ("CREATE FUNCTION f(a JSON) RETURNS OBJECT LANGUAGE JAVASCRIPT AS 'x'", 2040, "JSON"),
        ("CREATE STAGE nowhere.demo.s", 2003, "NOWHERE"),
        ("CREATE NETWORK RULE n TYPE = IPV4 MODE = INGRESS VALUE_LIST = ('1.2.3.4')", 2, "IPV4"),
        ("GRANT FLY ON SCHEMA demo.demo TO ROLE PUBLIC", 1003, "FLY"),
        ("GRANT USAGE ON SCHEMA demo.demo TO ROLE nobody", 2003, "NOBODY"),
        ("GRANT USAGE ON INTEGRATION missing TO ROLE PUBLIC", 2003, "MISSING"),
        ("DROP INTEGRATION missing", 2003, "MISSING"),
        ("DESCRIBE FUNCTION missing(OBJECT)", 2003, "MISSING"),
        ("USE ROLE nobody", 2043, "Object does not exist, or operation cannot be performed."),
        ("SELECT 'open", 1003, "token"),
    ],
)
def test_refuses(run: Run, sql: str, number: int, words: str) -> None:
    """A statement that Snowflake would refuse is refused, and the message names the fault."""
    with pytest.raises(ProgrammingError) as refused:
        run(sql)
    assert refused.value.errno == number
    assert words in str(refused.value)


def test_names_in_quotes_keep_their_case(run: Run) -> None:
    """A quoted name is stored unchanged; any other in upper case."""
    run('CREATE STAGE "Mixed ""it"" Case"')
    run("CREATE STAGE plain")
    assert {row[1] for row in run("SHOW STAGES")} == {'Mixed "it" Case', "PLAIN"}


def test_replacing_an_integration_changes_its_identity(stand_in: Snowflake, run: Run) -> None:
    """OR REPLACE changes the external ID; ALTER and IF NOT EXISTS do not."""
    create = f"API INTEGRATION {{}} i API_PROVIDER = aws_api_gateway {_AWS} {_REST}"

    def external_id() -> str:
        return str({r[0]: r[2] for r in run("DESC INTEGRATION i")}["API_AWS_EXTERNAL_ID"])

    run(f"CREATE {create.format('')}")
    first = external_id()
    run(f"CREATE {create.format('IF NOT EXISTS')}")
    run("ALTER API INTEGRATION i SET API_ALLOWED_PREFIXES = ('https://y.example/')")
    assert external_id() == first
    run(f"CREATE OR REPLACE {create.format('')}")
    assert external_id() != first


def test_secrets_are_not_shown(stand_in: Snowflake, run: Run) -> None:
    """Neither DESCRIBE nor the journal shows an API key or a secret's text."""
    run(f"CREATE API INTEGRATION i API_PROVIDER = aws_api_gateway {_AWS} API_KEY = 'hush1' {_REST}")
    run("CREATE SECRET k TYPE = GENERIC_STRING SECRET_STRING = 'hush2'")
    shown = f"{run('DESC INTEGRATION i')}{run('DESC SECRET k')}{stand_in.statements.matching()}"
    assert "hush" not in shown
    assert "SECRET_STRING = '******'" in shown


def test_external_access_is_refused_on_a_trial_account(stand_in: Snowflake, run: Run) -> None:
    """A trial account refuses an external access integration with Snowflake's own number."""
    run("CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS VALUE_LIST = ('h.example:443')")
    sql = "CREATE EXTERNAL ACCESS INTEGRATION e ALLOWED_NETWORK_RULES = (n) ENABLED = TRUE"
    stand_in.assumptions.trial = True
    with pytest.raises(ProgrammingError) as refused:
        run(sql)
    assert refused.value.errno == 509009
    stand_in.assumptions.trial = False
    run(sql)
