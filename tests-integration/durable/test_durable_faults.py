"""Faults of machines and people: disks, credentials, clocks, processes that end abruptly."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_outbox import Policy
from mlflow_connections_sandbox import MlflowServer

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")


def runs_of(server: MlflowServer, experiment: str, name: str = "") -> list[Any]:
    """Return the runs of an experiment, or those with a name."""
    client = mlflow.MlflowClient(server.url)
    found = client.get_experiment_by_name(experiment)
    named = f"tags.mlflow.runName = '{name}'" if name else ""
    return list(client.search_runs([found.experiment_id], named))


def run_of(server: MlflowServer, experiment: str, name: str = "") -> Any:
    """Return the one run of an experiment, or the one with a name."""
    (run,) = runs_of(server, experiment, name)
    return run


def steps(server: MlflowServer, run: Any, key: str = "loss") -> list[int]:
    """Return the steps of a metric."""
    points = mlflow.MlflowClient(server.url).get_metric_history(run.info.run_id, key)
    return sorted(point.step for point in points)


def files(server: MlflowServer, run: Any) -> dict[str, int]:
    """Return the sizes of a run's files, without a client, because this process has its own files."""
    url = f"{server.url}/api/2.0/mlflow/artifacts/list?run_id={run.info.run_id}"
    with urllib.request.urlopen(url) as response:
        found = json.loads(response.read()).get("files", [])
    return {file["path"]: int(file["file_size"]) for file in found}


def until(met: Callable[[], bool]) -> None:
    """Wait until a condition is met; the session's time limit ends a test whose condition never is."""
    while not met():
        time.sleep(0.1)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the shippers' times from minutes to moments."""
    hasty = Policy(patience=0.2, idle=0.2, max_backoff=0.5)
    monkeypatch.setattr(Policy, "read", lambda: (hasty, []))


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log records of these packages."""
    return [r.getMessage() for r in caplog.records if r.name.startswith("mlflow_connections")]


def said(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    """Return the warnings that contain a text."""
    return [r.getMessage() for r in caplog.records if part in r.getMessage()]


# ----- disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a small disk; packages/outbox/tests simulates one")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Write until the disk is full."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for power in range(16, -1, -1):
            with suppress(OSError):
                while True:
                    file.write(bytes(1 << power))


def test_a_full_disk_is_reported_once_and_nothing_is_lost(
    proxy: Any,
    mlflow_server: MlflowServer,
    small_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Values are sent from memory and files directly to the server, until there is room again."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(small_disk / "outbox"))
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    mlflow.set_experiment("full disk")
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(20_000))
    with mlflow.start_run() as run:
        client = mlflow.MlflowClient()
        mlflow.log_metric("loss", 1.0, step=0)
        mlflow.log_artifact(str(file))
        fill(small_disk)
        for step in range(1, 40):
            mlflow.log_metric("loss", 1.0, step=step)
            mlflow.log_param(f"long_{step}", "x" * 500)
        for number in range(3):
            copy = file.rename(tmp_path / f"full_{number}.bin")
            mlflow.log_artifact(str(copy))
            file = copy
        assert len(said(caplog, "cannot be written")) == 1
        assert len(said(caplog, "directly")) == 1
        until(lambda: steps(mlflow_server, run) == list(range(40)))
        (small_disk / "filler").unlink()
        time.sleep(1.1)
        mlflow.log_metric("loss", 1.0, step=40)
        mlflow.log_artifact(str(file.rename(tmp_path / "after.bin")))
        assert client.get_run(run.info.run_id).data.params["long_39"] == "x" * 500
    until(lambda: run_of(mlflow_server, "full disk").info.status == "FINISHED")
    assert steps(mlflow_server, run) == list(range(41))
    names = ["after.bin", "full_0.bin", "full_1.bin", "full_2.bin", "weights.bin"]
    assert files(mlflow_server, run) == dict.fromkeys(names, 20_000)
    assert len(said(caplog, "directly")) == 1
    assert len(said(caplog, "kept on this machine again")) == 1


def test_a_folder_that_cannot_be_written_is_reported_once(
    proxy: Any,
    mlflow_server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Everything goes to the server from memory, including runs that began without it; a file is refused then."""
    (tmp_path / "occupied").write_text("no folder")
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "occupied" / "outbox"))
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    mlflow.set_experiment("no disk")
    proxy.mode = "down"
    (tmp_path / "weights.bin").write_bytes(bytes(20_000))
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.0, step=0)
        mlflow.log_text("hello", "hello.txt")
        with pytest.raises(
            mlflow.MlflowException, match="is not logged: no copy can be kept"
        ) as no:
            mlflow.log_artifact(str(tmp_path / "weights.bin"))
        assert "\n" not in str(no.value)
        proxy.mode = "up"
        until(lambda: any(files(mlflow_server, run) for run in runs_of(mlflow_server, "no disk")))
        real = run_of(mlflow_server, "no disk")
        assert real.info.run_id != run.info.run_id
        time.sleep(5)  # the server is not called for this time after a failure
        mlflow.log_artifact(str(tmp_path / "weights.bin"))
        mlflow.log_metric("loss", 0.5, step=1)
    until(lambda: run_of(mlflow_server, "no disk").info.status == "FINISHED")
    assert files(mlflow_server, real) == {"hello.txt": 5, "weights.bin": 20_000}
    assert steps(mlflow_server, real) == [0, 1]
    assert len(said(caplog, "cannot be written")) == 1
    assert len(said(caplog, "directly")) == 1


# ----- processes


def test_a_process_that_ends_abruptly_loses_nothing(
    proxy: Any, program: Any, mlflow_server: MlflowServer
) -> None:
    """Values that threads, a fork and a spawned process logged to one run all arrive, once.

    The group `outages` tests other ends, and all servers.
    """
    proxy.mode = "down"
    process = program.start(f"durable+{proxy.url}", "processes", "ends by exit", "exit")
    _, error = process.communicate()
    assert process.returncode == 3, error
    proxy.mode = "up"
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    run = run_of(mlflow_server, "ends by exit")
    names = [*(f"thread_{n}" for n in range(4)), "fork", "main", "spawn"]
    assert sorted(run.data.metrics) == sorted(names)
    for name in names:
        assert steps(mlflow_server, run, name) == list(range(20))
    assert run.info.status == "RUNNING"


def test_a_long_training_is_delivered_after_any_outage(
    proxy: Any,
    mlflow_server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
    outbox: Path,
) -> None:
    """The shipper outlives any outage while the process lives, and a killed one is replaced."""
    hurry(monkeypatch)
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    mlflow.set_experiment("goes on")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.0, step=0)
        until(lambda: steps(mlflow_server, run) == [0])
        proxy.mode = "down"
        mlflow.log_metric("loss", 1.0, step=1)
        until(lambda: any(outbox.glob("*/status.json")))
        (status,) = outbox.glob("*/status.json")
        until(lambda: json.loads(status.read_text())["attempts"] > 4)
        shipper = json.loads(status.read_text())["pid"]
        proxy.mode = "up"
        until(lambda: steps(mlflow_server, run) == [0, 1])
        assert json.loads(status.read_text())["pid"] == shipper
        proxy.mode = "down"
        mlflow.log_metric("loss", 1.0, step=2)
        until(lambda: json.loads(status.read_text())["state"] == "unavailable")
        os.kill(json.loads(status.read_text())["pid"], 9)
        time.sleep(1)
        mlflow.log_metric("loss", 1.0, step=3)
        proxy.mode = "up"
        until(lambda: steps(mlflow_server, run) == [0, 1, 2, 3])


# ----- credentials


@pytest.mark.slow
def test_expired_credentials_lose_nothing(
    proxy: Any,
    program: Any,
    mlflow_server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
    outbox: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Events wait for valid credentials, which another process may have, and no message shows any."""
    proxy.token = "right-token"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "wrong-token")
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    mlflow.set_experiment("expired")
    with mlflow.start_run():
        mlflow.log_metric("loss", 1.0, step=0)
        mlflow.log_text("hello", "hello.txt")
        until(
            lambda: "unauthorized" in "".join(s.read_text() for s in outbox.glob("*/status.json"))
        )
        mlflow.log_metric("loss", 0.5, step=1)
    assert len(ours(caplog)) > 0
    assert not any("-token" in message for message in ours(caplog))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "right-token")
    report = program.ship()
    assert (report["waiting"], report["rejected"], report["aside"]) == (0, 0, 0)
    run = run_of(mlflow_server, "expired")
    assert steps(mlflow_server, run) == [0, 1]
    assert files(mlflow_server, run) == {"hello.txt": 5}
    assert run.info.status == "FINISHED"


# ----- two destinations, clocks


@pytest.mark.slow
def test_two_servers_share_only_a_folder(
    proxy: Any, program: Any, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unavailable server does not delay the other, and neither gets the other's data."""
    down = type(proxy)(mlflow_server.url)
    down.mode = "down"
    clients = {
        name: mlflow.MlflowClient(f"durable+{server.url}")
        for name, server in (("one of two", proxy), ("two of two", down))
    }
    for name, client in clients.items():
        run = client.create_run(client.create_experiment(name))
        client.log_metric(run.info.run_id, "loss", 1.0, step=0)
        client.log_text(run.info.run_id, "hello", f"{name}.txt")
        client.set_terminated(run.info.run_id)
    until(lambda: run_of(mlflow_server, "one of two").info.status == "FINISHED")
    assert mlflow.MlflowClient(mlflow_server.url).get_experiment_by_name("two of two") is None
    down.mode = "up"
    reports = json.loads(program.outbox("ship", "--output", "json"))
    assert [(report["waiting"], report["rejected"]) for report in reports] == [(0, 0)] * 2
    for name in clients:
        assert list(files(mlflow_server, run_of(mlflow_server, name))) == [f"{name}.txt"]
    down.close()


CLOCK = """
import time
_ns, _time = time.time_ns, time.time
_begun = time.monotonic()
_JUMPS = ({days} * 86400, -{days} * 86400, 0)

def _jump():
    return _JUMPS[int((time.monotonic() - _begun) * 4) % 3]

time.time = lambda: _time() + _jump()
time.time_ns = lambda: _ns() + _jump() * 10**9
"""


@pytest.mark.slow
def test_a_clock_that_jumps_by_days_changes_no_delivery(
    proxy: Any, program: Any, described: Any, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """Every run and value arrives once, despite jumps in the training's and in the shipper's process."""
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CLOCK.format(days=40))
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    program.run(f"durable+{proxy.url}", "train", "clock", "0.05", PYTHONPATH=path)
    report = program.ship(PYTHONPATH=path)
    assert (report["waiting"], report["rejected"], report["aside"]) == (0, 0, 0)
    runs = described(mlflow_server.url, "clock")["runs"]
    assert len(runs) == 4
    client = mlflow.MlflowClient(mlflow_server.url)
    experiment = client.get_experiment_by_name("clock").experiment_id
    (parent,) = client.search_runs([experiment], "tags.mlflow.runName = 'parent'")
    assert steps(mlflow_server, parent) == list(range(60))


# ----- large artifacts


@pytest.fixture
def patient_server(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[MlflowServer]:
    """A server that takes uploads of any length.

    Gunicorn, which runs servers of MLflow 2, ends a worker after 30 seconds in one request, and the
    first servers of MLflow 3 take a time that is the square of the upload's size, in which they answer
    nobody. This is the remedy that the page of durable names.
    """
    if hasattr(import_module("mlflow.server"), "_build_uvicorn_command") and hasattr(
        import_module("mlflow.server.fastapi_app"), "_EfficientWSGIMiddleware"
    ):
        yield mlflow_server
        return
    with MlflowServer(tmp_path / "patient", options=["--gunicorn-opts", "--timeout 600"]) as server:
        yield server


@pytest.mark.slow
def test_an_upload_that_is_always_cut_holds_nothing_up_and_arrives_later(
    proxy: Any, program: Any, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """It is tried again behind everything else while the server answers, and is no dead letter."""
    (tmp_path / "large.bin").write_bytes(bytes(1 << 20))
    program.run("durable://offline", "files", "cut", str(tmp_path / "large.bin"))
    proxy.cut = "/large.bin"
    report = program.ship("--to", proxy.url, "--timeout", "20", code=1)
    assert (report["waiting"], report["rejected"], report["aside"]) == (1, 0, 0)
    assert "but does not take 1.0 MiB of artifacts of" in report["reason"]
    assert 3 <= proxy.count("/large.bin") <= 4
    run = run_of(mlflow_server, "cut")
    assert steps(mlflow_server, run) == [0]
    assert run.info.status == "FINISHED"
    assert files(mlflow_server, run) == {"hello.txt": 5}
    proxy.cut = None
    report = program.ship("--to", proxy.url)
    assert (report["delivered"], report["waiting"], report["rejected"]) == (1, 0, 0)
    assert files(mlflow_server, run) == {"hello.txt": 5, "large.bin": 1 << 20}


@pytest.mark.slow
def test_five_gigabytes_are_kept_and_uploaded_in_little_memory(
    patient_server: MlflowServer, program: Any, tmp_path: Path
) -> None:
    """Neither the training nor the shipper ever has the whole file in memory, and a limit is reported."""
    script = (
        "import mlflow, resource\n"
        "mlflow.set_experiment('large')\n"
        "with mlflow.start_run():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    mlflow.log_artifact('large.bin')\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(5 << 30)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"durable+{patient_server.url}"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.splitlines()[0]) < 64 << 10  # KiB
    (tmp_path / "large.bin").unlink()
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    assert files(patient_server, run_of(patient_server, "large")) == {"large.bin": 5 << 30}
    assert not list((tmp_path / "outbox").rglob("large.bin"))
    os.sync()  # a server whose disk is busy with all this would be taken for one that is down
    program.run(
        f"durable+{patient_server.url}",
        *("train", "limited"),
        MLFLOW_CONNECTIONS_DURABLE_MAX_FILE_BYTES="1",
    )


@pytest.mark.slow
def test_a_hundred_thousand_files_arrive(
    proxy: Any, program: Any, mlflow_server: MlflowServer, tmp_path: Path, outbox: Path
) -> None:
    """One call keeps them all, the server gets them all, and no copy is left."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(100_000):
        (folder / f"{number:05}.txt").touch()
    program.run("durable://offline", "files", "many", str(folder))
    state = next(outbox.glob("*/state"))
    assert sum(len(names) for _, _, names in os.walk(state / "files")) == 100_000
    target = f"sqlite:///{tmp_path / 'target.db'}"
    report = program.ship("--to", target)
    assert (report["waiting"], report["rejected"]) == (0, 0)
    client = mlflow.MlflowClient(target)
    (run,) = client.search_runs([client.get_experiment_by_name("many").experiment_id])
    assert len(client.list_artifacts(run.info.run_id, "many")) == 100_000
    assert not [path for path in (state / "files").iterdir() if path.suffix != ".done"]


@pytest.mark.slow
def test_the_end_of_a_process_may_wait_until_all_is_delivered(
    proxy: Any, program: Any, mlflow_server: MlflowServer
) -> None:
    """With a long exit timeout nothing is left in a pod that is about to stop."""
    program.run(
        f"durable+{proxy.url}",
        *("train", "waits at its end"),
        MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT="600",
    )
    assert len(runs_of(mlflow_server, "waits at its end")) == 3
    assert {r.info.status for r in runs_of(mlflow_server, "waits at its end")} == {
        "FINISHED",
        "FAILED",
    }
    (report,) = json.loads(program.outbox("status", "--output", "json"))
    assert (report["events"], report["rejected"]) == (0, 0)


# ----- messages for people


def test_the_start_and_the_end_of_an_outage_are_logged(
    proxy: Any,
    mlflow_server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line each, with the run's address once it has one, and no link to an ID that the server lacks."""
    hurry(monkeypatch)
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    mlflow.set_experiment("told")
    with mlflow.start_run() as first:
        mlflow.log_metric("loss", 1.0)
    assert capsys.readouterr().out.count(f"/runs/{first.info.run_id}\n") == 1
    assert ours(caplog) == []
    proxy.mode = "down"
    with mlflow.start_run(run_name="second") as second:
        mlflow.log_metric("loss", 1.0)
        for _ in range(4):
            time.sleep(0.6)
            mlflow.log_metric("loss", 1.0)
    assert second.info.run_id not in capsys.readouterr().out
    (away,) = ours(caplog)
    assert f"The MLflow server at {proxy.url} does not respond: " in away
    assert second.info.run_id in away
    proxy.mode = "up"
    until(
        lambda: len(ours(caplog)) > 1 or mlflow.MlflowClient().set_tag(first.info.run_id, "a", "1")
    )
    (_, back) = ours(caplog)
    real = run_of(mlflow_server, "told", "second").info
    assert f"The MLflow server at {proxy.url} has everything again." in back
    assert f"({second.info.run_id}) is {proxy.url}/#/experiments/{real.experiment_id}" in back
    assert back.endswith(f"/runs/{real.run_id}.")


def test_a_program_that_waits_at_its_end_logs_the_end_of_the_outage(
    proxy: Any, program: Any
) -> None:
    """This works although the program logs nothing more, and nothing is left to ship."""
    waits = {"MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT": "600", "PYTHONUNBUFFERED": "1"}
    process = program.start(f"durable+{proxy.url}", "train", "waits at its end", **waits)
    while not proxy.count("/runs/create"):
        assert process.poll() is None
        time.sleep(0.01)
    proxy.mode = "down"
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1].replace(".", "").isdigit():  # its last output
            break
    assert process.poll() is None
    proxy.mode = "up"
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert error.count("has everything again") == 1
    report = program.ship()
    assert (report["delivered"], report["waiting"], report["rejected"]) == (0, 0, 0)
