"""The shipper as a separate process."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_outbox import Event, Outbox, Policy
from mlflow_connections_outbox._spool import is_locked

FAST = Policy(poll=0.01, linger=0.05, backoff=0.02, max_backoff=0.1, idle=5.0, patience=0.3)

SCRIPT = """
import sys, os, time
from mlflow_connections_outbox import Destination, Event, Outbox, Policy
outbox = Outbox(
    Destination("file", sys.argv[1], "a_file_sink:make"),
    {"SINK_TOKEN": "hunter2"},
    Policy(poll=0.01, linger=0.05, backoff=0.02, max_backoff=0.1, patience=0.3, exit_timeout=10),
)
for number in range(int(sys.argv[2])):
    outbox.append(Event("run", "metrics", number, {"n": number}))
"""


def event(number: int) -> Event:
    """Return an event with a number."""
    return Event("run", "metrics", number, {"n": number})


def numbers(arrived: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of the received events."""
    return [each["data"]["n"] for each in arrived]


def run(arrivals: Any, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a script that can reach the file sink."""
    return subprocess.run(
        [sys.executable, "-c", script, arrivals.destination.url, *arguments],
        env={**os.environ, "PYTHONPATH": str(arrivals.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def folder_of(home: Path) -> Path:
    """Return the one spool."""
    (folder,) = (path for path in home.iterdir() if path.is_dir())
    return folder


def test_another_process_ships_with_the_secrets(arrivals: Any, home: Path) -> None:
    """Events leave from another process, with a token that is in no file."""
    outbox = Outbox(arrivals.destination, {"SINK_TOKEN": "hunter2"}, FAST)
    for number in range(1200):
        outbox.append(event(number))
    assert outbox.flush(20) == 0
    arrived = arrivals.all()
    assert numbers(arrived) == list(range(1200))
    assert {each["token"] for each in arrived} == {"hunter2"}
    (pid,) = {each["pid"] for each in arrived}
    assert pid != os.getpid()
    assert not [p for p in home.rglob("*") if p.is_file() and b"hunter2" in p.read_bytes()]
    outbox.close()


def children() -> set[str]:
    """Return the IDs of this process's children, including zombies."""
    mine = f"PPid:\t{os.getpid()}\n"
    found = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # it ended in the meantime
            if mine in status.read_text():
                found.add(status.parent.name)
    return found


def test_the_shipper_holds_nothing_of_the_trainer(arrivals: Any) -> None:
    """It shares no terminal, folder, open file or parent with its trainer, and no token is visible."""
    others = children()
    with (arrivals.folder / "a file of the trainer").open("w"):
        outbox = Outbox(arrivals.destination, {"SINK_TOKEN": "hunter2"}, FAST)
        outbox.append(event(1))
        assert outbox.flush(20) == 0
        pid = arrivals.all()[0]["pid"]
        proc = Path(f"/proc/{pid}")
        assert (proc / "cwd").readlink() == Path("/")
        opened = {str(link.readlink()) for link in (proc / "fd").iterdir()}
        assert not [name for name in opened if "trainer" in name]
        assert {str(Path(f"/proc/self/fd/{n}").readlink()) for n in (1, 2)} & opened <= {
            "/dev/null"
        }
        assert os.getsid(pid) != os.getsid(0)
        status = (proc / "status").read_text()
        assert f"PPid:\t{os.getpid()}\n" not in status
        told = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
        assert b"hunter2" not in told
        assert children() <= others
    outbox.close()


def test_the_shipper_ends_when_all_is_delivered(
    arrivals: Any, home: Path, until: Callable[..., Any]
) -> None:
    """Once no process writes and no event waits, no process and no segment is left."""
    outbox = Outbox(arrivals.destination, policy=FAST)
    outbox.append(event(1))
    assert outbox.close(20) == 0
    folder = folder_of(home)
    until(lambda: not list(folder.glob("*.seg")) and not is_locked(folder))


def test_an_idle_shipper_ends_and_returns(arrivals: Any, until: Callable[..., Any]) -> None:
    """Between two runs of a long process no shipper stays; the next event starts another."""
    outbox = Outbox(arrivals.destination, policy=FAST._replace(idle=0.1))
    outbox.append(event(1))
    assert outbox.flush(20) == 0
    assert outbox.folder is not None
    folder = outbox.folder
    until(lambda: not is_locked(folder))
    outbox.append(event(2))
    assert outbox.flush(20) == 0
    assert len({each["pid"] for each in arrivals.wait(2)}) == 2
    outbox.close()


def test_a_killed_shipper_is_replaced(arrivals: Any) -> None:
    """`kill -9` of the shipper loses nothing and needs no action."""
    outbox = Outbox(arrivals.destination, policy=FAST)
    outbox.append(event(1))
    assert outbox.flush(20) == 0
    os.kill(arrivals.all()[0]["pid"], signal.SIGKILL)
    outbox.append(event(2))
    assert outbox.flush(20) == 0
    assert numbers(arrivals.wait(2)) == [1, 2]
    outbox.close()


def test_a_hanging_shipper_is_replaced(arrivals: Any) -> None:
    """A send that never returns ends its process, and another one retries."""
    arrivals.fault("hang 3600")
    outbox = Outbox(arrivals.destination, policy=FAST._replace(watchdog=1.0))
    outbox.append(event(1))
    time.sleep(1.5)
    arrivals.fault("")
    assert outbox.flush(20) == 0
    assert numbers(arrivals.wait(1)) == [1]
    outbox.close()


def test_a_short_script_leaves_nothing_behind(arrivals: Any, home: Path) -> None:
    """The end of a process waits a moment, and prints nothing if all is delivered."""
    done = run(arrivals, SCRIPT, "10")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert numbers(arrivals.all()) == list(range(10))


def test_remaining_events_are_shipped_by_the_next_process(arrivals: Any, home: Path) -> None:
    """If the destination is down a script ends in time and reports waiting events; the next run ships them first."""
    arrivals.fault("down")
    done = run(arrivals, SCRIPT, "10")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("10 events wait for file at file://")
    assert lines[-1].endswith("or by `mlflow-connections outbox ship`.")
    assert len(lines) <= 2
    folder = folder_of(home)
    deadline = time.monotonic() + 20
    while is_locked(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_locked(folder)
    assert arrivals.all() == []
    arrivals.fault("")
    assert run(arrivals, SCRIPT, "3").stderr == ""
    assert numbers(arrivals.all()) == [*range(10), 0, 1, 2]


def test_a_shipper_with_a_wrong_token_is_replaced(arrivals: Any) -> None:
    """A process with accepted credentials delivers, including another one's events."""
    arrivals.fault("token right")
    one = Outbox(arrivals.destination, {"SINK_TOKEN": "wrong"}, FAST._replace(backoff=1.0))
    one.append(event(1))
    time.sleep(1.0)
    assert arrivals.all() == []
    other = Outbox(arrivals.destination, {"SINK_TOKEN": "right"}, FAST)
    other.append(event(2))
    arrived = arrivals.wait(2)
    assert numbers(arrived) == [1, 2]
    assert {each["token"] for each in arrived} == {"right"}
    one.close()
    other.close()


def test_a_thread_ships_if_no_process_can_be_started(
    arrivals: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that forbids processes still delivers."""
    monkeypatch.setattr(sys, "executable", str(arrivals.folder / "no python here"))
    outbox = Outbox(arrivals.destination, policy=FAST)
    outbox.append(event(1))
    assert arrivals.wait(1)[0]["pid"] == os.getpid()
    outbox.close()


def test_an_executable_other_than_python_is_not_restarted_for_ever(
    arrivals: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a program that embeds Python the shipper crashes at once; after three times a thread ships."""
    monkeypatch.setattr(sys, "executable", "/bin/true")
    outbox = Outbox(arrivals.destination, policy=FAST)
    outbox.append(event(1))
    assert outbox.flush(20) == 0
    assert arrivals.wait(1)[0]["pid"] == os.getpid()
    outbox.close()


def test_spawned_and_forked_processes_share_a_spool(arrivals: Any) -> None:
    """Children of either kind append to the same streams, and everything arrives in causal order."""
    script = """
import multiprocessing, sys
from mlflow_connections_outbox import Destination, Event, Outbox, Policy

POLICY = Policy(poll=0.01, linger=0.05, exit_timeout=10)

def child(url, outbox, first):
    outbox = outbox or Outbox(Destination("file", url, "a_file_sink:make"), policy=POLICY)
    for number in range(first, first + 100):
        outbox.append(Event("run", "metrics", number, {"n": number}))

def main():
    url = sys.argv[1]
    outbox = Outbox(Destination("file", url, "a_file_sink:make"), policy=POLICY)
    for turn in range(3):
        first = turn * 300
        child(url, outbox, first)
        for offset, method in ((100, "fork"), (200, "spawn")):
            inherited = outbox if method == "fork" else None
            context = multiprocessing.get_context(method)
            process = context.Process(target=child, args=(url, inherited, first + offset))
            process.start()
            process.join()
            assert process.exitcode == 0

if __name__ == "__main__":
    main()
"""
    path = arrivals.folder / "parent.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path), arrivals.destination.url],
        env={**os.environ, "PYTHONPATH": str(arrivals.folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers(arrivals.wait(900)) == list(range(900))


def test_a_process_that_forks_is_not_warned(arrivals: Any) -> None:
    """From Python 3.12 on a fork with threads warns, so an outbox keeps none."""
    script = (
        SCRIPT
        + """
outbox.flush(10)
if os.fork() == 0:
    os._exit(0)
os.wait()
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, arrivals.destination.url, "10"],
        env={**os.environ, "PYTHONPATH": str(arrivals.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_shipper_imports_little() -> None:
    """Neither MLflow nor an HTTP client is imported before a sink needs it."""
    script = (
        "import json, sys; import mlflow_connections_outbox._shipper;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert not {"mlflow", "requests", "http", "asyncio"} & set(json.loads(done.stdout))


def test_without_a_python_to_start_a_thread_ships(
    arrivals: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that embeds Python has no `sys.executable`, and still delivers."""
    monkeypatch.setattr(sys, "executable", None)
    outbox = Outbox(arrivals.destination, policy=FAST)
    outbox.append(event(1))
    assert outbox.flush(20) == 0
    assert arrivals.wait(1)[0]["pid"] == os.getpid()
    outbox.close()


FORKS = """
import os, sys, time
from mlflow_connections_outbox import Destination, Event, Outbox, Policy
POLICY = Policy(poll=0.01, linger=0.02, exit_timeout=0.0, idle=1.0, patience=0.3)
folder, moments = sys.argv[1], [float(word) for word in sys.argv[2:]]
reading, writing = os.pipe()
outboxes, workers = [], []
for number, moment in enumerate(moments):
    url = f"file://{folder}/got-{number}.jsonl"
    outbox = Outbox(Destination("file", url, "a_file_sink:make"), policy=POLICY)
    outbox.append(Event("run", "metrics", 0, {"n": 0}))
    begun = time.perf_counter()
    while time.perf_counter() < begun + moment:
        pass
    worker = os.fork()
    if worker == 0:
        os.close(writing)
        os.read(reading, 1)  # lives for as long as its parent
        os._exit(0)
    workers.append(worker)
    outbox.append(Event("run", "metrics", 1, {"n": 1}))
    outboxes.append(outbox)
left = [outbox.flush(30) for outbox in outboxes]
os.close(writing)
for worker in workers:
    assert os.waitpid(worker, 0)[1] == 0
print(left)
"""


def fork_while_starting(arrivals: Any, moments: list[float]) -> None:
    """Fork persistent workers, each at another moment after the first event of an outbox."""
    words = [str(arrivals.folder), *map(str, moments)]
    done = subprocess.run(
        [sys.executable, "-c", FORKS, *words],
        env={**os.environ, "PYTHONPATH": str(arrivals.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{[0] * len(moments)}\n"
    for number in range(len(moments)):
        lines = (arrivals.folder / f"got-{number}.jsonl").read_text().splitlines()
        assert [json.loads(line)["data"]["n"] for line in lines] == [0, 1]


def test_workers_forked_while_the_shipper_starts_block_nothing(arrivals: Any) -> None:
    """A DataLoader's persistent workers, forked after the first event, do not block delivery."""
    fork_while_starting(arrivals, [0.0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03])


@pytest.mark.slow
def test_workers_may_be_forked_at_every_moment_of_a_start(arrivals: Any) -> None:
    """The same holds at a hundred moments of the first fiftieth of a second, and later ones."""
    moments = [n * 0.0002 for n in range(100)] + [0.02 + n * 0.002 for n in range(20)]
    fork_while_starting(arrivals, moments)


def test_a_fork_waits_until_no_thread_opens_a_descriptor(arrivals: Any) -> None:
    """A child never has a copy of a lock or pipe that its outbox does not know."""
    import threading

    outbox = Outbox(arrivals.destination, policy=FAST)
    outbox.append(event(1))
    assert outbox.flush(20) == 0
    launcher = outbox._process.launcher
    assert launcher is not None
    forked: list[int] = []

    def fork() -> None:
        with warnings.catch_warnings():  # this test has a second thread
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            os._exit(0)
        forked.append(child)

    with launcher.guard:
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join(0.3)
        assert forked == []
    thread.join()
    assert os.waitpid(forked[0], 0)[1] == 0
    outbox.append(event(2))
    assert outbox.flush(20) == 0
    outbox.close()
