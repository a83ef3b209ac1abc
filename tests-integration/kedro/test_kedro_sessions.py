"""Several sessions of one process."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Project

_SESSIONS = """
import json, os, sys
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
for env in sys.argv[1:]:
    with KedroSession.create(env=env) as session:
        session.run()
    import mlflow
    while mlflow.active_run():
        mlflow.end_run()
print(json.dumps(os.environ.get("MLFLOW_REGISTRY_URI")))
"""


def test_second_session_without_a_key_reads_the_variable_again(project: "Project") -> None:
    """What the first session put into MLFLOW_TRACKING_URI is not taken for the user's own."""
    project.server("first", tracking_uri=project.store("other.db"))
    project.write("conf/second/parameters.yml", "one: 1\n")
    done = project.python("-c", _SESSIONS, "first", "second", MLFLOW_TRACKING_URI=project.database)
    assert done.returncode == 0, done.stderr
    assert [row["tracking"] == project.database for row in project.seen()[::2]] == [False, True]


def test_second_session_has_nothing_of_the_first(project: "Project") -> None:
    """A registry, and what credentials exported, end with the session that they were meant for."""
    project.credentials(lake={"token": "t-0815"})
    database = project.store("other.db").removeprefix("sqlite:///")
    project.server(
        "first",
        tracking_uri="lake",
        registry_uri="lake",
        credentials="lake",
        connection={"database": database, "models": database},
    )
    project.server("second", tracking_uri=project.database)
    done = project.python("-c", _SESSIONS, "first", "second")
    assert done.returncode == 0, done.stderr
    first, second = project.seen()[::2]
    assert first["registry"] == f"sqlite:///{database}"
    assert second["registry"] == second["tracking"] == project.database
    assert "LAKE_TOKEN" in first["variables"]
    assert "LAKE_TOKEN" not in second["variables"]
    assert done.stdout.splitlines()[-1] == "null"


_IPYTHON = """
from IPython.testing.globalipapp import start_ipython

shell = start_ipython()
shell.run_line_magic("load_ext", "kedro.ipython")
for env in ("first", "second"):
    shell.run_line_magic("reload_kedro", "--env " + env)
    shell.run_cell("session.run()").raise_error()
    import mlflow
    while mlflow.active_run():
        mlflow.end_run()
"""


def test_reload_in_ipython(project: "Project") -> None:
    """`%reload_kedro --env` resolves again, for the environment that it names."""
    # Loading the extension already makes a session, of the base environment.
    project.server(tracking_uri=project.store("base.db"))
    project.server("first", tracking_uri=project.store("other.db"))
    project.server("second", tracking_uri=project.database)
    done = project.python("-c", _IPYTHON)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["tracking"] == project.database for row in project.seen()[::2]] == [False, True]
