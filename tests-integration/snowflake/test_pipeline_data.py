"""Data of a Kedro pipeline in Snowflake: frames, tables, files on a stage, and local credentials."""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from snowflake.snowpark import Session

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_snowflake.kedro._task import (
    active_run,
    end_mlflow_run,
    start_mlflow_run,
)

NODES = """
import mlflow
import pandas as pd
from snowflake.snowpark.context import get_active_session


def make():
    numbers = get_active_session().sql("SELECT 1 AS A UNION ALL SELECT 2 AS A")
    return numbers, pd.DataFrame({"A": [5, 6, 7]})


def save(numbers, file):
    mlflow.log_metric("numbers", numbers.count())
    return numbers, len(file)


def read(wines, length, exported, server):
    mlflow.log_metric("wines", wines.count())
    mlflow.log_metric("length", length + len(exported))
    mlflow.set_tag("server", server)
    return exported
"""

SERVICE = """
import requests
from kedro.io import AbstractDataset


class ServiceDataset(AbstractDataset):
    def __init__(self, url, credentials):
        self._url, self._token = url, credentials["token"]

    def load(self):
        answer = requests.get(self._url, headers={"Authorization": "Bearer " + self._token}, timeout=30)
        answer.raise_for_status()
        return answer.text

    def save(self, data):
        raise NotImplementedError

    def _describe(self):
        return {"url": self._url}
"""

REGISTRY = """
from kedro.pipeline import node, pipeline

from .nodes import make, read, save


def register_pipelines():
    nodes = [
        node(make, None, ["numbers", "file"], name="make"),
        node(save, ["numbers", "file"], ["wines", "length"], name="save"),
        node(read, ["wines", "length", "exported", "server"], "again", name="read"),
    ]
    return {"__default__": pipeline(nodes), "secretive": pipeline([node(len, "bucket", "x")])}
"""

CATALOG = {
    "wines": {
        "type": "snowflake.SnowparkTableDataset",
        "table_name": "WINES",
        "credentials": "dev",
        "save_args": {"mode": "overwrite"},
    },
    "file": {
        "type": "mlflow_connections_snowflake.kedro.datasets.SnowflakeStageFileDataset",
        "stage": "@KEDRO_PIPELINES",
        "filepath": "files/a b.csv",
        "credentials": "dev",
        "dataset": {"type": "pandas.CSVDataset", "save_args": {"index": False}},
    },
    "exported": {
        "type": "pandas.CSVDataset",
        "filepath": "s3://mlflow-sandbox/exports/in.csv",
        "credentials": "nowhere",
    },
    "again": {
        "type": "pandas.CSVDataset",
        "filepath": "s3://mlflow-sandbox/exports/out/again.csv",
        "credentials": "nowhere",
        "save_args": {"index": False},
    },
    "server": {
        "type": "cellar.service.ServiceDataset",
        "url": "https://mlflow.sandbox.example/version",
        "credentials": "service",
    },
    "bucket": {
        "type": "pandas.CSVDataset",
        "filepath": "s3://bucket/x.csv",
        "credentials": "nowhere",
    },
}


SETUP = """
CREATE STORAGE INTEGRATION exports TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = 'S3' ENABLED = TRUE
  STORAGE_AWS_ROLE_ARN = 'arn:aws:iam::123456789012:role/exports'
  STORAGE_ALLOWED_LOCATIONS = ('s3://mlflow-sandbox/exports/');
CREATE STAGE demo.demo.exports URL = 's3://mlflow-sandbox/exports/' STORAGE_INTEGRATION = exports;
CREATE NETWORK RULE demo.demo.service MODE = EGRESS TYPE = HOST_PORT VALUE_LIST = ('mlflow.sandbox.example');
CREATE SECRET demo.demo.service_token TYPE = GENERIC_STRING SECRET_STRING = '{secret}';
CREATE EXTERNAL ACCESS INTEGRATION service_access ALLOWED_NETWORK_RULES = (demo.demo.service)
  ALLOWED_AUTHENTICATION_SECRETS = (demo.demo.service_token) ENABLED = TRUE
"""
"""The objects that an administrator creates once, as in docs/snowflake-kedro.md."""

IN_SNOWFLAKE = {
    "stages": {"s3://mlflow-sandbox/exports/": "@EXPORTS"},
    "secrets": {"service": {"secret": "SERVICE_TOKEN", "integration": "SERVICE_ACCESS"}},
}


@pytest.fixture(scope="module")
def project(
    shell: Callable[..., str],
    ready: Callable[..., Any],
    mlflow_server: MlflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    """A project with data in Snowflake, whose user has no default warehouse."""
    folder = tmp_path_factory.mktemp("data")
    starter = ("--starter", "mlflow-connections-snowflake", "--name", "Cellar")
    shell(folder, None, "-m", "kedro", "new", *starter, answers="yes\n")
    project = folder / "cellar"
    (project / "src/cellar/nodes.py").write_text(NODES)
    (project / "src/cellar/pipeline_registry.py").write_text(REGISTRY)
    (project / "src/cellar/service.py").write_text(SERVICE)
    (project / "conf/base/catalog.yml").write_text(yaml.safe_dump(CATALOG))
    config = project / "conf/base/snowflake.yml"
    content = yaml.safe_load(config.read_text())
    content["snowflake"] |= IN_SNOWFLAKE
    config.write_text(yaml.safe_dump(content))
    with ready(project, mlflow_server, tmp_path_factory.mktemp("account")) as found:
        secret = json.dumps({"token": found.account.public.token})
        found.account.execute(SETUP.format(secret=secret).split(";"))
        exports = mlflow_server.folder / "artifacts/exports"
        exports.mkdir(parents=True, exist_ok=True)
        (exports / "in.csv").write_text("A\n8\n9\n")
        parameters = found.account.connection()
        del parameters["warehouse"]
        _credentials(project, {"snowflake": parameters, "dev": parameters})
        yield found


def _credentials(project: Path, entries: dict[str, Any]) -> None:
    (project / "conf/local/credentials.yml").write_text(yaml.safe_dump(entries))


class Task:
    """The parts of a task's context that its MLflow run needs."""

    id = "01-group"
    pipeline, env = "__default__", "local"

    def __init__(self, uri: str) -> None:
        self.mlflow = {"tracking_uri": uri, "experiment": "direct", "source": "wine"}


def test_with_external_access_the_run_needs_no_functions(
    mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own client creates the run once, nodes log to it, and it is ended."""
    import mlflow

    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    task: Any = Task(mlflow_server.url)
    run_id = start_mlflow_run(task)
    assert start_mlflow_run(task) == run_id, "a second delivery makes no second run"
    with active_run(task, run_id):
        mlflow.log_metric("rmse", 0.5)
    client = mlflow.MlflowClient(mlflow_server.url)
    assert client.get_run(run_id).info.status == "RUNNING"
    with pytest.raises(ValueError, match="mine"), active_run(task, run_id):
        raise ValueError("mine")
    assert client.get_run(run_id).info.status == "FAILED"
    assert start_mlflow_run(task) == run_id
    assert end_mlflow_run(task, finished=True) == run_id
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "wine")
    assert run.data.metrics == {"rmse": 0.5}
    task.id = "02-group"
    assert end_mlflow_run(task, finished=False) == ""


@pytest.mark.slow
def test_frames_tables_and_files_are_passed_on(project: Any, mlflow_server: MlflowServer) -> None:
    """A frame is passed as a table, which is dropped again; the catalog's data stays; credentials are replaced."""
    import mlflow

    shown = project.kedro("snowflake-mlflow", "run")
    [run] = project.runs("cellar")
    assert f"MLflow run {run.info.run_id}: FINISHED" in shown
    assert run.data.metrics == {"numbers": 2.0, "wines": 2.0, "length": 5.0}
    # The catalog's own file in the cloud, through its stage; a service, through a secret for its
    # credentials.
    again = mlflow_server.folder / "artifacts/exports/out/again.csv"
    assert again.read_text() == "A\n8\n9\n"
    assert run.data.tags["server"] == mlflow.__version__
    with zipfile.ZipFile(project.folder / "dist/snowflake/project.zip") as packed:
        assert project.account.public.token not in str([packed.read(n) for n in packed.namelist()])
    ran = [executed.sql for executed in project.account.statements.matching()]
    [transient] = [sql for sql in ran if "TRANSIENT" in sql.upper()]
    table = re.search(r"CELLAR__DEFAULT__DATA__\w+__NUMBERS", transient)
    assert table is not None
    assert any(sql.startswith("DROP TABLE IF EXISTS") and table[0] in sql for sql in ran)
    with Session.builder.configs(project.account.connection()).create() as session:
        tables = [
            str(row["name"]) for row in session.sql("SHOW TABLES IN SCHEMA demo.demo").collect()
        ]
    assert "WINES" in tables
    assert table[0] not in tables

    again = project.kedro("snowflake-mlflow", "run", "--no-wait")
    assert "Deployed: nothing changed." in again
    assert "kedro snowflake-mlflow watch" in again
    assert "FINISHED" in project.kedro("snowflake-mlflow", "watch")


def test_local_credentials_are_reported_before_deployment(project: Any) -> None:
    """A dataset that needs local credentials is refused, and nothing is deployed."""
    project.account.statements.clear()
    shown = project.kedro("snowflake-mlflow", "run", "--pipeline", "secretive", succeeds=False)
    assert "The catalog's 'bucket' needs the credentials 'nowhere'" in " ".join(shown.split())
    assert "Traceback" not in shown
    assert project.account.statements.matching() == []
