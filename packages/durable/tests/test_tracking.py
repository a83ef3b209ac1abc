"""The stores without a server: immediate refusals, and reads of own writes."""

import inspect
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.entities import Experiment, FileInfo, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from mlflow_connections_durable import _artifacts, _composite, _mlflow, _server
from mlflow_connections_durable._experiment_ids import provisional_experiment
from mlflow_connections_durable._kept_files import SMALL, KeptFiles
from mlflow_connections_durable._patience import ATTEMPT_SECONDS, Away
from mlflow_connections_durable._traces import DurableTraces
from mlflow_connections_outbox import admin

TAG = "mlflow.modelVersions"
IS_2 = mlflow.__version__.startswith("2.")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The outbox of this test."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    yield tmp_path
    _server._servers.clear()


@pytest.fixture
def store() -> Any:
    """A tracking store that never calls a server."""
    return _composite.parse("durable://offline").wrap_tracking(lambda: None, lambda: True)


@pytest.fixture
def registry(store: Any) -> Any:
    """The registry of the same server."""
    return _composite.parse("durable://offline").wrap_registry(lambda: None, lambda: True)


@pytest.fixture
def run_id(store: Any) -> str:
    """A run."""
    experiment = store.create_experiment("wine", None, [])
    run = store.create_run(experiment, "me", 1, [RunTag("a", "1")], "first")
    return str(run.info.run_id)


def metric(key: Any = "m", value: Any = 1.0, timestamp: Any = 1, step: Any = 0) -> Metric:
    """Return a metric, which need not be a valid one."""
    return Metric(key, value, timestamp, step)


def deleted(store: Any, run_id: str) -> None:
    """Log to a run after its deletion."""
    store.delete_run(run_id)
    store.log_metric(run_id, metric())


REFUSED: dict[str, Callable[[Any, str], object]] = {
    "a metric's name with odd characters": lambda s, r: s.log_metric(r, metric("a?b")),
    "a metric's name that is too long": lambda s, r: s.log_metric(r, metric("m" * 251)),
    "a metric's name with dots": lambda s, r: s.log_metric(r, metric("../m")),
    "a value that is text": lambda s, r: s.log_metric(r, metric(value="high")),
    "no value": lambda s, r: s.log_metric(r, metric(value=None)),
    "a truth value": lambda s, r: s.log_metric(r, metric(value=True)),
    "a negative time": lambda s, r: s.log_metric(r, metric(timestamp=-1)),
    "half a step": lambda s, r: s.log_metric(r, metric(step=0.5)),
    "a step beyond 64 bits": lambda s, r: s.log_metric(r, metric(step=2**63)),
    "a param's name with odd characters": lambda s, r: s.log_param(r, Param("a?b", "1")),
    "a param's name that is too long": lambda s, r: s.log_param(r, Param("p" * 251, "1")),
    "a param twice in a batch": lambda s, r: s.log_batch(
        r, [], [Param("p", "1"), Param("p", "2")], []
    ),
    "a tag's name that is too long": lambda s, r: s.set_tag(r, RunTag("t" * 251, "1")),
    "too many metrics at once": lambda s, r: s.log_batch(r, [metric()] * 1001, [], []),
    "an unknown tag's deletion": lambda s, r: s.delete_tag(r, "unknown"),
    "a deleted run": deleted,
    "an experiment without a name": lambda s, _: s.create_experiment("", None, []),
    "an experiment's name again": lambda s, _: s.create_experiment("wine", None, []),
    "a run in an unknown experiment": lambda s, _: s.create_run("77", "me", 1, [], "n"),
}


OF_PROTOBUF: dict[str, type[Exception]] = {
    "a value that is text": TypeError,
    "half a step": TypeError,
    "a step beyond 64 bits": ValueError,
}
"""Numbers that no request can contain, so that no server receives them."""


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_data_is_refused_at_once(what: str, store: Any, run_id: str) -> None:
    """The call raises the same error as MLflow's client, and nothing is kept."""
    (report,) = admin.reports("durable")
    with pytest.raises(OF_PROTOBUF.get(what, RestException)):
        REFUSED[what](store, run_id)
    (after,) = admin.reports("durable")
    assert after.content.events - report.content.events <= (1 if what == "a deleted run" else 0)


NUMBERS = [w for w in REFUSED if any(part in w for part in ("value", "time", "step"))]


@pytest.mark.parametrize("what", NUMBERS)
def test_numbers_are_checked_each_time(what: str, store: Any, run_id: str) -> None:
    """An accepted metric name does not let a later invalid number pass."""
    store.log_metric(run_id, metric())
    with pytest.raises(OF_PROTOBUF.get(what, RestException)):
        REFUSED[what](store, run_id)
    assert [m.value for m in store.get_metric_history(run_id, "m")] == [1.0]


def test_params_of_any_valid_name_are_kept(store: Any, run_id: str) -> None:
    """Params with plain names, and with other names that a server accepts, are kept."""
    names = ["plain", "with space", "deep/path", "größe", "p" * 250, "dotted.name-1:2"]
    for name in names:
        store.log_param(run_id, Param(name, name))
    assert store.get_run(run_id).data.params == {name: name for name in names}


def test_a_param_is_never_changed(store: Any, run_id: str) -> None:
    """The same value again is accepted, as by a server."""
    store.log_param(run_id, Param("p", "1"))
    store.log_param(run_id, Param("p", "1"))
    with pytest.raises(MlflowException, match="Changing param values"):
        store.log_param(run_id, Param("p", "2"))
    assert store.get_run(run_id).data.params == {"p": "1"}


def test_long_values_are_truncated_as_by_a_server(store: Any, run_id: str) -> None:
    """A read returns the text that the server will store."""
    store.log_param(run_id, Param("p", "x" * 7_000))
    assert len(store.get_run(run_id).data.params["p"]) == 6_000


def test_own_writes_are_read(store: Any, run_id: str) -> None:
    """Metrics with their history, params, tags, state, name and experiment are read back."""
    for step in range(3):
        store.log_metric(run_id, metric("loss", 3.0 - step, step + 1, step))
    store.log_batch(run_id, [metric("nan", float("nan"))], [Param("p", "1")], [RunTag("b", "2")])
    store.delete_tag(run_id, "a")
    store.update_run_info(run_id, RunStatus.FINISHED, 99, "renamed")
    run = store.get_run(run_id)
    assert run.data.metrics["loss"] == 1.0
    assert [m.value for m in store.get_metric_history(run_id, "loss")] == [3.0, 2.0, 1.0]
    assert run.data.params == {"p": "1"}
    assert run.data.tags == {"b": "2", "mlflow.runName": "renamed"}
    assert (run.info.status, run.info.end_time, run.info.run_name) == ("FINISHED", 99, "renamed")
    assert store.get_experiment(run.info.experiment_id).name == "wine"
    assert store.get_experiment_by_name("wine").experiment_id == run.info.experiment_id


def test_another_process_finds_a_run(store: Any, run_id: str) -> None:
    """The records of this machine are sufficient to resume it."""
    _server._servers.clear()
    other = _composite.parse("durable://offline").wrap_tracking(lambda: None, lambda: True)
    assert other.get_run(run_id).info.run_name == "first"
    other.log_metric(run_id, metric("later", 2.0))
    assert other.get_run(run_id).data.metrics == {"later": 2.0}
    assert other.get_experiment_by_name("wine") is not None


def test_data_that_only_a_server_has_is_one_sentence(store: Any, registry: Any) -> None:
    """A search, and a run of another machine, need the server."""
    calls: list[Callable[[], object]] = [
        lambda: store.search_runs(["0"], "", 1),
        lambda: store.get_run("f" * 32),
        lambda: registry.search_model_versions("name = 'wine'"),
    ]
    for call in calls:
        with pytest.raises(MlflowException, match="only a server knows") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(IS_2, reason="logged models came with MLflow 3")
def test_an_active_model_needs_a_server_unless_it_was_created_here(
    store: Any, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow searches for a model of that name first, and would create a second one."""
    import mlflow

    experiment = store.get_run(run_id).info.experiment_id

    def search(filter_string: str, **_: Any) -> Any:
        return store.search_logged_models([experiment], filter_string)

    monkeypatch.setattr(mlflow, "search_logged_models", search)
    with pytest.raises(MlflowException, match="only a server knows"):
        mlflow.set_active_model(name="answers")
    created = store.create_logged_model(experiment, "answers", None, [], None, None)
    with mlflow.set_active_model(name="answers") as active:
        assert active.model_id == created.model_id


def test_asynchronous_logging_is_done_at_once(store: Any, run_id: str) -> None:
    """There is nothing to wait for, so a killed process loses no queue."""
    store.log_metric_async(run_id, metric("m", 2.0)).wait()
    store.log_batch_async(run_id, [], [], [RunTag("t", "1")])
    run = store.get_run(run_id)
    assert (run.data.metrics, run.data.tags["t"]) == ({"m": 2.0}, "1")


@pytest.mark.skipif(IS_2, reason="logged models came with MLflow 3")
def test_a_logged_model_is_read_back(store: Any, run_id: str) -> None:
    """Its state, tags and params are read back; the tag that the server writes itself is omitted."""
    from mlflow.entities import LoggedModelParameter, LoggedModelStatus, LoggedModelTag

    run = store.get_run(run_id)
    model = store.create_logged_model(
        run.info.experiment_id, "tree", run_id, [LoggedModelTag("a", "1")], None, None
    )
    store.log_logged_model_params(model.model_id, [LoggedModelParameter("depth", "3")])
    tags = [LoggedModelTag("b", "2"), LoggedModelTag("mlflow.modelVersions", "[]")]
    store.set_logged_model_tags(model.model_id, tags)
    store.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    found = store.get_logged_model(model.model_id)
    assert (found.name, found.source_run_id, found.params) == ("tree", run_id, {"depth": "3"})
    assert found.tags == {"a": "1", "b": "2"}
    assert found.status == LoggedModelStatus.READY
    (other,) = store.search_logged_models([run.info.experiment_id], "name = 'tree'")
    assert other.model_id == model.model_id


@pytest.mark.skipif(IS_2, reason="logged models came with MLflow 3")
def test_a_model_keeps_the_tag_with_its_versions_of_unity_catalog(
    store: Any, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only MLflow's client writes it then; a version that waits for the server is added by the shipper."""
    from mlflow.entities import LoggedModelTag

    monkeypatch.setattr("mlflow.get_registry_uri", lambda: "databricks-uc://work")
    run = store.get_run(run_id)
    model = store.create_logged_model(
        run.info.experiment_id, "tree", run_id, None, None, None
    ).model_id
    (server,) = _server._servers.values()
    server.versions["main.default.tree", "1000000000000001"] = object()
    waits = {"name": "main.default.tree", "version": "1000000000000001"}
    known = {"name": "main.default.tree", "version": "1"}
    for versions, expected in (([waits], {}), ([known, waits], {TAG: json.dumps([known])})):
        store.set_logged_model_tags(model, [LoggedModelTag(TAG, json.dumps(versions))])
        assert store.get_logged_model(model).tags == expected


@pytest.mark.skipif(IS_2, reason="servers of MLflow 2 create the IDs of traces")
def test_traces_of_databricks_are_kept_unless_they_are_in_a_table() -> None:
    """Those of an experiment begin without the workspace; Unity Catalog's are written by it alone."""
    from mlflow.entities import TraceInfo, TraceLocation, TraceState
    from mlflow.store.tracking.databricks_rest_store import DatabricksTracingRestStore as Databricks

    kept: list[tuple[str, str]] = []
    sent: list[str] = []
    server: Any = SimpleNamespace(
        target="databricks",
        is_offline=False,
        lock=threading.Lock(),
        emit=lambda trace, kind, _: kept.append((trace, kind)),
    )
    others: dict[str, Any] = {
        name: lambda first, *_, name=name: sent.append(name)
        for name in ("start_trace", "set_trace_tag", "log_spans")
    }
    traces = DurableTraces(server, lambda _: "wine")
    found: dict[str, Any] = {**others, **traces.methods(Databricks, others)}

    def info(trace: str, location: Any) -> TraceInfo:
        return TraceInfo(trace, location, 1, TraceState.OK)

    found["start_trace"](info("tr-1", TraceLocation.from_experiment_id("1")))
    found["set_trace_tag"]("tr-1", "a", "1")
    assert (kept, sent) == ([("tr-1", "trace_logged"), ("tr-1", "trace_tagged")], [])
    found["set_trace_tag"]("trace:/main.default/1", "a", "1")
    found["log_spans"]("main.default", [])
    assert sent == ["set_trace_tag", "log_spans"]
    assert len(kept) == 2


@pytest.mark.parametrize("profile", ["", "//databricks", "//prod@databricks"])
def test_files_of_databricks_runs_are_kept_too(profile: str) -> None:
    """MLflow adds the workspace's profile to the place of a run's files, which must not go past the spool."""
    server: Any = SimpleNamespace()
    _artifacts.register_owner(
        _artifacts.DurableOwner(server, "dbfs:/databricks/1/artifacts", "1", None, is_whole=True)
    )
    owner, below = _artifacts.owner_of(f"dbfs:{profile}/databricks/1/artifacts/deep")
    assert owner is not None
    assert (owner.run_id, below) == ("1", "deep")
    assert _artifacts.owner_of(f"dbfs:{profile}/databricks/2/artifacts") == (None, "")


class Rooted(ArtifactRepository):
    """A repository such as AzureML's: it adds its own folder to what it logs, and lists whole paths."""

    def __init__(self) -> None:
        super().__init__("azureml://artifacts/LoggedModel/1.m-1/artifacts")
        self.artifacts = SimpleNamespace(path="artifacts")

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Log nothing."""

    log_artifacts = log_artifact

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Return the one file of each known folder."""
        files: dict[str | None, str] = {
            "artifacts": "artifacts/MLmodel",
            "artifacts/deep": "artifacts/deep/a.txt",
        }
        return [FileInfo(files[path], False, -1)] if path in files else []

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        assert remote_file_path == "artifacts/MLmodel"
        Path(local_path).write_text("the model")


def test_files_of_a_repository_with_its_own_folder_are_found(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AzureML's client lists and downloads by the path in the whole run or model, and uploads by the one in its URI."""
    store.create_experiment("wine", None, [])
    (server,) = _server._servers.values()
    inner = Rooted()
    monkeypatch.setattr(_artifacts.DurableArtifacts, "_fetched", lambda _, call: call(inner))
    owner = _artifacts.DurableOwner(server, inner.artifact_uri, None, "m-1", is_whole=False)
    found: Any = _artifacts.DurableArtifacts(inner.artifact_uri, owner, "", lambda: inner)
    assert [entry.path for entry in found.list_artifacts()] == ["MLmodel"]
    assert [entry.path for entry in found.list_artifacts("deep")] == ["deep/a.txt"]
    assert Path(found.download_artifacts("MLmodel", str(tmp_path))).read_text() == "the model"


def test_registration_is_deferred(registry: Any, run_id: str) -> None:
    """The version is ready with a provisional number, and its tags and aliases wait too."""
    from mlflow.entities.model_registry import ModelVersionTag

    registry.create_registered_model("wine", None, "Red.")
    version = registry.create_model_version("wine", "runs:/x/model", run_id)
    other = registry.create_model_version("wine", "runs:/x/model", run_id)
    registry.set_registered_model_alias("wine", "champion", version.version)
    registry.set_model_version_tag("wine", version.version, ModelVersionTag("a", "1"))
    assert version.version != other.version
    assert registry.get_model_version("wine", version.version).status == "READY"
    assert registry.get_registered_model("wine").description == "Red."
    with pytest.raises(MlflowException, match="already exists"):
        registry.create_registered_model("wine", None, None)
    (report,) = admin.outboxes("durable")
    kinds = [event.kind for event in admin.waiting_events(report.folder)]
    assert kinds[-5:] == [
        *("registered_model_created", "version_created", "version_created"),
        *("alias_set", "version_tagged"),
    ]


def test_artifacts_are_read_back_and_never_leave_their_root(
    store: Any, run_id: str, folder: Path
) -> None:
    """Files and folders are listed, and downloaded as they were when they were logged."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    local = folder / "data" / "a.txt"
    local.parent.mkdir()
    local.write_text("one")
    repository = get_artifact_repository(store.get_run(run_id).info.artifact_uri)
    repository.log_artifact(str(local))
    repository.log_artifacts(str(local.parent), "deep")
    local.write_text("two")
    assert [(e.path, e.is_dir) for e in repository.list_artifacts()] == [
        ("a.txt", False),
        ("deep", True),
    ]
    assert [e.path for e in repository.list_artifacts("deep")] == ["deep/a.txt"]
    assert repository.list_artifacts("a.txt") == []
    found = Path(repository.download_artifacts("deep"))
    assert (found / "a.txt").read_text() == "one"
    with pytest.raises(MlflowException):
        repository.log_artifact(str(local), "../outside")
    with pytest.raises(FileNotFoundError):
        repository.log_artifact(str(folder / "missing"))


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1])
def test_a_single_file_is_kept_unchanged(size: int, store: Any, run_id: str, folder: Path) -> None:
    """Small or large, the file is read back and delivered as it was when it was logged."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    local, content = folder / "a.bin", os.urandom(size)
    local.write_bytes(content)
    repository = get_artifact_repository(store.get_run(run_id).info.artifact_uri)
    repository.log_artifact(str(local), "deep")
    local.unlink()
    assert Path(repository.download_artifacts("deep/a.bin")).read_bytes() == content
    (report,) = admin.reports("durable")
    event = admin.waiting_events(report.folder)[-1]
    delivered = KeptFiles(report.folder / "state").fetch(event, folder)
    assert [(path, file.name, file.read_bytes()) for path, file in delivered] == [
        ("deep/a.bin", "a.bin", content)
    ]
    assert event.data["bytes"] == size


def test_contents_of_small_files_do_not_fill_the_memory(
    store: Any, run_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a limit a small waiting file has a copy on the disk, and is read back like the others."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    monkeypatch.setattr(_server, "MAX_SMALL_BYTES", 5)
    repository = get_artifact_repository(store.get_run(run_id).info.artifact_uri)
    for name in "abc":
        (folder / name).write_text(name * 3)
        repository.log_artifact(str(folder / name))
        (folder / name).unlink()
    found = Path(repository.download_artifacts(""))
    assert {name: (found / name).read_text() for name in "abc"} == {
        "a": "aaa",
        "b": "bbb",
        "c": "ccc",
    }
    (report,) = admin.reports("durable")
    assert len(list((report.folder / "state" / "files").iterdir())) == 2


def test_a_silent_server_is_not_called_each_time(folder: Path) -> None:
    """After the first failed call a training continues without any wait."""
    asked = []

    class Dead:
        """A server that does not respond."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            def call(*_: Any, **__: Any) -> Any:
                asked.append(name)
                raise Away("down")

            return call

    server = _server.server_of(_composite.parse("durable+http://127.0.0.1:9").uri)
    from mlflow_connections_durable._experiments import DurableExperiments
    from mlflow_connections_durable._inner_store import InnerStore
    from mlflow_connections_durable._runs import DurableRuns

    inner = InnerStore(server, Dead())
    runs = DurableRuns(server, inner, DurableExperiments(server, inner))
    server.outbox._policy = server.outbox._policy._replace(shipper="none")
    runs.create_run("1", "me", 1, [], "a")
    runs.create_run("1", "me", 1, [], "b")
    assert asked == ["create_run"]
    assert (folder / "outbox").exists()


def test_a_request_is_not_sent_once_its_caller_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that came too late send nothing: a run that they created could exist twice."""
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    seconds = iter([0.0, ATTEMPT_SECONDS + 1])
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    asking = _mlflow.asking_store(RestStore(lambda: MlflowHostCreds("http://127.0.0.1:9")))
    with pytest.raises(MlflowException, match="took too long to get"):
        asking.create_run("1", "me", 1, [], "late")


def test_the_address_of_a_run_needs_no_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a run MLflow reads the server's host, for which Databricks' client signs in."""
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    monkeypatch.setenv("DATABRICKS_HOST", "https://dbc.acme.com")
    found: list[Any] = [MlflowException("down"), MlflowHostCreds("https://signed-in")]

    def host_credentials() -> Any:
        result = found.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    inner = RestStore(host_credentials)
    uri = "durable://?server=databricks"
    store = _composite.parse(uri).wrap_tracking(lambda: inner, lambda: True)
    assert store.get_host_creds().host == "https://dbc.acme.com"
    (server,) = _server._servers.values()
    server.patience._silent_until = float("-inf")
    assert store.get_host_creds().host == "https://signed-in"
    found.append(MlflowException("down"))
    assert store.get_host_creds().host == "https://signed-in"


class Racing:
    """A server whose replies about an experiment are configured, call by call."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)

    def attempt(self, call: Callable[[], Any], _: Any = None) -> Any:
        """Return the next reply, or raise it."""
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


TAKEN = _mlflow.refusal("already exists", "RESOURCE_ALREADY_EXISTS")


@pytest.mark.parametrize(
    "replies",
    [(None, Away("down")), (None, TAKEN, Away("down"))],
    ids=["the server goes away", "it goes away after its refusal"],
)
def test_the_experiment_of_a_faster_process_becomes_active(
    replies: tuple[Any, ...], store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run ends up in the default experiment because another process created this one between two calls."""
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    inner = RestStore(lambda: MlflowHostCreds("http://127.0.0.1:9"))
    racing = _composite.parse("durable+http://127.0.0.1:9").wrap_tracking(
        lambda: inner, lambda: True
    )
    (server,) = (each for each in _server._servers.values() if not each.is_offline)
    racing_patience = Racing(*replies)
    monkeypatch.setattr(server, "patience", racing_patience)
    assert racing.get_experiment_by_name("raced") is None
    known = provisional_experiment("raced")
    # By another process on this machine.
    server.experiment_records.add(known, {"name": "raced", "artifact_location": "durable:/x"})
    assert racing.create_experiment("raced") == known
    assert racing_patience.replies == []


def test_a_just_created_experiment_is_found_without_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`set_experiment` creates it and fetches it, and the server may stop responding in between."""
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    inner = RestStore(lambda: MlflowHostCreds("http://127.0.0.1:9"))
    store = _composite.parse("durable+http://127.0.0.1:9").wrap_tracking(
        lambda: inner, lambda: True
    )
    (server,) = _server._servers.values()
    replies = Racing(None, "17", Away("down"))
    monkeypatch.setattr(server, "patience", replies)
    assert store.get_experiment_by_name("new") is None
    assert store.create_experiment("new") == "17"
    assert store.get_experiment("17").name == "new"
    assert replies.replies == []


def test_a_deleted_experiment_of_a_faster_process_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`set_experiment` takes "already exists" for a success, so the error is another one."""
    racing = behind_server()
    experiment = Experiment("17", "raced", "", "deleted")
    (server,) = _server._servers.values()
    monkeypatch.setattr(server, "patience", Racing(None, TAKEN, experiment))
    assert racing.get_experiment_by_name("raced") is None
    with pytest.raises(MlflowException, match="Cannot use the deleted experiment 'raced'") as no:
        racing.create_experiment("raced")
    assert no.value.error_code == "INVALID_PARAMETER_VALUE"


def test_an_experiment_that_a_silent_server_has_becomes_active(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server responds again between the two calls of `set_experiment`, and refuses to create it twice."""
    racing = behind_server()
    (server,) = _server._servers.values()
    experiment = Experiment("17", "there", "", "active")
    monkeypatch.setattr(server, "patience", Racing(Away("down"), TAKEN, experiment))
    assert racing.get_experiment_by_name("there") is None
    assert racing.create_experiment("there") == "17"


def behind_server() -> Any:
    """Return the tracking store of a server that no test reaches."""
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    inner = RestStore(lambda: MlflowHostCreds("http://127.0.0.1:9"))
    return _composite.parse("durable+http://127.0.0.1:9").wrap_tracking(lambda: inner, lambda: True)


def registry_behind_server() -> Any:
    """Return the model registry of a server that no test reaches."""
    from mlflow.store.model_registry.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    inner = RestStore(lambda: MlflowHostCreds("http://127.0.0.1:9"))
    return _composite.parse("durable+http://127.0.0.1:9").wrap_registry(lambda: inner, lambda: True)


@pytest.mark.parametrize("make", [behind_server, registry_behind_server])
def test_each_method_takes_what_mlflow_passes(make: Callable[[], Any]) -> None:
    """By position and by name, in every version of MLflow."""
    store = make()
    kind = next(each for each in type(store).__mro__ if each.__name__.endswith("AbstractStore"))
    refused = []
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if name.startswith("_"):
            continue
        known = list(inspect.signature(method).parameters.values())[1:]
        named = {p.name: None for p in known if p.kind is not p.VAR_KEYWORD}
        ours = inspect.signature(getattr(store, name))
        positional = [p for p in known if p.kind is p.POSITIONAL_OR_KEYWORD]
        for args, kwargs in (([None] * len(positional), {}), ([], named)):
            if args or kwargs:
                try:
                    ours.bind(*args, **kwargs)
                except TypeError as error:
                    refused.append(f"{name}: {error}")
    assert refused == []


def test_no_link_has_a_provisional_id(
    store: Any, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow fetches a run that ends before it prints its links, and prints none for the run that it gets."""
    from mlflow.utils import mlflow_tags

    store.shut_down_async_logging()
    tags = store.get_run(run_id).data.tags
    can_hide = hasattr(mlflow_tags, "MLFLOW_RUN_TYPE_GENAI_EVALUATE")
    assert (tags.get("mlflow.runType") == "genai_evaluate") == can_hide
    store.update_run_info(run_id, RunStatus.FINISHED, 2, None)
    assert "mlflow.runType" not in store.get_run(run_id).data.tags
    assert capsys.readouterr().out == ""
