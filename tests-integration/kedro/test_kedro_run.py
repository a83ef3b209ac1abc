"""`kedro run` of a real project tracks where mlflow.yml says, with kedro-mlflow and without."""

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

    from mlflow_connections_sandbox import MlflowServer

# Spawned children beside kedro-mlflow have not been seen to pass yet.


def test_plugin_of_the_specification(project: "Project") -> None:
    """A plugin written from the specification alone works in a real Kedro project."""
    project.server(tracking_uri="my_connection")
    first, _ = project.run(new=True, MLFLOW_ALLOW_FILE_STORE="true")
    folder = project.folder / "my_tracking_uri"
    assert first["tracking"] == folder.as_uri()
    assert [path.read_text().split()[1] for path in folder.glob("*/*/metrics/answer")] == ["1.0"]


@pytest.mark.parametrize("spelling", ["{}", "mlflow_{}"])
def test_keyword_with_options_and_credentials(project: "Project", spelling: str) -> None:
    """A keyword in either spelling is resolved with its options and credentials; both URIs are set."""
    models = project.store("models.db")
    project.credentials(lake={"token": "t-0815", "other": "not for the environment"})
    project.server(
        **{spelling.format("tracking_uri"): "lake", spelling.format("registry_uri"): "lake"},
        credentials="lake",
        connection={
            "database": project.database.removeprefix("sqlite:///"),
            "models": models.removeprefix("sqlite:///"),
        },
    )
    first, _ = project.run()
    assert (first["tracking"], first["registry"]) == (project.database, models)
    assert first["variables"]["LAKE_TOKEN"] == "t-0815"
    assert not {"token", "other"} & first["variables"].keys()
    assert project.metrics() == [1, 2]


def test_plain_uri_of_a_real_server(project: "Project", mlflow_server: "MlflowServer") -> None:
    """A plain URI passes through, and its run arrives at a real MLflow server."""
    project.server(tracking_uri=mlflow_server.url)
    first, _ = project.run()
    assert first["tracking"] == first["registry"] == mlflow_server.url
    from mlflow import MlflowClient

    run = MlflowClient(mlflow_server.url).get_run(first["run"])
    assert run.data.metrics == {"answer": 2}


def test_environment_variable_may_hold_a_keyword(project: "Project") -> None:
    """Without mlflow.yml, MLFLOW_TRACKING_URI and MLFLOW_REGISTRY_URI may name a connection."""
    first, _ = project.run(
        MLFLOW_TRACKING_URI="lake",
        MLFLOW_REGISTRY_URI="lake",
        LAKE_DATABASE=project.database.removeprefix("sqlite:///"),
        LAKE_MODELS=str(project.folder / "models.db"),
    )
    assert first["tracking"] == project.database
    assert first["registry"].endswith("models.db")
    assert first["variables"]["MLFLOW_TRACKING_URI"] == project.database
    assert project.metrics() == [1, 2]


@pytest.mark.parametrize("content", ["", "server:\n", "server:\n  tracking_uri:\n"])
def test_nothing_said(project: "Project", content: str) -> None:
    """With an empty mlflow.yml, an empty server or a null key, the environment variable counts."""
    project.write("conf/base/mlflow.yml", content)
    project.run(MLFLOW_TRACKING_URI=project.database)
    assert project.metrics() == [1, 2]


def test_environments_replace_the_server_whole(project: "Project") -> None:
    """`--env prod` reads conf/prod/mlflow.yml, whose server replaces that of base whole."""
    project.server(tracking_uri="declared", connection={"region": "x", "workspace": "y"})
    project.server("prod", tracking_uri=project.database)
    project.run("--env", "prod")
    assert project.metrics() == [1, 2]


def test_relative_path_is_one_of_the_project(project: "Project") -> None:
    """A folder, in kedro-mlflow's spelling and any word, is made in the project."""
    project.server(mlflow_tracking_uri="folder")
    first, _ = project.run(MLFLOW_ALLOW_FILE_STORE="true")
    assert first["tracking"] == (project.folder / "folder").as_uri()


@pytest.mark.parametrize(
    ("runner", "start"),
    [("ThreadRunner", "fork"), ("ParallelRunner", "fork"), ("ParallelRunner", "spawn")],
)
def test_runners(project: "Project", runner: str, start: str) -> None:
    """Nodes in threads, forked and spawned children see the same URI and the exported secret."""
    project.credentials(lake={"token": "t-0815"})
    project.server(
        tracking_uri="lake",
        credentials="lake",
        connection={"database": project.database.removeprefix("sqlite:///")},
    )
    seen = project.run("--runner", runner, KEDRO_MP_CONTEXT=start)
    assert [row["tracking"] for row in seen] == [project.database] * 2
    assert [row["variables"]["LAKE_TOKEN"] for row in seen] == ["t-0815"] * 2
    assert all(row["child"] for row in seen) == (runner == "ParallelRunner")
    assert project.metrics() == [1, 2]


def test_packaged_project_with_an_archive_of_its_configuration(project: "Project") -> None:
    """A packaged project, run as a module with `--conf-source`, is resolved the same."""
    project.server(tracking_uri=project.database)
    subprocess.run(["tar", "-czf", "conf.tar.gz", "conf"], cwd=project.folder, check=True)
    (project.folder / "conf").rename(project.folder / "gone")
    project.environ["PYTHONPATH"] += f":{project.folder / 'src'}"
    done = project.python("-m", "shop", "--conf-source", "conf.tar.gz")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.metrics() == [1, 2]


_ACTIVE = """
import mlflow, sys
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

mlflow.set_tracking_uri(sys.argv[1])
bootstrap_project(Path.cwd())
with mlflow.start_run() as run, KedroSession.create() as session:
    session.run()
print(run.info.run_id)
"""


def test_active_run_is_used(project: "Project") -> None:
    """While a run is active nothing is resolved: not even a keyword that nobody registers."""
    project.server(tracking_uri="nobody", connection={"a": 1}, credentials="nowhere")
    done = project.python("-c", _ACTIVE, project.database)
    assert done.returncode == 0, done.stderr
    assert {row["run"] for row in project.seen()} == {done.stdout.split()[-1]}
    assert project.metrics() == [1, 2]


def test_run_of_an_orchestrator_is_used(project: "Project") -> None:
    """MLFLOW_RUN_ID with a MLFLOW_TRACKING_URI is the run of an orchestrator: it is resumed there."""
    from mlflow import MlflowClient

    client = MlflowClient(project.database)
    experiment = client.create_experiment("shop")
    run = client.create_run(experiment).info.run_id
    project.server(tracking_uri="nobody")
    first, _ = project.run(
        MLFLOW_RUN_ID=run, MLFLOW_TRACKING_URI=project.database, MLFLOW_EXPERIMENT_ID=experiment
    )
    assert first["run"] == run


_SECRETS_HOOK = """
from kedro.framework.hooks import hook_impl


class Secrets:
    @hook_impl{order}
    def after_context_created(self, context):
        context.config_loader["credentials"] = {{"vault": {{"token": "t-0815"}}}}


HOOKS = (Secrets(),)
"""


def test_secrets_hook(project: "Project", with_kedro_mlflow: bool) -> None:
    """Credentials that a hook of the user's fetches are heard; beside kedro-mlflow it comes first."""
    order = "(tryfirst=True)" if with_kedro_mlflow else ""
    project.write("src/shop/settings.py", _SECRETS_HOOK.format(order=order))
    project.server(
        tracking_uri="lake",
        credentials="vault",
        connection={"database": project.database.removeprefix("sqlite:///")},
    )
    first, _ = project.run()
    assert first["variables"]["LAKE_TOKEN"] == "t-0815"


def test_credentials_of_a_plain_uri(project: "Project", with_kedro_mlflow: bool) -> None:
    """Variables of an entry are exported for a plain URI; any other key by kedro-mlflow only."""
    project.credentials(dev={"MLFLOW_TRACKING_USERNAME": "ann", "AWS_REGION": "r", "FOREIGN": "x"})
    project.server(tracking_uri=project.database, credentials="dev")
    first, _ = project.run()
    exported = {"MLFLOW_TRACKING_USERNAME", "AWS_REGION", "FOREIGN"} & first["variables"].keys()
    assert exported == {"MLFLOW_TRACKING_USERNAME", "AWS_REGION"} | (
        {"FOREIGN"} if with_kedro_mlflow else set()
    )


def test_nothing_of_mlflow_is_imported_before_it_is_needed(
    project: "Project", with_kedro_mlflow: bool
) -> None:
    """A run that logs nothing sets the URI and never imports mlflow, unless kedro-mlflow does."""
    project.server(tracking_uri=project.database)
    project.write(
        "src/shop/nodes.py",
        """
        import json, os, sys

        def track(number):
            with open(os.environ["RECORD"], "a") as record:
                seen = {"mlflow": "mlflow" in sys.modules, "uri": os.environ["MLFLOW_TRACKING_URI"]}
                record.write(json.dumps(seen) + chr(10))
            return number
        """,
    )
    assert project.run(new=True) == [{"mlflow": with_kedro_mlflow, "uri": project.database}] * 2


def test_projects_commands_do_not_need_a_server(project: "Project") -> None:
    """Commands that make no context resolve nothing, whatever mlflow.yml holds."""
    project.server(tracking_uri="nobody")
    assert project.kedro("registry", "list").returncode == 0
