"""The Python that starts warm behaves like Python."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing starts warm")
SHOWN = "import os, sys; print(sys.argv, sys.path[0], sys.orig_argv[0], __name__, os.getcwd())"

POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor


class Mine:
    pass


def make(_):
    return Mine()


if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        print(isinstance(pool.submit(make, 1).result(), Mine))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", SHOWN, "one", "-two"),
        ("-m", "shown", "one"),
        ("folder/script.py", "one"),
        ("--version",),
        ("-I", "-c", SHOWN),
        ("-c", "import os; print(sorted(os.environ.items()))"),
        ("-c", "print(__import__('sys').stdin.read())"),
        ("-c", "raise SystemExit(7)"),
        ("-c", "raise SystemExit('a sentence')"),
        ("-c", "raise ValueError('a sentence')"),
        ("-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"),
        ("-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        ("-c", "import atexit; atexit.register(print, 'at exit')"),
        ("-c", "import threading; threading.Timer(0.2, print, ['later']).start()"),
        ("-c", "import sys; print('out'); print('err', file=sys.stderr); sys.stdout.close()"),
        ("-c", "import sys; print([n for n in sys.modules if n.startswith(('mlflow', 'kedro'))])"),
        ("-m", "no_such_module_here"),
        ("pool.py",),
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_a_command_behaves_as_with_python(
    arguments: tuple[str, ...], tmp_path: Path, warm_python: str
) -> None:
    """Arguments, variables, folder, streams and exit code are the command's own, whichever Python runs it."""
    (tmp_path / "folder").mkdir()
    for name in ("folder/script.py", "shown.py"):
        (tmp_path / name).write_text(SHOWN)
    (tmp_path / "pool.py").write_text(POOL)
    ended = [
        subprocess.run(
            [python, *arguments],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "A": "é"},
            input="from the\nstandard input",
            capture_output=True,
            text=True,
            check=False,
        )
        for python in (sys.executable, warm_python)
    ]
    # An error may name the interpreter.
    cold, warm = [
        (each.returncode, each.stdout, each.stderr.replace(warm_python, sys.executable))
        for each in ended
    ]
    assert warm == cold


def test_commands_share_nothing(warm_python: str) -> None:
    """A command does not see the previous command's state."""
    leave = "import os, sys; sys.left = os.environ['LEFT'] = 'x'"
    subprocess.run([warm_python, "-c", leave], check=True)
    look = "import os, sys; assert not hasattr(sys, 'left') and 'LEFT' not in os.environ"
    subprocess.run([warm_python, "-c", look], check=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_the_command(number: int, warm_python: str) -> None:
    """A signal to the started process ends the command, as with Python."""
    waits = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen(
        [warm_python, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait() == -number
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.05)


def test_a_process_that_a_command_starts_is_warm(warm_python: str) -> None:
    """A command finds the warm interpreter where it would find its own."""
    starts = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    )
    look = "import sys; print(sys.executable, 'alembic.migration' in sys.modules)"
    ran = subprocess.run(
        [warm_python, "-c", starts, look], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [warm_python, "True"]


def test_a_console_script_runs_by_its_name(warm_bin: Path) -> None:
    """The environment's own script is run."""
    cold, warm = (
        subprocess.run(
            [str(folder / "mlflow-connections"), "list"], capture_output=True, text=True, check=True
        ).stdout
        for folder in (Path(sys.executable).parent, warm_bin)
    )
    assert warm == cold
