"""Statements that Snowflake refuses in a context: no warehouse, owner's rights, restricted sessions."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.errors import DatabaseError, ProgrammingError
from snowflake.snowpark import Session

from mlflow_connections_sandbox._snowflake import Snowflake

Run = Callable[..., list[tuple[Any, ...]]]

TRY = """
def main(session, statements):
    outcomes = {}
    for sql in statements:
        try:
            session.sql(sql).collect()
            outcomes[sql] = None
        except Exception as error:
            outcomes[sql] = str(error)
    return outcomes
"""
BELOW = """
import json

def main(session, statements):
    return json.loads(session.call("TRY_CALLERS", statements))
"""

UNSUPPORTED = "090236 (42601): Stored procedure execution error: Unsupported statement type '{}'."
ALWAYS_REFUSED = {
    "PUT 'file:///tmp/x' @s": UNSUPPORTED.format("PUT_FILES"),
    "GET @s 'file:///tmp/x'": UNSUPPORTED.format("GET_FILES"),
}
OWNERS_REFUSED = {
    "REMOVE @s": UNSUPPORTED.format("REMOVE_FILES"),
    "RM @s/x": UNSUPPORTED.format("REMOVE_FILES"),
    "USE ROLE PUBLIC": UNSUPPORTED.format("USE"),
    "USE SCHEMA demo.public": UNSUPPORTED.format("USE"),
    "USE WAREHOUSE compute_wh": UNSUPPORTED.format("USE"),
    "ALTER SESSION SET QUERY_TAG = 'x'": UNSUPPORTED.format("ALTER_SESSION"),
    "CREATE TEMPORARY TABLE mine (a INT)": UNSUPPORTED.format("temporary TABLE"),
    "CREATE OR REPLACE TEMP STAGE mine": UNSUPPORTED.format("temporary STAGE"),
    "SET x = 1": (
        "090244 (42601): Use of session variable '$X' is not allowed in owners rights stored procedure"
    ),
    "SELECT $y": (
        "090244 (42601): Use of session variable '$Y' is not allowed in owners rights stored procedure"
    ),
    "SHOW PARAMETERS": UNSUPPORTED.format("SHOW PARAMETER"),
    "SHOW VARIABLES": UNSUPPORTED.format("SHOW VARIABLE"),
    "SHOW GRANTS": UNSUPPORTED.format("SHOW GRANT"),
    "EXPLAIN SELECT 1": UNSUPPORTED.format("EXPLAIN"),
    "ALTER USER sandbox SET DEFAULT_ROLE = x": UNSUPPORTED.format("ALTER_USER"),
}
ALLOWED = [
    "SELECT a FROM t",
    "INSERT INTO t VALUES (2)",
    "LIST @s",
    "CREATE STAGE IF NOT EXISTS another",
    "DROP STAGE IF EXISTS another",
    "GRANT USAGE ON SCHEMA demo.demo TO ROLE PUBLIC",
    "SHOW STAGES",
    "SHOW GRANTS ON SCHEMA demo.demo",
    "DESCRIBE STAGE s",
    "COPY FILES INTO @s FROM @s2",
    "EXECUTE TASK started",
]


def procedure(name: str, body: str, rights: str) -> str:
    """Return the DDL of a procedure that executes a list of statements."""
    return (
        f"CREATE OR REPLACE PROCEDURE {name}(statements ARRAY) RETURNS VARIANT LANGUAGE PYTHON"
        " RUNTIME_VERSION = '3.11' PACKAGES = ('snowflake-snowpark-python') HANDLER = 'main'"
        f" EXECUTE AS {rights} AS $$\n{body}\n$$"
    )


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snowflake]:
    """One account for all tests of the module, with a table, stages and a task."""
    folder = tmp_path_factory.mktemp("account")
    made = Snowflake("http://127.0.0.1:9", folder / "snowflake", folder / "artifacts")
    made.start()
    with snowflake.connector.connect(**made.connection()) as connection:
        for sql in (
            "CREATE TABLE t (a INT)",
            "CREATE STAGE s",
            "CREATE STAGE s2",
            "CREATE TASK started AS SELECT 1",
            procedure("try_owners", TRY, "OWNER"),
            procedure("try_callers", TRY, "CALLER"),
            procedure("below_owners", BELOW, "OWNER"),
        ):
            connection.cursor().execute(sql)
    yield made
    made.close()


def outcomes(account: Snowflake, name: str, statements: list[str]) -> dict[str, str | None]:
    """Run statements in a procedure and return the error of each, or None if there was none."""
    with snowflake.connector.connect(**account.connection(), paramstyle="qmark") as connection:
        cursor = connection.cursor().execute(
            f"CALL {name}(PARSE_JSON(?))", (json.dumps(statements),)
        )
        assert cursor is not None
        found: dict[str, str | None] = json.loads(cursor.fetchall()[0][0])
    return found


@pytest.mark.parametrize("name", ["try_owners", "below_owners"])
def test_owners_rights_allow_only_documented_statements(account: Snowflake, name: str) -> None:
    """Everything else is refused by its type, in a nested caller's-rights procedure as well."""
    refused = {**ALWAYS_REFUSED, **OWNERS_REFUSED}
    found = outcomes(account, name, [*refused, *ALLOWED])
    for sql, text in refused.items():
        assert text in str(found[sql]), sql
    assert {sql: found[sql] for sql in ALLOWED} == dict.fromkeys(ALLOWED)


def test_callers_rights_refuse_only_file_transfers(account: Snowflake) -> None:
    """A caller's-rights procedure has its caller's rights, except PUT and GET as SQL."""
    allowed = [
        *ALLOWED,
        *("REMOVE @s", "USE SCHEMA demo.demo", "CREATE TEMPORARY TABLE mine (a INT)"),
        *("SET x = 1", "SHOW GRANTS", "ALTER SESSION SET QUERY_TAG = 'x'", "USE ROLE PUBLIC"),
    ]
    found = outcomes(account, "try_callers", [*ALWAYS_REFUSED, *allowed])
    for sql, text in ALWAYS_REFUSED.items():
        assert text in str(found[sql]), sql
    assert {sql: found[sql] for sql in allowed} == dict.fromkeys(allowed)


@pytest.mark.parametrize("is_allowed", [True, False])
def test_copy_files_in_owners_rights_is_configurable(account: Snowflake, is_allowed: bool) -> None:
    """No source states whether COPY FILES may run with owner's rights, so both can be tested."""
    account.assumptions.copy_files_in_owners_rights = is_allowed
    try:
        found = outcomes(account, "try_owners", ["COPY FILES INTO @s FROM @s2"])
    finally:
        account.assumptions.copy_files_in_owners_rights = True
    [error] = found.values()
    assert (error is None) is is_allowed
    assert is_allowed or UNSUPPORTED.format("COPY_FILES") in str(error)


FILES = """
import io
import tempfile
from snowflake.snowpark.files import SnowflakeFile

def main(session, statements):
    folder = tempfile.mkdtemp()
    with open(folder + "/a.txt", "w") as file:
        file.write("from a file")
    session.file.put(folder + "/a.txt", "@s/in", auto_compress=False, overwrite=True)
    session.file.put_stream(io.BytesIO(b"from a stream"), "@s/in/b.txt", auto_compress=False)
    session.file.get("@s/in/a.txt", folder + "/got")
    with open(folder + "/got/a.txt") as file:
        got = [file.read()]
    got.append(session.file.get_stream("@s/in/b.txt").read().decode())
    with SnowflakeFile.open("@s/in/a.txt", "rb", require_scoped_url=False) as file:
        got.append(file.read().decode())
    for arguments in (("@s/in/a.txt", "rb"), ("@s/in/a.txt", "w"), ("@s/none", "rb")):
        try:
            SnowflakeFile.open(*arguments, require_scoped_url=arguments[0] == "@s/in/a.txt")
        except Exception as error:
            got.append(str(error))
    try:
        type(session)(session._conn)
    except Exception as error:
        got.append(str(error))
    return got
"""


@pytest.mark.parametrize("rights", ["OWNER", "CALLER"])
def test_file_operations_work_inside(account: Snowflake, rights: str) -> None:
    """`session.file` and SnowflakeFile work with either rights; a second session does not."""
    with Session.builder.configs(account.connection()).create() as session:
        session.sql(procedure("files", FILES, rights)).collect()
        got = json.loads(session.call("files", []))
    assert got[:3] == ["from a file", "from a stream", "from a file"]
    assert "scoped URL" in got[3]
    assert "Invalid mode 'w' for SnowflakeFile.open" in got[4]
    assert "091016" in got[5]
    assert "stored procedure" in got[6]


STREAM = """
def main(session, statements):
    try:
        session.file.get_stream(statements[0])
    except Exception as error:
        return str(error)
"""


def test_no_client_streams_from_an_external_stage(account: Snowflake) -> None:
    """`get_stream` is refused as GET is; only SnowflakeFile and COPY FILES reach an external stage."""
    with Session.builder.configs(account.connection()).create() as session:
        integration = (
            "CREATE STORAGE INTEGRATION s3 TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = 'S3' ENABLED = TRUE"
            " STORAGE_AWS_ROLE_ARN = 'arn:aws:iam::123456789012:role/x'"
            " STORAGE_ALLOWED_LOCATIONS = ('s3://mlflow-sandbox/')"
        )
        for sql in (
            integration,
            "CREATE STAGE outside URL = 's3://mlflow-sandbox/' STORAGE_INTEGRATION = s3",
            procedure("stream", STREAM, "CALLER"),
        ):
            session.sql(sql).collect()
        account.trust("S3")
        refused = json.loads(session.call("stream", ["@outside/x"]))
    assert "091003" in refused
    assert "external stage" in refused


def test_a_streamlit_app_has_owners_rights(account: Snowflake) -> None:
    """An app on a warehouse may run only the statements of an owner's-rights procedure."""
    connection: Any = account.streamlit_connection()
    with snowflake.connector.connect(**connection) as app:
        app.cursor().execute("SELECT a FROM t")
        with pytest.raises(ProgrammingError, match="REMOVE_FILES") as refused:
            app.cursor().execute("REMOVE @s")
    assert refused.value.errno == 90236


NO_WAREHOUSE = (
    "000606 (57P03): No active warehouse selected in the current session.  Select an active "
    "warehouse with the 'use warehouse' command."
)


@pytest.mark.parametrize("changed", [{"warehouse": None}, {"warehouse": "NOPE_WH"}])
def test_queries_need_a_warehouse(account: Snowflake, changed: dict[str, Any]) -> None:
    """Without a warehouse, or with an unknown one, a statement that computes is refused with 606."""
    with snowflake.connector.connect(**account.connection(**changed)) as connection:
        cursor = connection.cursor()
        for sql in (
            "SELECT * FROM t",
            "INSERT INTO t VALUES (1)",
            "CREATE TABLE other AS SELECT 1 AS a",
            "SELECT nothing()",
            "CALL try_owners(PARSE_JSON('[]'))",
            "SELECT * FROM TABLE(INFORMATION_SCHEMA.TASK_HISTORY())",
        ):
            with pytest.raises(ProgrammingError) as refused:
                cursor.execute(sql)
            assert NO_WAREHOUSE in str(refused.value), sql
        for sql in (
            "SELECT CURRENT_ROLE(), CURRENT_WAREHOUSE()",
            "CREATE STAGE IF NOT EXISTS free",
            "CREATE TABLE IF NOT EXISTS free_table (a INT)",
            "SHOW STAGES",
            "DESCRIBE STAGE s",
            "GRANT USAGE ON SCHEMA demo.demo TO ROLE PUBLIC",
            "COPY FILES INTO @s FROM @s2",
            "LIST @s",
            "USE SCHEMA demo.demo",
        ):
            cursor.execute(sql)
        with pytest.raises(ProgrammingError) as refused:
            cursor.execute(procedure("late", TRY, "OWNER"))
        assert "391531 (42601)" in str(refused.value)
        assert "An active warehouse is required for creating Python stored procedures." in str(
            refused.value
        )
        with pytest.raises(ProgrammingError, match="002043"):
            cursor.execute("USE WAREHOUSE nope_wh")
        with pytest.raises(ProgrammingError, match="NOPE_WH"):
            cursor.execute("CREATE TASK lost WAREHOUSE = nope_wh AS SELECT 1")
        cursor.execute("USE WAREHOUSE compute_wh")
        cursor.execute("SELECT * FROM t")


def test_a_warehouse_counts_only_for_roles_that_may_use_it(account: Snowflake) -> None:
    """After USE ROLE to a role without USAGE on the warehouse, no warehouse is active."""
    with snowflake.connector.connect(**account.connection()) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE ROLE poor")
        cursor.execute("GRANT ROLE poor TO USER sandbox")
        cursor.execute("USE ROLE poor")
        with pytest.raises(ProgrammingError, match="000606"):
            cursor.execute("SELECT 1 FROM VALUES (1)")
        cursor.execute("USE ROLE ACCOUNTADMIN")
        cursor.execute("GRANT USAGE ON WAREHOUSE compute_wh TO ROLE poor")
        cursor.execute("USE ROLE poor")
        cursor.execute("SELECT 1 FROM VALUES (1)")


def test_a_procedure_runs_on_its_callers_warehouse(account: Snowflake) -> None:
    """An owner without USAGE on any warehouse serves a caller with one."""
    with snowflake.connector.connect(**account.connection()) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE ROLE owner_role")
        cursor.execute(procedure("given", TRY, "OWNER"))
        for kind, name in (("DATABASE", "demo"), ("SCHEMA", "demo.demo")):
            cursor.execute(f"GRANT USAGE ON {kind} {name} TO ROLE owner_role")
        cursor.execute("GRANT USAGE ON PROCEDURE given(ARRAY) TO ROLE ACCOUNTADMIN")
        cursor.execute("GRANT OWNERSHIP ON PROCEDURE given(ARRAY) TO ROLE owner_role")
    sql = "SELECT CURRENT_ROLE() AS r FROM VALUES (1)"
    assert outcomes(account, "given", [sql]) == {sql: None}


@pytest.mark.parametrize(
    ("sql", "errno", "text"),
    [
        ("SELECT nothing(1)", 2140, "Unknown function NOTHING."),
        ("SELECT nothing(1):a.b::VARCHAR", 2140, "Unknown function NOTHING."),
        ("SELECT demo.demo.nothing(1)", 2141, "Unknown user-defined function DEMO.DEMO.NOTHING."),
        ("CALL nothing(1)", 2141, "Unknown user-defined function NOTHING."),
        ("SELECT * FROM nothing", 2003, "Object 'NOTHING' does not exist or not authorized."),
        ("USE ROLE ORGADMIN", 2043, "Object does not exist, or operation cannot be performed."),
        (
            "USE ROLE stranger",
            3013,
            "Requested role 'STRANGER' is not assigned to the executing user.",
        ),
    ],
)
def test_missing_objects_have_snowflakes_errors(
    account: Snowflake, sql: str, errno: int, text: str
) -> None:
    """Number and text are Snowflake's, not those of the engine behind the stand-in."""
    with snowflake.connector.connect(**account.connection(role="SECURITYADMIN")) as connection:
        if sql.endswith("stranger"):
            connection.cursor().execute("CREATE ROLE stranger")
        connection.cursor().execute("USE ROLE ACCOUNTADMIN")
        connection.cursor().execute("USE WAREHOUSE compute_wh")
        connection.cursor().execute("USE SCHEMA demo.demo")
        if sql.endswith("stranger"):
            connection.cursor().execute("REVOKE ROLE stranger FROM ROLE ACCOUNTADMIN")
        with pytest.raises(ProgrammingError) as refused:
            connection.cursor().execute(sql)
    assert refused.value.errno == errno
    assert text in str(refused.value)


@pytest.mark.parametrize("as_password", [True, False])
def test_a_restricted_token_keeps_its_role(account: Snowflake, as_password: bool) -> None:
    """A programmatic access token signs in, also as a password, and its role cannot be changed."""
    token = account.token(role="SYSADMIN")
    changed: dict[str, Any] = (
        {"password": token}
        if as_password
        else {
            "password": None,
            "token": token,
            "authenticator": "PROGRAMMATIC_ACCESS_TOKEN",
        }
    )
    with snowflake.connector.connect(**account.connection(role="SYSADMIN", **changed)) as made:
        assert made.role == "SYSADMIN"
        with pytest.raises(ProgrammingError, match="Current session is restricted") as refused:
            made.cursor().execute("USE ROLE PUBLIC")
    assert refused.value.errno == 3107
    with pytest.raises(DatabaseError, match="ACCOUNTADMIN"):
        snowflake.connector.connect(**account.connection(role="ACCOUNTADMIN", **changed))


def test_tokens_and_keys_sign_in(account: Snowflake) -> None:
    """Unrestricted tokens, OAuth tokens and registered key pairs sign in; no others do."""
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pair = {"password": None, "private_key": der, "authenticator": "SNOWFLAKE_JWT"}
    with pytest.raises(DatabaseError, match="JWT token is invalid"):
        snowflake.connector.connect(**account.connection(**pair))
    account.trust_key(public.decode())
    free = {
        "password": None,
        "token": account.token(),
        "authenticator": "PROGRAMMATIC_ACCESS_TOKEN",
    }
    oauth = {"password": None, "token": account.token(kind="OAUTH"), "authenticator": "OAUTH"}
    for changed in (pair, free, oauth):
        with snowflake.connector.connect(**account.connection(**changed)) as connection:
            connection.cursor().execute("USE ROLE PUBLIC")
    with pytest.raises(DatabaseError, match="Programmatic access token is invalid"):
        snowflake.connector.connect(**account.connection(**{**free, "token": "other"}))
    digest = base64.b64encode(hashlib.sha256(b"").digest())
    with pytest.raises(DatabaseError, match="OAuth"):
        snowflake.connector.connect(**account.connection(**{**oauth, "token": digest.decode()}))
