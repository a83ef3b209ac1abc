"""Calls that a server refuses at once are refused at once through durable too, with the same message."""

import os
import re
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from mlflow_connections_sandbox import MlflowServer

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")
entities: Any = import_module("mlflow.entities")
IS_2 = mlflow.__version__.startswith("2.")
VERSION = tuple(map(int, mlflow.__version__.split(".")[:2]))
UNKNOWN = "f" * 32


class Place(NamedTuple):
    """A client, and the objects of the calls.

    Attributes:
        client: An `MlflowClient`.
        experiment: An experiment's ID.
        run: A run with the param `p` of the value `old`.
        deleted: A deleted run.
        file: A local file.
    """

    client: Any
    experiment: str
    run: str
    deleted: str
    file: Path


Call = Callable[[Place], object]


def batch(at: Place, metrics: Any = (), params: Any = (), tags: Any = ()) -> object:
    """Log a batch, without the client's checks."""
    return at.client._tracking_client.store.log_batch(
        at.run, list(metrics), list(params), list(tags)
    )


def dataset(name: Any = "n", digest: str = "d", tag: str = "k") -> Any:
    """Return a dataset that a run has read."""
    tags = [entities.InputTag(tag, "v")]
    return entities.DatasetInput(entities.Dataset(name, digest, "t", "s"), tags)


METRICS: dict[str, Call] = {
    "odd characters": lambda at: at.client.log_metric(at.run, "a?b", 1),
    "a long name": lambda at: at.client.log_metric(at.run, "m" * 251, 1),
    "a name with dots": lambda at: at.client.log_metric(at.run, "../m", 1),
    "an empty name": lambda at: at.client.log_metric(at.run, "", 1),
    "no name": lambda at: at.client.log_metric(at.run, None, 1),
    "a value that is text": lambda at: at.client.log_metric(at.run, "a", "high"),
    "no value": lambda at: at.client.log_metric(at.run, "a", None),
    "a negative time": lambda at: at.client.log_metric(at.run, "a", 1, timestamp=-1),
    "a time that is text": lambda at: at.client.log_metric(at.run, "a", 1, timestamp="x"),
    "half a millisecond": lambda at: at.client.log_metric(at.run, "a", 1, timestamp=1.5),
    "half a step": lambda at: at.client.log_metric(at.run, "a", 1, step=0.5),
    "a step that is text": lambda at: at.client.log_metric(at.run, "a", 1, step="x"),
    "a step beyond 64 bits": lambda at: at.client.log_metric(at.run, "a", 1, step=2**63),
    "too many at once": lambda at: batch(at, [entities.Metric("m", 1.0, 1, 0)] * 1_001),
}
PARAMS_AND_TAGS: dict[str, Call] = {
    "a param with odd characters": lambda at: at.client.log_param(at.run, "a?b", 1),
    "a param with a long name": lambda at: at.client.log_param(at.run, "p" * 251, 1),
    "a param with dots": lambda at: at.client.log_param(at.run, "a/../b", 1),
    "a param that changes": lambda at: at.client.log_param(at.run, "p", "new"),
    "a param twice": lambda at: at.client.log_batch(
        at.run, params=[entities.Param("q", "1"), entities.Param("q", "2")]
    ),
    "too many params at once": lambda at: batch(
        at, params=[entities.Param(f"q{n}", "1") for n in range(101)]
    ),
    "a tag with odd characters": lambda at: at.client.set_tag(at.run, "a?b", 1),
    "a tag with a long name": lambda at: at.client.set_tag(at.run, "t" * 251, 1),
    "an unknown tag that is deleted": lambda at: at.client.delete_tag(at.run, "unknown"),
    "an experiment's tag with a long name": lambda at: at.client.set_experiment_tag(
        at.experiment, "k" * 251, "1"
    ),
    "an experiment's tag with a long value": lambda at: at.client.set_experiment_tag(
        at.experiment, "k", "1" * 20_001
    ),
}
RUNS: dict[str, Call] = {
    "a deleted run's metric": lambda at: at.client.log_metric(at.deleted, "a", 1),
    "a deleted run's param": lambda at: at.client.log_param(at.deleted, "a", 1),
    "a deleted run's tag": lambda at: at.client.set_tag(at.deleted, "a", 1),
    "a deleted run's state": lambda at: at.client.update_run(at.deleted, "FINISHED"),
    "a deleted run's input": lambda at: at.client.log_inputs(at.deleted, [dataset()]),
    "two names": lambda at: at.client.create_run(
        at.experiment, tags={"mlflow.runName": "a"}, run_name="b"
    ),
    "an unknown state": lambda at: at.client.set_terminated(at.run, "NO SUCH"),
    "a dataset with a long name": lambda at: at.client.log_inputs(at.run, [dataset("n" * 501)]),
    "a dataset with a long digest": lambda at: at.client.log_inputs(
        at.run, [dataset(digest="d" * 37)]
    ),
    "a dataset's tag with a long name": lambda at: at.client.log_inputs(
        at.run, [dataset(tag="k" * 256)]
    ),
    "an artifact beyond the root": lambda at: at.client.log_artifact(
        at.run, str(at.file), "../outside"
    ),
    "an artifact at an absolute path": lambda at: at.client.log_artifact(
        at.run, str(at.file), "/outside"
    ),
    "an artifact that is not there": lambda at: at.client.log_artifact(
        at.run, str(at.file.with_name("missing"))
    ),
}
NAMES: dict[str, Call] = {
    "an experiment without a name": lambda at: at.client.create_experiment(""),
    "an experiment with a long name": lambda at: at.client.create_experiment("x" * 501),
    "a registered model without a name": lambda at: at.client.create_registered_model(""),
}
if not IS_2:
    NAMES["a logged model with a slash"] = lambda at: at.client.create_logged_model(
        at.experiment, name="a/b"
    )
if VERSION >= (3, 15):
    # A release between 3.5 and 3.15 began to refuse it.
    NAMES["a registered model with a slash"] = lambda at: at.client.create_registered_model("a/b")
AT_ONCE = {**METRICS, **PARAMS_AND_TAGS, **RUNS, **NAMES}

ONLY_A_SERVER_KNOWS: dict[str, Call] = {
    "an unknown run": lambda at: at.client.log_metric(UNKNOWN, "a", 1),
    "an unknown run that is deleted": lambda at: at.client.delete_run(UNKNOWN),
    "an unknown run's artifact": lambda at: at.client.log_artifact(UNKNOWN, str(at.file)),
    "an unknown run that is read": lambda at: at.client.get_run(UNKNOWN),
    "an experiment's name again": lambda at: at.client.create_experiment("refused plain"),
    "a run in an unknown experiment": lambda at: at.client.create_run("777777"),
    "an unknown experiment's tag": lambda at: at.client.set_experiment_tag("777777", "k", "1"),
    "an unknown registered model's version": lambda at: at.client.create_model_version(
        "nothing", "s3://somewhere/model"
    ),
    "an unknown registered model's alias": lambda at: at.client.set_registered_model_alias(
        "nothing", "best", "1"
    ),
}
if not IS_2:
    ONLY_A_SERVER_KNOWS |= {
        "an unknown logged model": lambda at: at.client.get_logged_model(f"m-{UNKNOWN}"),
        "an unknown logged model's tag": lambda at: at.client.delete_logged_model_tag(
            f"m-{UNKNOWN}", "a"
        ),
    }


def place(uri: str, name: str, folder: Path) -> Place:
    """Create the objects of the calls."""
    client = mlflow.MlflowClient(uri, uri)
    experiment = client.create_experiment(name)
    run, deleted = (client.create_run(experiment).info.run_id for _ in range(2))
    client.log_param(run, "p", "old")
    client.delete_run(deleted)
    file = folder / "a.txt"
    file.write_text("a")
    return Place(client, experiment, run, deleted, file)


def said(call: Call, at: Place) -> str:
    """Return the class and the message of a call's error, without this test's names."""
    try:
        result = call(at)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        words = f"{type(error).__name__}: {error}".replace(at.run, "<run>")
        words = words.replace(at.deleted, "<deleted>")
        # Times, and the statement of the database's driver.
        words = re.sub(r"1[67]\d{11}", "<time>", words).partition("Error: (sqlite3")[0]
        return re.sub(r"log_param\(.*", "", words, flags=re.DOTALL).strip()
    return f"nothing was raised: {result}"


def test_a_refused_call_raises_the_same_error(
    proxy: Any, mlflow_server: MlflowServer, tmp_path: Path, outbox: Path
) -> None:
    """Every call raises the same errors as plain MLflow; without a server, every call that needs none does."""
    plain = place(mlflow_server.url, "refused plain", tmp_path)
    durable = place(f"durable+{proxy.url}", "refused durable", tmp_path)
    every = {**AT_ONCE, **ONLY_A_SERVER_KNOWS}
    # Older clients look for a server's artifacts at the current URI, whatever their own URI is.
    mlflow.set_tracking_uri(mlflow_server.url)
    expected = {what: said(call, plain) for what, call in every.items()}
    assert [what for what, words in expected.items() if words.startswith("nothing")] == []
    assert {what: said(call, durable) for what, call in every.items()} == expected
    proxy.mode = "down"
    at_once = {what: said(call, durable) for what, call in AT_ONCE.items()}
    assert at_once == {what: expected[what] for what in AT_ONCE}
    assert len(AT_ONCE) > 17


def test_a_refusal_that_only_a_server_can_make_comes_later(
    proxy: Any, program: Any, mlflow_server: MlflowServer
) -> None:
    """A param that another process logged is a dead letter with the server's reason; the rest arrives."""
    plain = mlflow.MlflowClient(mlflow_server.url)
    run = plain.create_run("0")
    proxy.mode = "down"
    client = mlflow.MlflowClient(f"durable+{proxy.url}")
    plain.log_param(run.info.run_id, "p", "theirs")
    client.log_param(run.info.run_id, "p", "mine")
    client.log_metric(run.info.run_id, "m", 1.0)
    proxy.mode = "up"
    report = program.ship(code=1)
    assert (report["waiting"], report["rejected"]) == (0, 1)
    (letters,) = (path.read_text() for path in program.folder.rglob("dead_letters.jsonl"))
    assert "Changing param values is not allowed" in letters
    found = plain.get_run(run.info.run_id).data
    assert (found.params, found.metrics) == ({"p": "theirs"}, {"m": 1.0})


def test_a_keyword_as_mlflows_own_uri_is_named_by_any_program(
    warm_python: str, tmp_path: Path
) -> None:
    """Importing MLflow is enough: old versions write runs into a folder of that name, newer ones do not say why."""
    done = subprocess.run(
        [warm_python, "-c", "import mlflow"],
        env={**os.environ, "MLFLOW_TRACKING_URI": "durable"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (
        done.stderr.count("MLFLOW_TRACKING_URI is 'durable': MLflow takes this for the folder") == 1
    )


def test_any_program_can_trace(
    warm_python: str, tmp_path: Path, mlflow_server: MlflowServer
) -> None:
    """MLflow 3.5 asks the plugins for tags while it holds the lock of its tracer, which none may wait for."""
    done = subprocess.run(
        [warm_python, "-c", "import mlflow; print(mlflow.trace(str.upper)('traced'))"],
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow_server.url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("TRACED")
