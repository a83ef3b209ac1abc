"""Replay without a server: the plan of a batch, and the meaning of MLflow's errors."""

import contextlib
import json
import socket
import ssl
from http.client import RemoteDisconnected
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.entities.paged_list import PagedList

from mlflow_connections import AccessError
from mlflow_connections_events import replay
from mlflow_connections_events._replaying._registry import RegistryApplier
from mlflow_connections_events._replaying._target import ReplayTarget
from mlflow_connections_events.ids import IdMap
from mlflow_connections_events.replay import (
    _steps,
    judge,
    missing_endpoint,
    open_replay,
    unless_missing,
)
from mlflow_connections_events.vocabulary import KINDS
from mlflow_connections_outbox import Batch, Destination, Event, Rejected, Unauthorized, Unavailable


def test_logged_events_of_a_run_share_a_request() -> None:
    """Events of other runs do not separate them, other events of the same run do."""
    kinds = [
        ("a", "logged"),
        ("b", "logged"),
        ("a", "logged"),
        ("a", "tag_deleted"),
        ("a", "logged"),
        ("b", "logged"),
    ]
    steps = _steps([Event(stream, kind, 1, {}) for stream, kind in kinds])
    assert [step.positions for step in steps] == [[0, 2], [1, 5], [3], [4]]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (codes.INTERNAL_ERROR, Unavailable),
        (codes.TEMPORARILY_UNAVAILABLE, Unavailable),
        (codes.REQUEST_LIMIT_EXCEEDED, Unavailable),
        (codes.ENDPOINT_NOT_FOUND, Unavailable),
        (codes.UNAUTHENTICATED, Unauthorized),
        (codes.PERMISSION_DENIED, Unauthorized),
        (codes.INVALID_PARAMETER_VALUE, Rejected),
        (codes.RESOURCE_DOES_NOT_EXIST, Rejected),
        (codes.BAD_REQUEST, Rejected),
    ],
)
def test_the_code_of_an_error_determines_its_meaning(code: Any, expected: type) -> None:
    """Only a fault that the server names rejects an event."""
    judged = judge(MlflowException("why", error_code=code), "http://me:hidden@m")
    assert type(judged) is expected
    assert "why" in str(judged)
    assert "hidden" not in str(judged)


def test_a_refused_sign_in_waits_for_other_credentials() -> None:
    """MLflow hides what a connection raised while it signed in, and calls it an internal error."""
    error = MlflowException("API request failed with exception no")
    error.__context__ = AccessError("The client's secret is wrong.")
    judged = judge(error, "http://m")
    assert type(judged) is Unauthorized
    assert "exception no" in str(judged)


def test_a_broken_connection_is_unavailable() -> None:
    """An exception other than MLflow's own does not blame the event."""
    assert type(judge(ConnectionError("cut"), "http://m")) is Unavailable
    error = RestException({"error_code": "CUSTOM", "message": "no"})
    assert isinstance(judge(error, "http://m"), Unavailable | Rejected)


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (ConnectionRefusedError(111, "refused"), "it refuses connections"),
        (socket.gaierror(-2, "unknown"), "its host name is unknown"),
        (RemoteDisconnected("closed"), "it closed the connection"),
        (BrokenPipeError(32, "cut"), "it closed the connection"),
        (ssl.SSLEOFError(8, "EOF occurred"), "it closed the connection"),
        (TimeoutError("slow"), "it did not answer in time"),
    ],
)
@pytest.mark.parametrize("held", ["raised from", "reason", "inner_exception", "argument"])
def test_an_outage_is_explained_in_a_few_words(origin: OSError, words: str, held: str) -> None:
    """The reason is found wherever the clients keep it in their hundreds of characters."""
    middle = Exception("Max retries exceeded", *([origin] if held == "argument" else []))
    if held == "raised from":
        middle.__cause__ = origin
    if held in {"reason", "inner_exception"}:
        setattr(middle, held, origin)  # as urllib3 and Azure's clients do
    error = MlflowException("API request to http://m failed with exception HTTPConnectionPool")
    error.__context__ = middle
    assert str(judge(error, "http://m")) == (
        f"The MLflow server at http://m does not take events now: {words}"
    )


def test_every_kind_is_replayed(tmp_path: Path) -> None:
    """A kind that is added only to the vocabulary is detected."""
    sink = open_replay(Destination("copy", "http://127.0.0.1:9", ""), {}, tmp_path)
    assert sink._applier.kinds == KINDS


def test_an_unknown_kind_is_rejected(tmp_path: Path) -> None:
    """A newer version's event is kept, not counted as delivered."""
    reasons: list[str] = []
    sink = open_replay(Destination("copy", "http://127.0.0.1:9", ""), {}, tmp_path)
    batch = Batch([Event("a", "hologram", 1, {})], on_reject=lambda _, why: reasons.append(why))
    sink.send(batch)
    (reason,) = reasons
    assert "the kind 'hologram' is not known" in reason


@pytest.mark.parametrize("error", [TypeError, KeyError, ValueError])
def test_a_client_that_does_not_expect_a_response_does_not_blame_the_event(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow 2.22 raises a TypeError for a 429 without a code: the event waits."""

    class Busy:
        """The client's store."""

        def __getattr__(self, name: str) -> Any:
            raise error("int() argument must be a string")

    sink: Any = open_replay(Destination("copy", "http://127.0.0.1:9", ""), {}, tmp_path)
    monkeypatch.setattr(sink._applier.target, "tracking", Busy())
    with pytest.raises(Unavailable, match="argument must be a string"):
        sink.send(Batch([Event("a", "experiment_created", 1, {"name": "wine", "tags": {}})]))


def test_an_event_whose_data_is_incomplete_is_rejected(tmp_path: Path) -> None:
    """No request is made for it."""
    reasons: list[str] = []
    sink = open_replay(Destination("copy", "http://127.0.0.1:9", ""), {}, tmp_path)
    batch = Batch(
        [Event("a", "experiment_created", 1, {})], on_reject=lambda _, why: reasons.append(why)
    )
    sink.send(batch)
    assert reasons == ["An event 'experiment_created' cannot be replayed: KeyError: 'tags'."]


def absent(path: str) -> MlflowException:
    """Return MLflow's error for an endpoint that a server does not have."""
    return MlflowException(
        f"API request to endpoint {path} failed with error code 404 != 200. Response body: ''",
        error_code=codes.ENDPOINT_NOT_FOUND,
    )


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/api/2.0/mlflow/logged-models", "logged-models"),
        ("/api/2.0/mlflow/logged-models/m-1?a=b", "logged-models"),
        ("https://host/mlflow/v2.0/x/api/3.0/mlflow/traces", "traces"),
        ("/elsewhere", "unknown"),
    ],
)
def test_a_missing_endpoint_is_named(path: str, endpoint: str) -> None:
    """Its first word is enough to know it again."""
    assert missing_endpoint(absent(path)) == endpoint
    assert missing_endpoint(MlflowException(path, error_code=codes.RESOURCE_DOES_NOT_EXIST)) == ""


class Lacking:
    """An applier, and the server behind it, which has no logged models.

    Attributes:
        answers: Whether the server answers other requests.
        tries: How often it was asked for each kind of event.
    """

    def __init__(self) -> None:
        self.answers = True
        self.tries: list[str] = []
        self.target = self.tracking = self

    def search_experiments(self, **_: Any) -> None:
        """Answer a probe."""
        if not self.answers:
            raise ConnectionError

    def apply(self, event: Event) -> None:
        """Refuse logged models, and accept everything else."""
        self.tries.append(event.kind)
        if event.kind == "model_logged":
            raise absent("/api/2.0/mlflow/logged-models")
        if event.kind == "artifacts_uploaded":
            raise MlflowException("API request to http://m failed") from BrokenPipeError(32, "cut")

    def log(self, events: Any) -> None:
        """Accept values."""


@pytest.fixture
def lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Lacking]:
    """A sink of such a server."""
    monkeypatch.setattr(replay, "_MISSING_PAUSE", 0.0)
    server = Lacking()
    monkeypatch.setattr(replay.ReplaySink, "_open", lambda *_: server)
    return open_replay(Destination("x", "http://m", "x:x"), {}, tmp_path), server


def test_an_event_of_a_missing_endpoint_holds_nothing_up(lacking: Any) -> None:
    """It is asked for three times, then known to be missing; the other events are delivered."""
    sink, server = lacking
    events = [Event("r", kind, 1, {}) for kind in ("model_logged", "run_updated", "model_logged")]
    rejected: list[tuple[int, str]] = []
    batch = Batch(events, on_reject=lambda *each: rejected.append(each))
    sink.send(batch)
    assert server.tries == [*["model_logged"] * 3, "run_updated", "model_logged"]
    assert [position for position, _ in rejected] == [0, 2]
    assert rejected[0][1] == (
        "The MLflow server at http://m has no endpoint 'logged-models', which this event needs. AzureML "
        "and servers of MLflow 2 have no logged models: log the model's files as artifacts."
    )
    assert batch.accepted == 3


def test_a_search_of_a_missing_endpoint_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for three times, as a server may be starting; any other error is raised at once."""
    monkeypatch.setattr(replay, "_MISSING_PAUSE", 0.0)
    errors: list[Exception] = [absent("/api/2.0/mlflow/traces")] * 3

    def search() -> list[str]:
        if errors:
            raise errors.pop()
        return ["found"]

    assert unless_missing(search) is None
    assert errors == []
    errors += [absent("/api/2.0/mlflow/traces")] * 2
    assert unless_missing(search) == ["found"]
    errors += [absent("/api/2.0/mlflow/traces"), ConnectionError()]
    with pytest.raises(ConnectionError):
        unless_missing(search)


def test_a_missing_endpoint_of_a_missing_server_waits(lacking: Any) -> None:
    """A proxy without a server gives the same answer, so the event stays."""
    sink, server = lacking
    server.answers = False
    with pytest.raises(Unavailable):
        sink.send(Batch([Event("r", "model_logged", 1, {})]))
    assert server.tries == ["model_logged"]


class Catalog:
    """A registry such as Unity Catalog's, which knows no logged model."""

    __module__ = "mlflow.store._unity_catalog.registry.rest_store"

    def __init__(self) -> None:
        self.created = 0

    def search_model_versions(self, *_: Any, **__: Any) -> PagedList[Any]:
        """Find nothing."""
        return PagedList([], None)

    def create_model_version(self, name: str, model_id: str, **_: Any) -> Any:
        """Create a version, whose logged model is not tagged."""
        assert model_id == "m-1"
        self.created += 1
        return SimpleNamespace(name=name, version=str(self.created))


class Models:
    """A tracking store with one logged model."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def get_logged_model(self, model_id: str) -> Any:
        """Return the model."""
        assert model_id == "m-1"
        return SimpleNamespace(tags=self.tags)

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        """Set its tags."""
        assert model_id == "m-1"
        self.tags |= {tag.key: tag.value for tag in tags}


@pytest.mark.skipif(mlflow.__version__ < "3", reason="logged models came with MLflow 3")
def test_a_logged_model_names_its_versions_of_unity_catalog(tmp_path: Path) -> None:
    """Nobody else writes the tag: the server has another registry, and MLflow's client had no number yet."""
    catalog, models = Catalog(), Models()
    runs: Any = None
    target = ReplayTarget(
        models,
        lambda _: catalog,
        None,
        IdMap(tmp_path / "ids"),
        own_ids=True,
        announced=lambda _: None,
    )
    create = RegistryApplier(target, runs).handlers()["version_created"]
    data: dict[str, Any] = {
        "source": "models:/m-1",
        "model_id": "m-1",
        "tags": {},
        "description": None,
    }
    for number in ("1000000000000001", "1000000000000002"):
        create(Event("main.default.tree", "version_created", 1, {**data, "version": number}))
    assert json.loads(models.tags["mlflow.modelVersions"]) == [
        {"name": "main.default.tree", "version": "1"},
        {"name": "main.default.tree", "version": "2"},
    ]


def uploads(*names: str) -> list[Event]:
    """Return the uploads of large files, and a change of a run, by their IDs."""
    files = {"files": [["large.bin", 5 << 30, "upload"]]}
    return [
        Event("r", "run_updated" if name == "other" else "artifacts_uploaded", 1, files, name)
        for name in names
    ]


def test_an_upload_that_is_cut_again_and_again_holds_nothing_up(lacking: Any) -> None:
    """It is tried in its place first, then after all others, and never rejected."""
    sink, server = lacking
    events = uploads("large", "other")
    postponed: list[int] = []
    allowed: list[float] = []
    rejected: list[tuple[int, str]] = []

    def send(*events: Event) -> Batch:
        batch = Batch(
            events,
            on_reject=lambda *each: rejected.append(each),
            on_postpone=postponed.append,
            on_allow=allowed.append,
        )
        sink.send(batch)
        return batch

    for _ in range(2):
        with pytest.raises(Unavailable, match="does not take events now: it closed the connection"):
            send(*events)
    assert server.tries == ["artifacts_uploaded"] * 2
    assert send(*events).accepted == 2
    assert (postponed, server.tries[2:]) == ([0], ["artifacts_uploaded", "run_updated"])
    assert send(*uploads("large", "other")).accepted == 2  # not tried again so soon
    assert server.tries[4:] == ["run_updated"]
    with pytest.raises(Unavailable, match=r"does not take 5,120.0 MiB of artifacts of r") as caught:
        send(*uploads("large"))
    assert 50 < (caught.value.retry_after or 0) <= 60
    assert rejected == []
    assert set(allowed) == {5120.0}


def test_uploads_that_are_all_cut_wait(lacking: Any) -> None:
    """With nothing else to send they are not queued again and again."""
    sink, _ = lacking
    postponed: list[int] = []
    for name in ("one", "two"):
        for _ in range(3):
            with contextlib.suppress(Unavailable):
                sink.send(Batch(uploads(name), on_postpone=postponed.append))
    assert postponed == [0, 0]
    with pytest.raises(Unavailable, match="answers, but does not take"):
        sink.send(Batch(uploads("one", "two"), on_postpone=postponed.append))
    assert postponed == [0, 0]
