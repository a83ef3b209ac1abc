"""The hook: the effects of a session's context, with and without kedro-mlflow."""

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl

from mlflow_connections import ConnectionsError

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

    from packages.kedro.tests.conftest import Project


class MlflowHook:
    """Reads what kedro-mlflow's hook reads, at the same time; found by its class's name."""

    __module__ = "kedro_mlflow.stand_in"

    def __init__(self) -> None:
        self.read: Any = None

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Read mlflow.yml as kedro-mlflow does."""
        try:
            self.read = context.config_loader["mlflow"]
        except MissingConfigException:
            self.read = None


class SubclassedHook(MlflowHook):
    """The server that a project resolves to."""

    __module__ = "shop.hooks"


@pytest.fixture
def mlflow_hook(project: "Project") -> MlflowHook:
    """Register kedro-mlflow's hook in the sessions of the project."""
    hook = MlflowHook()
    project.others.append(hook)
    return hook


def test_uris_are_set(project: "Project") -> None:
    """Both URIs are in force after the context is created; a relative path belongs to the project."""
    project.server(tracking_uri="./runs", registry_uri="sqlite:///models.db")
    project.context()
    assert os.environ["MLFLOW_TRACKING_URI"] == (project.folder / "runs").as_uri()
    assert os.environ["MLFLOW_REGISTRY_URI"] == "sqlite:///models.db"


def test_nothing_is_set_without_settings(project: "Project") -> None:
    """Without settings MLflow's own default stays."""
    project.context()
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.parametrize("word", ["databricks", "databricks-uc", "databricks://profile"])
def test_mlflows_own_words_are_not_folders(project: "Project", word: str) -> None:
    """A URI that MLflow understands is passed on, and credentials next to it are exported."""
    project.write("base/credentials.yml", {"dbx": {"DATABRICKS_TOKEN": 815, "AWS_X": None}})
    project.server(tracking_uri=word, credentials="dbx")
    project.context()
    assert os.environ["MLFLOW_TRACKING_URI"] == word
    assert os.environ["DATABRICKS_TOKEN"] == "815"
    assert "AWS_X" not in os.environ


def test_true_and_false_are_exported_as_mlflow_reads_them(project: "Project") -> None:
    """A YAML true becomes `true`."""
    project.write("base/credentials.yml", {"a": {"MLFLOW_TRACKING_INSECURE_TLS": True}})
    project.server(tracking_uri="http://a", credentials="a")
    project.context()
    assert os.environ["MLFLOW_TRACKING_INSECURE_TLS"] == "true"


def test_credentials_do_not_override_the_uri(project: "Project") -> None:
    """An entry of the credentials does not override the URI of mlflow.yml."""
    project.write("base/credentials.yml", {"a": {"MLFLOW_TRACKING_URI": "http://b"}})
    project.server(tracking_uri="http://a", credentials="a")
    project.context()
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://a"


def test_replaced_variable_is_reported_by_name(
    project: "Project", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Replacing a variable that has another value causes a warning that shows neither value."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "old-value")
    project.write("base/credentials.yml", {"a": {"MLFLOW_TRACKING_TOKEN": "new-value", "b": 1}})
    project.server(tracking_uri="http://a", credentials="a")
    with caplog.at_level(logging.WARNING):
        project.context()
    assert "MLFLOW_TRACKING_TOKEN had another value" in caplog.text
    assert "not read: b" in caplog.text
    assert "-value" not in caplog.text


def test_second_session_starts_clean(project: "Project") -> None:
    """A second session keeps no registry, secret or tracking URI of the first."""
    project.write("base/credentials.yml", {"a": {"token": "t-0815", "MLFLOW_TRACKING_TOKEN": "x"}})
    project.server("one", tracking_uri="lake", registry_uri="sqlite:///m.db", credentials="a")
    project.write("two/parameters.yml", "{}")
    os.environ["LAKE_DATABASE"] = "lake.db"
    project.context("one")
    assert os.environ["LAKE_TOKEN"] == "t-0815"
    project.context("two")
    gone = {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "LAKE_TOKEN", "MLFLOW_TRACKING_TOKEN"}
    assert not gone & os.environ.keys()


def test_later_changes_of_the_user_are_kept(project: "Project") -> None:
    """A URI that the user set between two sessions stays."""
    project.server("one", tracking_uri="sqlite:///one.db")
    project.write("two/parameters.yml", "{}")
    project.context("one")
    os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mine.db"
    project.context("two")
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///mine.db"


def test_keyword_in_the_variable_is_resolved_each_time(project: "Project") -> None:
    """A second session reads the user's keyword again, not the URI that the first resolved it to."""
    os.environ |= {"MLFLOW_TRACKING_URI": "lake", "LAKE_DATABASE": "one.db"}
    project.context()
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///one.db"
    os.environ["LAKE_DATABASE"] = "two.db"
    project.context()
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///two.db"


def test_late_secrets_hook_is_respected(project: "Project") -> None:
    """Credentials from a later hook are found, though the first attempt had none."""

    class Secrets:
        @hook_impl(trylast=True)
        def after_context_created(self, context: "KedroContext") -> None:
            context.config_loader["credentials"] = {"vault": {"token": "t-0815"}}

    project.others.append(Secrets())
    project.server(tracking_uri="lake", connection={"database": "x"}, credentials="vault")
    project.context()
    assert os.environ["LAKE_TOKEN"] == "t-0815"


def test_kedro_mlflow_reads_plain_uris(project: "Project", mlflow_hook: MlflowHook) -> None:
    """kedro-mlflow reads its own spelling, plain URIs, and no key that its model forbids."""
    project.write("base/credentials.yml", {"a": {"token": "t-0815"}})
    project.write(
        "base/mlflow.yml",
        {
            "server": {
                "tracking_uri": "lake",
                "registry_uri": "sqlite:///models.db",
                "connection": {"database": "x.db"},
                "credentials": "a",
                "request_header_provider": {"type": None},
            },
            "tracking": {"run": {"nested": True}},
        },
    )
    project.context()
    assert mlflow_hook.read == {
        "server": {
            "mlflow_tracking_uri": "sqlite:///x.db",
            "mlflow_registry_uri": "sqlite:///models.db",
            "request_header_provider": {"type": None},
        },
        "tracking": {"run": {"nested": True}},
    }
    assert os.environ["LAKE_TOKEN"] == "t-0815"


def test_kedro_mlflows_own_settings_are_unchanged(
    project: "Project", mlflow_hook: MlflowHook
) -> None:
    """Settings that kedro-mlflow understands, including credentials, are read unchanged."""
    written = {"server": {"mlflow_tracking_uri": "runs", "credentials": "nowhere", "new_key": 1}}
    project.write("base/mlflow.yml", written)
    os.environ["MLFLOW_REGISTRY_URI"] = "sqlite:///models.db"
    project.context()
    assert mlflow_hook.read == written


def test_kedro_mlflow_is_told_that_there_is_no_file(
    project: "Project", mlflow_hook: MlflowHook
) -> None:
    """Without mlflow.yml kedro-mlflow gets the error that it expects."""
    mlflow_hook.read = "something"
    project.context()
    assert mlflow_hook.read is None


def test_subclass_of_kedro_mlflows_hook(project: "Project") -> None:
    """A project's subclass of kedro-mlflow's hook counts as kedro-mlflow."""
    hook = SubclassedHook()
    project.others.append(hook)
    project.server(tracking_uri="http://a")
    project.context()
    assert hook.read == {"server": {"mlflow_tracking_uri": "http://a"}}
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_view_resolves_once(project: "Project", mlflow_hook: MlflowHook) -> None:
    """A second read returns the same view without resolving; a value set by hand is respected."""
    project.server(tracking_uri="lake", connection={"database": "x.db"})
    loader = project.context().config_loader
    (project.folder / "conf/base/mlflow.yml").unlink()
    loader["mlflow"]["server"].clear()
    assert loader["mlflow"] == mlflow_hook.read
    loader["mlflow"] = {"server": {"tracking_uri": "http://b"}}
    assert loader["mlflow"] == {"server": {"mlflow_tracking_uri": "http://b"}}
    assert type(loader).__qualname__ == "OmegaConfigLoader"


def test_failure_restores_everything(project: "Project", mlflow_hook: MlflowHook) -> None:
    """When a connection fails, the variables exported for it are removed."""
    project.write("base/credentials.yml", {"a": {"MLFLOW_TRACKING_TOKEN": "t-0815"}})
    project.server(tracking_uri="empty", credentials="a")
    with pytest.raises(ConnectionsError, match="returned an empty string"):
        project.context()
    assert "MLFLOW_TRACKING_TOKEN" not in os.environ


@pytest.mark.parametrize("with_it", [True, False])
def test_orchestrators_run_is_left_alone(project: "Project", with_it: bool) -> None:
    """With MLFLOW_RUN_ID and a URI, which an orchestrator sets, nothing is resolved."""
    hook = MlflowHook()
    project.others += [hook] if with_it else []
    project.server(tracking_uri="nobody", credentials="nowhere", connection={"a": 1})
    address = "http://127.0.0.1:9"
    os.environ |= {"MLFLOW_RUN_ID": "run", "MLFLOW_TRACKING_URI": address}
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    project.context()
    assert os.environ["MLFLOW_TRACKING_URI"] == address
    assert hook.read == ({"server": {}} if with_it else None)


def test_run_to_resume_is_resolved(project: "Project") -> None:
    """MLFLOW_RUN_ID alone names a run to resume on the server in mlflow.yml."""
    project.server(tracking_uri="http://a")
    os.environ["MLFLOW_RUN_ID"] = "run"
    project.context()
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://a"


def test_hook_imports_no_mlflow() -> None:
    """Kedro loads the hook and the commands without MLflow, and only the logger of core."""
    import subprocess

    code = (
        "import sys, mlflow_connections_kedro._hooks, mlflow_connections_kedro._cli\n"
        "core = {m for m in sys.modules if m.startswith('mlflow_connections.')}\n"
        "print(['mlflow'] * ('mlflow' in sys.modules) + sorted(core - {'mlflow_connections.secrets'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("key", ["mlflow_tracking_uri", "MLFLOW_TRACKING_URI"])
def test_word_that_has_always_been_a_folder(
    project: "Project", key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In kedro-mlflow's own key and in the variable, an unregistered word is a folder."""
    if key.isupper():
        monkeypatch.setenv(key, "my_runs")
    else:
        project.server(**{key: "my_runs"})
    project.context()
    assert os.environ["MLFLOW_TRACKING_URI"] == (project.folder / "my_runs").as_uri()
