"""`kedro run` of a real project tracks to the server in mlflow.yml, with kedro-mlflow and without."""

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

    from mlflow_connections_sandbox import MlflowServer

# Spawned children with kedro-mlflow do not work yet.


@pytest.mark.with_kedro_mlflow
def test_plugin_of_the_specification(project: "Project") -> None:
    """A plugin written from the specification alone works in a real Kedro project."""
    project.server(tracking_uri="my_connection")
    first, _ = project.run(MLFLOW_ALLOW_FILE_STORE="true")
    folder = project.folder / "my_tracking_uri"
    assert first["tracking"] == folder.as_uri()
    assert [path.read_text().split()[1] for path in folder.glob("*/*/metrics/answer")] == ["1.0"]


@pytest.mark.with_kedro_mlflow
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
def test_no_settings(project: "Project", content: str) -> None:
    """With an empty mlflow.yml, an empty server or a null key, the environment variable counts."""
    project.write("conf/base/mlflow.yml", content)
    project.run(MLFLOW_TRACKING_URI=project.database)
    assert project.metrics() == [1, 2]


def test_environments_replace_the_whole_server(project: "Project") -> None:
    """`--env prod` reads conf/prod/mlflow.yml, whose server replaces that of base completely."""
    project.server(tracking_uri="declared", connection={"region": "x", "workspace": "y"})
    project.server("prod", tracking_uri=project.database)
    project.run("--env", "prod")
    assert project.metrics() == [1, 2]


def test_relative_path_is_below_the_project(project: "Project") -> None:
    """A folder, in kedro-mlflow's spelling also any word, is created in the project."""
    project.server(mlflow_tracking_uri="folder")
    first, _ = project.run(MLFLOW_ALLOW_FILE_STORE="true")
    assert first["tracking"] == (project.folder / "folder").as_uri()


@pytest.mark.parametrize(
    ("runner", "start"),
    [("ThreadRunner", "fork"), ("ParallelRunner", "fork"), ("ParallelRunner", "spawn")],
)
def test_runners(project: "Project", runner: str, start: str) -> None:
    """Nodes in threads, forked and spawned children use the same URI and the exported secret."""
    project.credentials(lake={"token": "t-0815"})
    project.server(
        tracking_uri="lake",
        credentials="lake",
        connection={"database": project.database.removeprefix("sqlite:///")},
    )
    if start == "spawn":
        # One node after another: a second new interpreter would prove nothing more.
        pipeline = project.folder / "src/shop/pipeline_registry.py"
        pipeline.write_text(
            pipeline.read_text().replace('"params:two", "second"', '"first", "second"')
        )
    seen = project.run("--runner", runner, KEDRO_MP_CONTEXT=start)
    assert [row["tracking"] for row in seen] == [project.database] * 2
    assert [row["variables"]["LAKE_TOKEN"] for row in seen] == ["t-0815"] * 2
    assert all(row["child"] for row in seen) == (runner == "ParallelRunner")
    assert project.metrics() == ([1, 1] if start == "spawn" else [1, 2])


def test_packaged_project_with_an_archive_of_its_configuration(project: "Project") -> None:
    """A packaged project, run as a module with `--conf-source`, is resolved in the same way."""
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


@pytest.mark.with_kedro_mlflow
def test_active_run_is_used(project: "Project") -> None:
    """While a run is active nothing is resolved, not even an unregistered keyword."""
    project.server(tracking_uri="nobody", connection={"a": 1}, credentials="nowhere")
    done = project.python("-c", _ACTIVE, project.database)
    assert done.returncode == 0, done.stderr
    assert {row["run"] for row in project.seen()} == {done.stdout.split()[-1]}
    assert project.metrics() == [1, 2]


@pytest.mark.with_kedro_mlflow
def test_an_active_run_on_another_server_is_warned_of(project: "Project") -> None:
    """A warning names both servers if the active run's differs from that of mlflow.yml."""
    other = project.store("other.db")
    project.server(tracking_uri=other)
    done = project.python("-c", _ACTIVE, project.database)
    assert done.returncode == 0, done.stderr
    assert project.metrics() == [1, 2]
    assert project.metrics(other) == []
    said = " ".join((done.stdout + done.stderr).split())
    assert f"on {project.database}, which is used instead of {other}" in said


@pytest.mark.with_kedro_mlflow
@pytest.mark.parametrize("experiment", ["shop", "another"])
def test_run_of_an_orchestrator_is_used(project: "Project", experiment: str) -> None:
    """A run in MLFLOW_RUN_ID with MLFLOW_TRACKING_URI belongs to an orchestrator, and is resumed there."""
    from mlflow import MlflowClient

    client = MlflowClient(project.database)
    created = client.create_experiment(experiment)
    run = client.create_run(created, run_name="nightly").info.run_id
    project.server(tracking_uri="nobody")
    first, _ = project.run(
        MLFLOW_RUN_ID=run, MLFLOW_TRACKING_URI=project.database, MLFLOW_EXPERIMENT_ID=created
    )
    assert first["run"] == run
    assert client.get_run(run).info.run_name == "nightly"
    assert project.metrics() == [1, 2]


@pytest.mark.with_kedro_mlflow
def test_kedro_mlflow_alone_does_not_find_the_orchestrators_run(
    project: "Project", with_kedro_mlflow: bool
) -> None:
    """In the same situation, kedro-mlflow without this package fails; MLflow alone resumes the run."""
    from mlflow import MlflowClient

    client = MlflowClient(project.database)
    created = client.create_experiment("another")
    run = client.create_run(created).info.run_id
    project.write(
        "src/shop/settings.py", 'DISABLE_HOOKS_FOR_PLUGINS = ("mlflow-connections-kedro",)\n'
    )
    done = project.kedro(
        "run",
        MLFLOW_RUN_ID=run,
        MLFLOW_TRACKING_URI=project.database,
        MLFLOW_EXPERIMENT_ID=created,
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode, "active experiment ID does not match" in said) == (
        (1, True) if with_kedro_mlflow else (0, False)
    )


@pytest.mark.with_kedro_mlflow
@pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner", "ParallelRunner"])
@pytest.mark.parametrize("fails", [False, True])
def test_runs_end_with_their_pipeline(project: "Project", runner: str, *, fails: bool) -> None:
    """A run that a node's own logging started ends with the pipeline's status, in any thread or process."""
    project.server(tracking_uri=project.database)
    done = project.kedro(
        "run", "--runner", runner, KEDRO_MP_CONTEXT="fork", FAILS=str(int(fails) * 2)
    )
    assert done.returncode == int(fails), done.stdout + done.stderr
    assert set(project.statuses()) == {"FAILED" if fails else "FINISHED"}


_SECRETS_HOOK = """
from kedro.framework.hooks import hook_impl


class Secrets:
    @hook_impl{order}
    def after_context_created(self, context):
        context.config_loader["credentials"] = {{"vault": {{"token": "t-0815"}}}}


HOOKS = (Secrets(),)
"""


@pytest.mark.with_kedro_mlflow
@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("order", ["(tryfirst=True)", "", "(trylast=True)"])
def test_secrets_hook(
    project: "Project", order: str, with_kedro_mlflow: bool, *, stale: bool
) -> None:
    """Credentials that a hook fetches count, whatever its order, and override those in a file."""
    project.write("src/shop/settings.py", _SECRETS_HOOK.format(order=order))
    if stale:
        project.write("conf/local/credentials.yml", "vault: {token: stale}\n")
    project.server(
        tracking_uri="lake",
        credentials="vault",
        connection={"database": project.database.removeprefix("sqlite:///")},
    )
    if with_kedro_mlflow and order != "(tryfirst=True)" and not stale:
        # kedro-mlflow reads the server before such a hook is called.
        assert "'vault', which is not an entry of the project's credentials" in project.fail()
        return
    first, _ = project.run()
    assert first["variables"]["LAKE_TOKEN"] == "t-0815"


_LATE_HOOK = """
from kedro.framework.hooks import hook_impl


class Late:
    @hook_impl
    def after_context_created(self, context):
        self.loader = context.config_loader

    @hook_impl
    def {stage}(self):
        self.loader["credentials"] = {{"vault": {{"database": "{database}"}}}}


HOOKS = (Late(),)
"""


@pytest.mark.with_kedro_mlflow
@pytest.mark.parametrize("stage", ["after_catalog_created", "before_pipeline_run"])
def test_credentials_that_change_late(
    project: "Project", stage: str, with_kedro_mlflow: bool
) -> None:
    """If credentials change after the context was created, the URI is resolved again before any node."""
    database = project.database.removeprefix("sqlite:///")
    other = project.store("other.db")
    project.write("src/shop/settings.py", _LATE_HOOK.format(stage=stage, database=database))
    project.credentials(vault={"database": other.removeprefix("sqlite:///")})
    project.server(tracking_uri="vault", credentials="vault")
    done = project.kedro("run")
    assert done.returncode == 0, done.stdout + done.stderr
    if with_kedro_mlflow and stage == "before_pipeline_run":
        assert "The credentials changed after kedro-mlflow had started its run" in done.stdout
        assert (project.metrics(), project.metrics(other)) == ([], [1, 2])
    else:
        assert (project.metrics(), project.metrics(other)) == ([1, 2], [])


def test_commands_call_the_projects_hooks(project: "Project") -> None:
    """`check` uses credentials from a hook, and creates neither run nor experiment."""
    project.write(
        "src/shop/settings.py", _LATE_HOOK.format(stage="before_pipeline_run", database="")
    )
    hook = _SECRETS_HOOK.format(order="").replace(
        '"token": "t-0815"', f'"database": "{project.database.removeprefix("sqlite:///")}"'
    )
    project.write("src/shop/settings.py", hook)
    project.server(tracking_uri="vault", credentials="vault")
    done = project.kedro("mlflow-connections", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    # The database is a value of the credentials, so it is masked.
    assert "sqlite:///*** answered" in done.stdout
    assert project.statuses() == []
    from mlflow import MlflowClient

    names = [experiment.name for experiment in MlflowClient(project.database).search_experiments()]
    assert names == ["Default"]


@pytest.mark.with_kedro_mlflow
def test_a_misspelt_key_is_reported_first(project: "Project") -> None:
    """A misspelling of kedro-mlflow's own key raises one sentence instead of its model's error."""
    project.server(mlflow_trackin_uri=project.database)
    said = project.fail()
    assert "'server.mlflow_trackin_uri'" in said
    assert "did you mean 'mlflow_tracking_uri'?" in said


@pytest.mark.with_kedro_mlflow
def test_credentials_of_a_plain_uri(project: "Project", with_kedro_mlflow: bool) -> None:
    """An entry's variables are exported for a plain URI; only kedro-mlflow exports other keys."""
    project.credentials(dev={"MLFLOW_TRACKING_USERNAME": "ann", "AWS_REGION": "r", "FOREIGN": "x"})
    project.server(tracking_uri=project.database, credentials="dev")
    first, _ = project.run()
    exported = {"MLFLOW_TRACKING_USERNAME", "AWS_REGION", "FOREIGN"} & first["variables"].keys()
    assert exported == {"MLFLOW_TRACKING_USERNAME", "AWS_REGION"} | (
        {"FOREIGN"} if with_kedro_mlflow else set()
    )


@pytest.mark.with_kedro_mlflow
def test_mlflow_is_imported_only_on_use(project: "Project", with_kedro_mlflow: bool) -> None:
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
    """Commands that create no context resolve nothing, whatever mlflow.yml contains."""
    project.server(tracking_uri="nobody")
    assert project.kedro("registry", "list").returncode == 0
