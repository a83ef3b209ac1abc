"""Popular training clients, plain and through durable, during outages of a real server, on two databases."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlflow_connections_events.testing import describe, differences
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._mlflow_server import free_port

pytestmark = pytest.mark.slow

FLAP_SECONDS = 2.0

QUICK = {"MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1"}
"""To find a model's imports, MLflow loads it in a separate process each time, which takes seconds."""

Outage = Callable[[Any, MlflowServer, threading.Event], None]


def healthy(proxy: Any, server: MlflowServer, ended: threading.Event) -> None:
    """Forward every request."""


def down(proxy: Any, server: MlflowServer, ended: threading.Event) -> None:
    """Be down from start to end."""
    proxy.mode = "down"
    ended.wait()


def killed(proxy: Any, server: MlflowServer, ended: threading.Event) -> None:
    """Kill the server's process after a run has begun, start it again, and repeat until the programs end."""
    while not ended.is_set():
        begun = proxy.count("/runs/create")
        while proxy.count("/runs/create") == begun and not ended.wait(0.02):
            pass
        if ended.wait(0.3):
            break
        server.kill()
        # Its port is free again once its last client has disconnected.
        time.sleep(FLAP_SECONDS)
        server.start()
        proxy.kills += 1


def flapping(proxy: Any, server: MlflowServer, ended: threading.Event) -> None:
    """Be down every other two seconds."""
    while not ended.wait(FLAP_SECONDS):
        proxy.mode = "down" if proxy.mode == "up" else "up"


OUTAGES: tuple[Outage, ...] = (healthy, down, killed, flapping)

TABULAR: tuple[str, ...] = ("ranks", "train", "sklearn", "xgboost", "system")
if not mlflow.__version__.startswith("2."):
    # Servers of MLflow 2 create the IDs of traces, so they need the server.
    TABULAR += ("traced",)
DEEP = ("lightning", "transformers")
REGISTERED = "sklearn sklearn"

IGNORED = (
    # MLflow's client repeats a tag that its server wrote, with a number instead of text.
    "models/*/tags/mlflow.modelVersions",
    # The speed of a sampling thread varies.
    "runs/system/*/metrics/system/*",
)
MEASURED = (
    # A duration may be 0 ms, and the client counts the bytes of a trace with the IDs that it knows.
    "traces/*/duration",
    "traces/*/metadata/mlflow.trace.size*",
    # The state of the machine.
    "runs/system/*/latest/system/*",
    # Estimators contain the times of their fits, and their pictures random names.
    "runs/sklearn/*/latest/*_time*",
    "runs/sklearn/*/metrics/*_time*",
    "*/files/*.pkl",
    "*/files/cv_results.csv",
    "*/files/estimator.html",
    # The callback of transformers logs the speed of the training.
    *(
        f"runs/transformers/*/{values}/train_{speed}"
        for values in ("latest", "metrics")
        for speed in ("runtime", "samples_per_second", "steps_per_second")
    ),
    # A checkpoint contains its run's folder, by ID, and a trained state contains the time.
    "runs/lightning/*/files/*.ckpt",
)
"""Values that must exist and differ in each execution, as patterns of paths."""


class Stand:
    """A server with a fixed address, and the data that programs log to it without durable.

    Attributes:
        server: The server.
        plain: The description of the programs' plain data, by their names.
    """

    def __init__(self, server: MlflowServer) -> None:
        self.server = server
        self.plain: dict[tuple[str, ...], dict[str, Any]] = {}

    def describe(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Describe the data of programs, and rename it: the same names are needed again."""
        found = describe(self.server.url, experiments=names, exact=False, load=True)
        client = mlflow.MlflowClient(self.server.url, self.server.url)
        mark = uuid.uuid4().hex
        for name in names:
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
            client.rename_experiment(experiment.experiment_id, f"{name} {mark}")
        if "sklearn" in names:
            client.rename_registered_model(REGISTERED, mark)
        described: dict[str, Any] = blurred(found)
        return described


def blurred(value: Any, path: str = "") -> Any:
    """Return a description without the measured values, which must still exist."""
    if any(fnmatchcase(path, pattern) for pattern in MEASURED):
        return "measured"
    if isinstance(value, dict):
        return {key: blurred(inner, f"{path}/{key}".lstrip("/")) for key, inner in value.items()}
    return value


@contextmanager
def _stand(folder: Path, database: str = "") -> Iterator[Stand]:
    server = MlflowServer(folder, free_port(), database)
    server.start()
    try:
        yield Stand(server)
    finally:
        server.close()


@pytest.fixture(scope="module")
def sqlite_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A server on SQLite that tests may kill."""
    with _stand(tmp_path_factory.mktemp("sqlite")) as stand:
        yield stand


@pytest.fixture(scope="module")
def postgresql_stand(tmp_path_factory: pytest.TempPathFactory, postgresql: str) -> Iterator[Stand]:
    """A server on PostgreSQL that tests may kill."""
    with _stand(tmp_path_factory.mktemp("server"), postgresql) as stand:
        yield stand


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda each: str(each.__name__))
@pytest.mark.parametrize(
    ("database", "names"),
    [("sqlite", TABULAR), ("sqlite", DEEP), ("postgresql", TABULAR)],
    ids=("sqlite", "sqlite-torch", "postgresql"),
)
def test_programs_log_the_same_as_without_durable(
    database: str,
    names: tuple[str, ...],
    outage: Outage,
    request: pytest.FixtureRequest,
    make_proxy: Any,
    program: Any,
) -> None:
    """Runs, histories, params, tags, states, inputs, files, models, versions and traces are equal, each once."""
    stand: Stand = request.getfixturevalue(f"{database}_stand")
    url = stand.server.url
    if names not in stand.plain:
        program.run(url, "clients", *names, **QUICK)
        stand.plain[names] = stand.describe(names)
    proxy = make_proxy(url)
    ended = threading.Event()
    thread = threading.Thread(target=outage, args=(proxy, stand.server, ended), daemon=True)
    thread.start()
    try:
        program.run(f"durable+{proxy.url}", "clients", *names, **QUICK)
    finally:
        ended.set()
        thread.join()
        proxy.mode = "up"
    assert (proxy.kills > 0) == (outage is killed)
    report = program.ship()
    found = stand.describe(names)
    assert (report["waiting"], report["rejected"]) == (0, 0)
    different = differences(stand.plain[names], found, ignore=IGNORED)
    assert different == [], "\n".join(different)
    assert {run.partition("/")[0] for run in found["runs"]} == set(names)
    if "system" in names:
        (run,) = [run for label, run in found["runs"].items() if label.startswith("system/")]
        assert any(key.startswith("system/") for key in run["metrics"])
    if "sklearn" in names:
        assert REGISTERED in found["registered"]
