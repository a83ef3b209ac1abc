"""Failures of Kedro pipelines as tasks in Snowflake: killed or failing nodes, retries, odd names."""

import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlflow_connections_sandbox import MlflowServer

NODES = """
import os
import signal

import mlflow


def first(parameters):
    mlflow.log_metric("first", 1)
    return {"rows": 3, "note": parameters["note"]}


def second(made):
    mlflow.log_param("rows", made["rows"])
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_dict({"half": True}, "half.json")
    mlflow.set_tag("half", "done")
    os.kill(os.getpid(), signal.SIGKILL)
    return made["rows"] * 2


def third(rows, note):
    mlflow.log_metric("doubled", rows)


def nest(made):
    with mlflow.start_run(nested=True, run_name="child"):
        mlflow.log_metric("inner", made["rows"])
    mlflow.log_metric("outer", made["rows"])


def stubborn(parameters):
    run = mlflow.get_run(mlflow.active_run().info.run_id)
    mlflow.log_metric("tries", run.data.metrics.get("tries", 0) + 1)
    if "tries" not in run.data.metrics:
        raise ValueError("it's [bold]not[/bold] its day")
    return 1


def pack(note):
    return lambda: note


def unpack(packed, expected):
    assert packed() == expected, packed()
"""

REGISTRY = '''
from kedro.pipeline import node, pipeline

from .nodes import first, nest, pack, second, stubborn, third, unpack

LONG = "n" * 300


def register_pipelines():
    return {
        "__default__": pipeline(
            [
                node(first, "parameters", "made", name="first"),
                node(second, "made", "doubled", name="second"),
                node(third, ["doubled", "params:note"], None, name="third"),
            ]
        ),
        "quick": pipeline(
            [
                node(first, "parameters", "made", name="first"),
                node(nest, "made", None, name="nest"),
            ]
        ),
        "stubborn": pipeline([node(stubborn, "params:deep", "one", name="stubborn")]),
        HOSTILE: pipeline(
            [
                node(pack, "params:note", "it's 'packed'", name="Mlflow"),
                node(unpack, ["it's 'packed'", "params:note"], None, name="mlflow"),
                node(unpack, ["it's 'packed'", "params:note"], None, name="end"),
                node(unpack, ["it's 'packed'", "params:note"], None, name=LONG),
                node(unpack, ["it's 'packed'", "params:note"], None, name="\\u6771.\\u4eac-\\xfc"),
            ]
        ),
    }


HOSTILE = """x'); DROP TASK "a"; --"""
'''


@pytest.fixture(scope="module")
def project(
    shell: Callable[..., str],
    ready: Callable[..., Any],
    mlflow_server: MlflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    """A project of small nodes, instead of the starter's, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("a folder")
    starter = (
        "-m",
        "kedro",
        "new",
        "--starter",
        "mlflow-connections-snowflake",
        "--name",
        "Valves",
    )
    shell(folder, None, *starter, answers="functions\n")
    project = folder / "valves"
    (project / "src/valves/nodes.py").write_text(NODES)
    (project / "src/valves/pipeline_registry.py").write_text(REGISTRY)
    (project / "conf/base/catalog.yml").write_text("{}")
    parameters = {"note": "plain", "deep": {"a": {"b": 1}, "c d": None}}
    (project / "conf/base/parameters.yml").write_text(yaml.safe_dump(parameters))
    config = project / "conf/base/snowflake.yml"
    content = yaml.safe_load(config.read_text())
    content["snowflake"]["packages"] = ["mlflow"]
    content["snowflake"]["retries"] = 0
    config.write_text(yaml.safe_dump(content))
    _environment(project, "stubborn", {**content["snowflake"], "retries": 1}, "stubborn")
    _environment(project, "plain", {k: v for k, v in content["snowflake"].items() if k != "mlflow"})
    _environment(project, "role", {**content["snowflake"], "stage": "@ROLES"}, "role")
    _environment(project, "nowhere", {**content["snowflake"], "schema": "nowhere"})
    with ready(project, mlflow_server, tmp_path_factory.mktemp("account")) as found:
        yield found


def _environment(
    project: Path, name: str, section: dict[str, Any], experiment: str | None = None
) -> None:
    """Write an environment of the project with its own snowflake.yml."""
    if experiment is not None:
        section["mlflow"] = {**section["mlflow"], "experiment_name": experiment}
    folder = project / "conf" / name
    folder.mkdir()
    (folder / "snowflake.yml").write_text(yaml.safe_dump({"snowflake": section}))


def test_a_killed_node_leaves_a_failed_run_and_a_retry_finishes_it(
    project: Any, mlflow_server: MlflowServer
) -> None:
    """Everything logged before a kill is in a FAILED run, and the retry creates no second run."""
    import mlflow

    shown = project.kedro("snowflake-mlflow", "run", succeeds=False)
    assert re.search(r"FAILED +second", shown), shown
    assert re.search(r"skipped +third", shown), shown
    assert "The process ended with -9" in shown
    assert "kedro snowflake-mlflow run --retry" in shown
    [run] = project.runs("valves")
    assert f"MLflow run {run.info.run_id}: FAILED" in shown
    assert run.info.status == "FAILED"
    assert run.data.metrics == {"first": 1.0, "loss": 0.2}
    assert run.data.params["rows"] == "3"
    assert run.data.tags["half"] == "done"
    values = project.mlflow.get_metric_history(run.info.run_id, "loss")
    assert [metric.step for metric in values] == [0, 1, 2, 3, 4]
    mlflow.set_tracking_uri(mlflow_server.url)
    assert [one.path for one in project.mlflow.list_artifacts(run.info.run_id)] == ["half.json"]

    nodes = project.folder / "src/valves/nodes.py"
    nodes.write_text(nodes.read_text().replace("    os.kill(os.getpid(), signal.SIGKILL)\n", ""))
    shown = project.kedro("snowflake-mlflow", "run", "--retry")
    assert f"MLflow run {run.info.run_id}: FINISHED" in shown
    [again] = project.runs("valves")
    assert again.info.run_id == run.info.run_id
    assert again.info.status == "FINISHED"
    assert again.data.metrics["doubled"] == 6.0
    # Nodes that had succeeded did not run again.
    assert len(project.mlflow.get_metric_history(run.info.run_id, "first")) == 1
    assert "first" in shown
    assert "(try 2)" in shown


@pytest.mark.slow
def test_snowflakes_own_retry_makes_no_second_run(project: Any) -> None:
    """A node that fails once is retried by Snowflake, in the same run; deliveries arrive twice."""
    project.account.policy.faults += ["duplicate"] * 4
    shown = project.kedro("snowflake-mlflow", "run", "--env", "stubborn", "--pipeline", "stubborn")
    assert re.search(r"FAILED +stubborn", shown), shown
    assert re.search(r"done +stubborn +\d+\.\d s  \(try 2\)", shown), shown
    [run] = project.runs("stubborn")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "stubborn"
    assert run.data.metrics == {"tries": 2.0}
    assert run.data.params == {"deep.a.b": "1", "deep.c d": "None"}
    assert f"MLflow run {run.info.run_id}: FINISHED" in shown


@pytest.mark.slow
def test_a_nodes_error_reaches_the_terminal(project: Any) -> None:
    """The command fails with the node's own traceback and names the command to retry."""
    before = len(project.runs("valves"))
    shown = project.kedro(*("snowflake-mlflow", "run", "--pipeline", "stubborn"), succeeds=False)
    assert "'stubborn' failed, the task DEMO.DEMO.VALVES__STUBBORN__STUBBORN" in shown
    assert """raise ValueError("it's [bold]not[/bold] its day")""" in shown
    assert "ValueError: it's [bold]not[/bold] its day" in shown
    assert "kedro/runner" not in shown
    assert 'EXECUTE TASK "DEMO"."DEMO"."VALVES__STUBBORN" RETRY LAST;' in shown
    assert len(project.runs("valves")) == before + 1
    looked = project.kedro(*("snowflake-mlflow", "watch", "--pipeline", "stubborn"), succeeds=False)
    assert "ValueError: it's [bold]not[/bold] its day" in looked
    assert project.account.password not in shown + looked


@pytest.mark.slow
def test_names_and_values_stay_unchanged(project: Any) -> None:
    """Names of nodes, pipelines, datasets and parameters may look like SQL or like names of this package."""
    hostile = """x'); DROP TASK "a"; --"""
    note = """it's a "quote" \\ $$ ; DROP TABLE t"""
    shown = project.kedro(
        *("snowflake-mlflow", "run", "--env", "plain", "--pipeline", hostile),
        *("--params", f"note={note}"),
    )
    for node in ("Mlflow", "mlflow", "end", "n" * 300, "\u6771.\u4eac-\xfc"):
        assert re.search(rf"done +{re.escape(node)} ", shown), shown
    assert "Done." in shown
    assert "MLflow run" not in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--pipeline", "stubbor"), "no pipeline named 'stubbor'. Did you mean 'stubborn'?"),
        (("--retry", "--params", "a=1"), "A retry has the parameters of the run that failed"),
        (("--connection", "nowhere"), "No session with Snowflake"),
        (("--env", "nowhere"), "The pipeline's tasks cannot be listed"),
    ],
)
def test_an_impossible_pipeline_is_one_sentence(
    project: Any, arguments: tuple[str, ...], sentence: str
) -> None:
    """A mistake is reported with its remedy, without a traceback."""
    shown = project.kedro("snowflake-mlflow", "run", *arguments, succeeds=False)
    assert sentence in " ".join(shown.split())
    assert "Traceback" not in shown


def interrupted(project: Any) -> str:
    """Run the pipeline, press Ctrl-C as soon as it runs, and return the output."""
    # A shell lets its background commands ignore SIGINT, and the tests may be one.
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "-m", "kedro", "snowflake-mlflow", "run"],
        cwd=project.folder,
        env={**os.environ, **project.account.environment(), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "running" in line:
            process.send_signal(signal.SIGINT)
            break
    lines += process.stdout.readlines()
    assert process.wait() == 130, "".join(lines)
    return "".join(lines)


@pytest.mark.slow
def test_ctrl_c_stops_watching(project: Any) -> None:
    """Ctrl-C leaves the pipeline running and names the command to watch it; tasks of removed nodes are dropped."""
    registry = project.folder / "src/valves/pipeline_registry.py"
    nodes = project.folder / "src/valves/nodes.py"
    third = 'node(third, ["doubled", "params:note"], None, name="third"),'
    registry.write_text(registry.read_text().replace(third, ""))
    nodes.write_text(nodes.read_text().replace("    os.kill(os.getpid(), signal.SIGKILL)\n", ""))
    assert "kedro snowflake-mlflow watch" in interrupted(project)
    shown = project.kedro("snowflake-mlflow", "watch")
    assert "FINISHED" in shown
    assert "third" not in shown
    tasks = {entry.name[2] for entry in project.account.account.catalog if entry.kind == "TASK"}
    assert "VALVES__DEFAULT__SECOND" in tasks
    assert "VALVES__DEFAULT__THIRD" not in tasks


GRANTS = """
CREATE ROLE pipelines;
GRANT USAGE ON DATABASE demo TO ROLE pipelines;
GRANT USAGE ON SCHEMA demo.demo TO ROLE pipelines;
GRANT USAGE ON WAREHOUSE compute_wh TO ROLE pipelines;
GRANT CREATE STAGE ON SCHEMA demo.demo TO ROLE pipelines;
GRANT CREATE PROCEDURE ON SCHEMA demo.demo TO ROLE pipelines;
GRANT CREATE TASK ON SCHEMA demo.demo TO ROLE pipelines;
GRANT EXECUTE TASK ON ACCOUNT TO ROLE pipelines;
GRANT ROLE mlflow_caller TO ROLE pipelines;
GRANT ROLE pipelines TO USER sandbox
"""
"""The privileges of a role, as docs/snowflake-kedro.md lists them."""


@pytest.mark.slow
def test_a_role_needs_only_the_documented_privileges(project: Any) -> None:
    """With only the documented privileges a pipeline runs, including nested runs; credentials stay local."""
    project.account.execute(GRANTS.split(";"))
    parameters = project.account.connection(role="PIPELINES")
    (project.folder / "conf/role/credentials.yml").write_text(
        yaml.safe_dump({"snowflake": parameters})
    )
    shown = project.kedro("snowflake-mlflow", "run", "--env", "role", "--pipeline", "quick")
    with zipfile.ZipFile(project.folder / "dist/snowflake/project.zip") as packed:
        assert not [name for name in packed.namelist() if "credentials" in name]
    runs = {run.info.run_name: run for run in project.runs("role")}
    parent = runs["quick"]
    assert f"MLflow run {parent.info.run_id}: FINISHED" in shown
    assert parent.data.metrics == {"first": 1.0, "outer": 3.0}
    assert runs["child"].data.metrics == {"inner": 3.0}
    assert runs["child"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    tasks = [one for one in project.account.account.catalog if "VALVES__QUICK" in one.name[-1]]
    assert {one.owner for one in tasks} == {"PIPELINES"}
