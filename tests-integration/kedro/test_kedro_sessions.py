"""Several sessions in one process."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

_PROJECTS = """
import json, os, sys
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

sources = []
for folder in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path not in sources]
    sources.append(str(Path(folder, "src")))
    bootstrap_project(Path(folder))
    with KedroSession.create(folder) as session:
        session.run()
print(json.dumps("LAKE_TOKEN" in os.environ))
"""


def test_two_projects_log_to_their_own_servers(project: "Project", second: "Project") -> None:
    """Nodes that log outside of a run leave none behind for the next project in the process."""
    project.credentials(lake={"token": "t-0815"})
    database = project.database.removeprefix("sqlite:///")
    project.server(tracking_uri="lake", credentials="lake", connection={"database": database})
    second.server(tracking_uri=second.database)
    done = project.python("-c", _PROJECTS, str(project.folder), str(second.folder))
    assert done.returncode == 0, done.stderr
    assert project.metrics() == second.metrics() == [1, 2]
    assert set(project.statuses() + second.statuses()) == {"FINISHED"}
    assert done.stdout.splitlines()[-1] == "false"


_LEFT_OPEN = """
from IPython.testing.globalipapp import start_ipython

shell = start_ipython()
shell.run_line_magic("load_ext", "kedro.ipython")
shell.run_cell("import mlflow; mlflow.log_metric('answer', 7)").raise_error()
import json, sys
with open("conf/base/mlflow.yml", "w") as file:
    json.dump({"server": {"tracking_uri": sys.argv[1]}}, file)
shell.run_line_magic("reload_kedro", "")
shell.run_cell("session.run()").raise_error()
"""


def test_reload_after_mlflow_yml_changed(project: "Project") -> None:
    """A run that a notebook's cell left open is ended when `%reload_kedro` changes the server."""
    other = project.store("other.db")
    project.server(tracking_uri=other)
    done = project.python("-c", _LEFT_OPEN, project.database)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.metrics(other), project.metrics()) == ([7], [1, 2])
    assert set(project.statuses(other) + project.statuses()) == {"FINISHED"}
    said = " ".join((done.stdout + done.stderr).split())
    assert "was still active on" in said
    assert other in said


def test_a_run_of_the_notebook_is_used_on_the_same_server(project: "Project") -> None:
    """A run that a notebook opens on the session's own server receives the session's data."""
    project.server(tracking_uri=project.database)
    code = """
import mlflow
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
KedroSession.create().load_context()
with mlflow.start_run(), KedroSession.create() as session:
    session.run()
"""
    done = project.python("-c", code)
    assert done.returncode == 0, done.stderr
    assert project.statuses() == ["FINISHED"]
    assert project.metrics() == [1, 2]


_INTERRUPTED = """
import os
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
try:
    with KedroSession.create() as session:
        session.run()
except KeyboardInterrupt:
    del os.environ["INTERRUPTED"]
with KedroSession.create() as session:
    session.run()
"""


@pytest.mark.with_kedro_mlflow
def test_an_interrupted_pipeline_leaves_no_run(project: "Project") -> None:
    """After Ctrl-C the next session logs to its own run."""
    project.server(tracking_uri=project.database)
    done = project.python("-c", _INTERRUPTED, INTERRUPTED="2")
    assert done.returncode == 0, done.stderr
    assert project.statuses() == ["FINISHED", "KILLED"]


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
    """The first session's MLFLOW_TRACKING_URI is not mistaken for the user's own."""
    project.server("first", tracking_uri=project.store("other.db"))
    project.write("conf/second/parameters.yml", "one: 1\n")
    done = project.python("-c", _SESSIONS, "first", "second", MLFLOW_TRACKING_URI=project.database)
    assert done.returncode == 0, done.stderr
    assert [row["tracking"] == project.database for row in project.seen()[::2]] == [False, True]


@pytest.mark.with_kedro_mlflow
def test_second_session_keeps_nothing_of_the_first(project: "Project") -> None:
    """A registry and exported credentials end with their session."""
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
    """`%reload_kedro --env` resolves again, for the given environment."""
    # Loading the extension already creates a session, of the base environment.
    project.server(tracking_uri=project.store("base.db"))
    project.server("first", tracking_uri=project.store("other.db"))
    project.server("second", tracking_uri=project.database)
    done = project.python("-c", _IPYTHON)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["tracking"] == project.database for row in project.seen()[::2]] == [False, True]
