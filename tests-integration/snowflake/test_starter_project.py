"""The project that `kedro new` creates from the starter runs unchanged, locally and as tasks in Snowflake."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlflow_connections_sandbox import MlflowServer

ROOT = Path(__file__).resolve().parents[2]
# The two lines above the tasks, which tests-integration/examples/test_printed.py compares.
GUIDE = re.findall(
    r"```text\n(wine, pipeline .*)\n(Deployed: .*)\n",
    (ROOT / "docs" / "snowflake-kedro.md").read_text(encoding="utf-8"),
)[0]
STARTER = ("-m", "kedro", "new", "--starter", "mlflow-connections-snowflake")


def made(shell: Callable[..., str], folder: Path, use_mlflow: str) -> Path:
    """Create a project without prompts."""
    config = folder / "config.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "project_name": "Wine",
                "repo_name": "wine",
                "python_package": "wine",
                "use_mlflow": use_mlflow,
            }
        )
    )
    shell(folder, None, *STARTER, "--config", str(config))
    return folder / "wine"


BY_EXTERNAL_ACCESS = "yes"
BY_EXTERNAL_FUNCTIONS = pytest.param("functions", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[BY_EXTERNAL_ACCESS, BY_EXTERNAL_FUNCTIONS])
def project(
    request: pytest.FixtureRequest,
    shell: Callable[..., str],
    ready: Callable[..., Any],
    mlflow_server: MlflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    """The starter's unchanged project with MLflow, in an account that `apply` has set up for it."""
    folder = made(shell, tmp_path_factory.mktemp("starter"), request.param)
    with ready(folder, mlflow_server, tmp_path_factory.mktemp("account")) as found:
        yield found


def test_unchanged_it_runs_as_tasks(project: Any, mlflow_server: MlflowServer) -> None:
    """One command runs it in Snowflake, both ways; its run, with model, is read back from MLflow."""
    import mlflow
    import pandas as pd

    config = yaml.safe_load((project.folder / "conf/base/snowflake.yml").read_text())["snowflake"]
    is_direct = "external_access" in config["mlflow"]
    assert is_direct is not ("gateway" in config["mlflow"])
    before = len(project.runs("wine"))
    project.account.public.journal.clear()
    project.account.statements.clear()
    project.kedro("snowflake-mlflow", "run", "--dry-run", "-o", "pipeline.sql")
    assert project.account.statements.matching() == []
    shown = project.kedro("snowflake-mlflow", "run")
    run, *others = project.runs("wine")
    assert len(others) == before
    assert f"MLflow run {run.info.run_id}: FINISHED" in shown
    for node in ("split", "train", "evaluate"):
        assert re.search(rf"done +{node} +\d+\.\d s", shown), shown
    assert [
        line for line in GUIDE if re.sub(r"\d+", "N", line) not in re.sub(r"\d+", "N", shown)
    ] == []
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "wine"
    assert run.data.params == {"test_size": "0.25", "inverse_penalty": "0.1", "seed": "7"}
    assert set(run.data.metrics) == {"training_accuracy", "accuracy"}
    assert run.data.metrics["accuracy"] > 0.9
    assert run.data.tags["kedro.pipeline"] == "__default__"
    mlflow.set_tracking_uri(mlflow_server.url)
    wine = pd.read_csv(project.folder / "data/01_raw/wine.csv")
    model = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    assert (model.predict(wine.drop(columns="cultivar")) == wine["cultivar"]).mean() > 0.9

    ran = [executed.sql for executed in project.account.statements.matching()]
    asked = {entry.path for entry in project.account.public.journal.requests()}
    uploaded = [path for path in asked if "/mlflow-artifacts/artifacts/" in path]
    called = [sql for sql in ran if '"MLFLOW_RUN' in sql or '"MLFLOW_CALL"' in sql]
    assert bool(uploaded) is is_direct
    assert bool(called) is not is_direct
    assert project.account.public.token not in "".join(ran) + shown
    script = (project.folder / "pipeline.sql").read_text()
    written = [block.partition("\n")[2].rstrip(";") for block in script.strip().split("\n\n")[1:]]
    assert [sql for sql in ran if sql in written] == written
    stage = project.account.account.stages
    left = [path.name for path in stage.root.rglob("*") if path.is_file()]
    assert not [name for name in left if name.endswith(".pickle")]
    assert "credentials.yml" not in "".join(left)


@pytest.mark.slow
def test_it_runs_locally_too(project: Any, shell: Callable[..., str], tmp_path: Path) -> None:
    """The same project runs with plain `kedro run`, and logs one run to MLflow's own store."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = (
        "import os, sys\n"
        f"os.environ['MLFLOW_TRACKING_URI'] = {uri!r}\n"
        "from kedro.framework.cli.cli import main\n"
        "sys.argv = ['kedro', 'run']\n"
        "main()\n"
    )
    shell(project.folder, None, "-c", code)
    [run] = MlflowClient(uri).search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert set(run.data.metrics) == {"training_accuracy", "accuracy"}


@pytest.mark.parametrize(
    ("answer", "has_mlflow"), [("yes", True), ("functions", True), ("no", False)]
)
def test_mlflow_is_optional(
    shell: Callable[..., str], tmp_path: Path, answer: str, has_mlflow: bool
) -> None:
    """A prompt decides whether the project uses MLflow: otherwise no key and no code mentions it."""
    shell(tmp_path, None, *STARTER, answers=f"My Wine\n{answer}\n")
    files = [path for path in (tmp_path / "my-wine").rglob("*") if path.is_file()]
    code = "".join(path.read_text() for path in files if path.suffix == ".py")
    assert ("mlflow" in code.lower()) is has_mlflow
    config = yaml.safe_load((tmp_path / "my-wine/conf/base/snowflake.yml").read_text())
    assert ("mlflow" in config["snowflake"]) is has_mlflow
    assert ("mlflow" in config["snowflake"]["packages"]) is has_mlflow
    needed = (tmp_path / "my-wine/requirements.txt").read_text().split()
    assert ("mlflow" in needed) is has_mlflow
    assert "cookiecutter" not in "".join(path.read_text() for path in files)
    for path in files:
        if path.suffix == ".py":
            compile(path.read_text(), str(path), "exec")


def test_an_invalid_answer_is_refused(shell: Callable[..., str], tmp_path: Path) -> None:
    """An answer that is not one of the three is an error, and nothing is created."""
    shown = shell(tmp_path, None, *STARTER, answers="My Wine\nperhaps\n", succeeds=False)
    assert "It must be yes, functions or no" in shown
    assert not (tmp_path / "my-wine").exists()


@pytest.mark.slow
def test_without_mlflow_it_runs_as_tasks(
    shell: Callable[..., str], mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """The project without MLflow is the same graph without MLflow's task."""
    from mlflow_connections_sandbox._snowflake import Snowflake

    folder = made(shell, tmp_path, "no")
    account = Snowflake(mlflow_server.url, tmp_path / "account")
    account.start()
    try:
        shown = shell(folder, account, "-m", "kedro", "snowflake-mlflow", "run")
    finally:
        account.close()
    assert re.search(r"done +evaluate", shown), shown
    assert "MLflow" not in shown
    assert "Done." in shown
