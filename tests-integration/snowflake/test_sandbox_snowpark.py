"""The stand-in of Snowflake with real Snowpark sessions, in front of a real MLflow server."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from mlflow_connections_sandbox import MlflowServer, Sandbox
from mlflow_connections_sandbox._snowflake import BASES, Snowflake

if TYPE_CHECKING:
    from snowflake.snowpark import Session

_GUID = "11111111-2222-3333-4444-555555555555"
_INTEGRATIONS = {
    "aws": "aws_api_gateway API_AWS_ROLE_ARN = 'arn:aws:iam::123456789012:role/mlflow'",
    "azure": f"azure_api_management AZURE_TENANT_ID = '{_GUID}' AZURE_AD_APPLICATION_ID = '{_GUID}'",
    "google": "google_api_gateway GOOGLE_AUDIENCE = 'mlflow'",
}
_SETUP = (
    """CREATE FUNCTION CREATE_REQUEST(EVENT OBJECT) RETURNS OBJECT LANGUAGE JAVASCRIPT AS $$
    const row = EVENT.body.data[0];
    return {
      body: { experiment_id: row[1], run_name: row[2], start_time: Date.now() },
      translatorData: row[0],
    };
    $$""",
    """CREATE FUNCTION ANSWER(EVENT OBJECT) RETURNS OBJECT LANGUAGE JAVASCRIPT AS $$
    return { body: { data: [[EVENT.translatorData, { body: EVENT.body }]] } };
    $$""",
)


def _bridge(session: "Session", provider: str) -> None:
    base = BASES[provider]
    session.sql(
        f"CREATE API INTEGRATION MLFLOW_API API_PROVIDER = {_INTEGRATIONS[provider]}"
        f" API_ALLOWED_PREFIXES = ('{base}/') ENABLED = TRUE"
    ).collect()
    for sql in _SETUP:
        session.sql(sql).collect()
    session.sql(
        "CREATE EXTERNAL FUNCTION RUN_CREATE(EXPERIMENT VARCHAR, NAME VARCHAR) RETURNS VARIANT"
        " API_INTEGRATION = MLFLOW_API MAX_BATCH_ROWS = 1 COMPRESSION = NONE"
        " REQUEST_TRANSLATOR = CREATE_REQUEST RESPONSE_TRANSLATOR = ANSWER"
        f" AS '{base}/api/2.0/mlflow/runs/create'"
    ).collect()


@pytest.mark.parametrize("provider", BASES)
def test_a_run_is_created_through_each_gateway(
    snowflake: Snowflake, session: "Session", mlflow_server: MlflowServer, provider: str
) -> None:
    """Values logged by a statement through each provider's gateway are read back from MLflow."""
    _bridge(session, provider)
    snowflake.trust("MLFLOW_API")
    name = "it's $ \\ ü"
    rows = session.sql(
        "SELECT demo.demo.run_create(?, ?):body.run.info.run_id::VARCHAR", params=["0", name]
    ).collect()
    run = MlflowClient(mlflow_server.url).get_run(rows[0][0])
    assert run.info.run_name == name
    assert [r.status for r in snowflake.gateways[provider].journal.requests("runs/create")] == [200]


def test_data_frames_call_external_functions(
    snowflake: Snowflake, session: "Session", mlflow_server: MlflowServer
) -> None:
    """call_function over a data frame creates a run for each row."""
    from snowflake.snowpark.functions import call_function, col, lit

    _bridge(session, "aws")
    snowflake.trust("MLFLOW_API")
    names = session.create_dataframe([["one"], ["two"]], schema=["name"])
    rows = names.select(
        col("name"), call_function("demo.demo.run_create", lit("0"), col("name")).alias("reply")
    ).collect()
    assert [row["NAME"] for row in rows] == ["one", "two"]
    assert len(snowflake.deliveries) == 2


def test_files_move_by_snowparks_api(snowflake: Snowflake, session: "Session") -> None:
    """put_stream, get_stream, list and copy_files work on internal stages."""
    import io

    for name in ("a", "b"):
        session.sql(f"CREATE STAGE {name}").collect()
    session.file.put_stream(io.BytesIO(b"model"), "@a/run/model.bin", auto_compress=False)
    session.file.copy_files("@a/run/", "@b/copied/")
    assert session.file.get_stream("@b/copied/model.bin").read() == b"model"
    assert [row["name"] for row in session.sql("LIST @b").collect()] == ["b/copied/model.bin"]


def test_the_environment_points_a_client_at_the_account(snowflake: Snowflake) -> None:
    """A process with the variables connects without any parameter."""
    code = (
        "import snowflake.connector as c\n"
        "with c.connect() as connection:\n"
        "    print(connection.cursor().execute('SELECT CURRENT_USER()').fetchone()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **snowflake.environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.strip() == "SANDBOX", done.stderr


def test_accounts_share_nothing(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    """Two stand-ins in one process have separate databases, objects and passwords."""
    import snowflake.connector

    first, second = (Snowflake(mlflow_server.url, tmp_path / name) for name in ("one", "two"))
    for account in (first, second):
        account.start()
    try:
        with snowflake.connector.connect(**first.connection()) as connection:
            connection.cursor().execute("CREATE TABLE mine (a INT)")
        with (
            snowflake.connector.connect(**second.connection()) as connection,
            pytest.raises(snowflake.connector.errors.ProgrammingError, match="MINE"),
        ):
            connection.cursor().execute("SELECT * FROM mine")
    finally:
        first.close()
        second.close()


def test_the_sandbox_starts_it(tmp_path: Path) -> None:
    """The sandbox finds the stand-in by its keyword, and its artifacts are the server's."""
    assert "snowflake" in Sandbox(tmp_path, ["snowflake"]).names
