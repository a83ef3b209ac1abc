"""A Python that starts warm, for tests of commands: `serving` starts a server, and its `run` is like `subprocess.run`.

Imports take most of the time of a command, above all of one that logs to MLflow. The server has imported
the dependencies of commands and runs each command in a fork of itself, with the command's own arguments,
variables, folder, standard streams and exit code. Each command imports MLflow, Kedro, their plugins and
what builds on them itself, because their behaviour on import, such as reading variables, is under test.
Groups that run dozens of `kedro` commands preload Kedro, and use new interpreters where its start matters.

`run_pytest` is pytest in the very process that has imported them: the server is a fork of it, and so are the
servers that a group starts for further imports.

The server's folder `bin` has commands that replace `python` and the console scripts of this environment.
They leave whatever they do not support, such as an option of Python, to the real ones. In a command,
`sys.executable` is that `python`, so that the processes which it starts itself start warm, too. Linux only: it
uses a descriptor of a process. Elsewhere commands start as always.
"""

import atexit
import builtins
import contextlib
import gc
import importlib
import marshal
import multiprocessing.process
import multiprocessing.spawn
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

CONSOLE_SCRIPTS = (
    *("dbnd", "kedro", "mlflow"),
    *("mlflow-connections", "mlflow-databand", "mlflow-snowflake"),
)
# The dependencies of MLflow, Kedro and their plugins. None of them reads a variable or a file on
# behalf of a command.
OF_MLFLOW = (
    *("alembic.migration", "azure.identity", "azure.storage.blob", "databricks.sdk", "dynaconf"),
    *(
        "fastapi",
        "msrest",
        "multiprocessing.managers",
        "omegaconf",
        "opentelemetry.sdk.trace.export",
    ),
    *(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
        "pandas",
        "pyarrow.fs",
        "requests",
    ),
    *("rich.traceback", "scipy.sparse", "sqlalchemy.dialects.sqlite", "sqlalchemy.ext.mutable"),
    "sqlparse",
)

# It starts in 20 ms, since it imports no module that is written in Python.
COMMAND = """#!{interpreter} -ISE
import _signal, _socket, marshal, posix, sys
name = sys.argv[0].rpartition("/")[2]
arguments = sys.argv[1:]
if name.startswith("python") and (
    not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-c", "-m"))
):
    posix.execv({python!r}, [{python!r}, *arguments])
job = marshal.dumps((name, arguments, dict(posix.environ), posix.getcwd()))
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
server.connect({address!r})
streams = b"".join(n.to_bytes(4, sys.byteorder) for n in (0, 1, 2))
server.sendmsg([len(job).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
server.sendall(job)
pid, _, code = server.recv(20).partition(b"\\n")
for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
    _signal.signal(number, lambda number, frame: posix.kill(int(pid), number))
code = int(code or server.recv(20) or b"1")
if code < 0:
    if -code != _signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    posix.kill(posix.getpid(), -code)
posix._exit(code)
"""


# Not as a script, because `__main__` belongs to the command.
_SERVE = "import sys, warm_python; warm_python.main(*sys.argv[1:])"
_PYTHON = sys.executable
# The folder of the server that `run_pytest` has started.
_first: Path | None = None
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR")


class WarmPython:
    """A running server of commands."""

    def __init__(self, folder: Path | None) -> None:
        """Store the server's address; without a folder commands start as usual."""
        self._address = str(folder / "socket") if folder else ""
        self.bin = folder / "bin" if folder else Path(sys.executable).parent
        """The folder with `python` and console scripts."""

    def run(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        input: str = "",  # noqa: A002 - as subprocess.run calls it
    ) -> "subprocess.CompletedProcess[str]":
        """Run Python with arguments: `-c CODE`, `-m MODULE` or a file, and the remaining ones.

        Args:
            arguments: The arguments without the interpreter.
            env: All environment variables of the command. Of those that the interpreter itself
                reads, only `PYTHONPATH` has an effect.
            cwd: Its folder, by default that of this process.
            input: Its standard input.

        Returns:
            The exit code and both outputs, as text.
        """
        if not self._address:
            command = [sys.executable, *arguments]
            return subprocess.run(
                command, env=env, cwd=cwd, input=input, capture_output=True, text=True, check=False
            )
        job = marshal.dumps(
            (
                "python",
                list(arguments),
                {os.fsencode(name): os.fsencode(value) for name, value in env.items()},
                str(cwd or Path.cwd()),
            )
        )
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            streams[0].write(input)
            streams[0].seek(0)
            server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            server.connect(self._address)
            head = len(job).to_bytes(8, "big")
            socket.send_fds(server, [head], [stream.fileno() for stream in streams])
            server.sendall(job)
            answer = server.makefile("rb")
            # The process's number, and finally the exit code.
            _, code = answer.readline(), answer.readline()
            for stream in streams:
                stream.seek(0)
            out, err = (stream.read() for stream in streams[1:])
        return subprocess.CompletedProcess(arguments, int(code), out, err)


@contextlib.contextmanager
def serving(*preloaded: str, **variables: str) -> Iterator[WarmPython]:
    """Start a server, and end it.

    Args:
        preloaded: The modules that it imports; a missing module is skipped.
        variables: Environment variables that these modules read on import.
    """
    if sys.platform != "linux":
        yield WarmPython(None)
        return
    # A fork of the first server, if there is one, has imported most.
    if _first and preloaded == OF_MLFLOW and not variables:
        yield WarmPython(_first)
        return
    python = str(_first / "bin" / "python") if _first else _PYTHON
    # Not below pytest's folder: a socket's address must be short.
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        process = subprocess.Popen(
            [python, "-c", _SERVE, folder, *preloaded],
            cwd=Path(__file__).parent,
            env={
                **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                "HOME": folder,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "DO_NOT_TRACK": "1",
                **variables,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield WarmPython(Path(folder))
        process.stdin.close()
        process.wait()
        process.stdout.close()


def run_pytest() -> int:
    """Import what MLflow imports, start a server as a fork of this process, and run pytest in it.

    Returns:
        The exit code of pytest, whose arguments are those of this process.
    """
    global _first  # noqa: PLW0603 - one server per process
    del sys.path[0]
    if sys.platform != "linux":
        return pytest_main()
    preload(OF_MLFLOW)
    # No TemporaryDirectory, which each fork would remove at its end.
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    listener = listen(folder)
    reading, writing = os.pipe()
    server = os.fork()
    if server == 0:
        os.close(writing)
        os.dup2(reading, 0)
        try:
            serve(listener, folder)
        finally:
            os._exit(0)
    os.close(reading)
    listener.close()
    _first = folder
    try:
        return pytest_main()
    finally:
        # Closing the pipe is not enough: a fork of this process may hold it open.
        os.kill(server, signal.SIGTERM)
        os.waitpid(server, 0)
        os.close(writing)
        shutil.rmtree(folder)


def pytest_main() -> int:
    """Run pytest as its console script does."""
    # After the fork: no command has it.
    import pytest

    return int(pytest.console_main())


def main(folder: str, *preloaded: str) -> None:
    """Write the commands below a folder, import, and serve until standard input ends."""
    del sys.path[0]
    # Kedro logs to standard output while it is imported.
    announcement = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    listener = listen(Path(folder))
    preload(preloaded)
    print("ready", file=announcement, flush=True)
    serve(listener, Path(folder))


def listen(folder: Path) -> socket.socket:
    """Write the commands below a folder, and return the socket to which they connect."""
    address = str(folder / "socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(64)
    write_commands(folder / "bin", address)
    return listener


def preload(names: Sequence[str]) -> None:
    """Import modules, so that forks of this process have them."""
    for name in names:
        # Some groups of tests do not have it, or not in an importable version.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def serve(listener: socket.socket, folder: Path) -> None:
    """Run the commands that connect, each in a fork, until standard input ends."""
    # The processes that a command starts with its own interpreter start warm, too. Those of
    # multiprocessing do not: they inherit further descriptors.
    multiprocessing.spawn.set_executable(_PYTHON)
    sys.executable = str(folder / "bin" / "python")
    # The commands that run, by the descriptor of the process.
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        connections = [connection for _, connection in running.values()]
        ready, _, _ = select.select([listener, sys.stdin, *running, *connections], [], [])
        if sys.stdin in ready:
            return
        for process, (pid, connection) in list(running.items()):
            if process in ready:
                _, status = os.waitpid(pid, 0)
                with contextlib.suppress(OSError):
                    connection.send(b"%d\n" % os.waitstatus_to_exitcode(status))
                connection.close()
                os.close(process)
                del running[process]
            elif connection in ready:
                # The command's wrapper was killed.
                signal.pidfd_send_signal(process, signal.SIGKILL)
        if listener in ready:
            connection, _ = listener.accept()
            process, pid = start(connection, [listener, *connections])
            running[process] = pid, connection


def write_commands(folder: Path, address: str) -> None:
    """Write an executable for each command."""
    # Through a short path without spaces, as the first line of an executable requires.
    interpreter = folder.with_name("interpreter")
    interpreter.symlink_to(_PYTHON)
    text = COMMAND.format(interpreter=interpreter, python=_PYTHON, address=address)
    folder.mkdir()
    for name in ("python", "python3", *CONSOLE_SCRIPTS):
        if Path(_PYTHON).with_name(name).exists():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)


def start(connection: socket.socket, others: list[socket.socket]) -> tuple[int, int]:
    """Read a command, and run it in a fork.

    Args:
        connection: The connection of the command's wrapper.
        others: Sockets that the command must not keep open.

    Returns:
        A descriptor of the process, and its number.
    """
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    job = connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
    pid = os.fork()
    if pid == 0:
        for each in (connection, *others):
            each.close()
        name, arguments, environment, folder = marshal.loads(job)
        run(name, arguments, environment, folder, streams)
    for number in streams:
        os.close(number)
    with contextlib.suppress(OSError):
        connection.send(b"%d\n" % pid)
    return os.pidfd_open(pid), pid


def run(
    name: str,
    arguments: list[str],
    environment: dict[bytes, bytes],
    folder: str,
    streams: list[int],
) -> NoReturn:
    """Execute a command, and end as it does."""
    os.chdir(folder)
    processes: Any = multiprocessing.process
    processes.ORIGINAL_DIR = folder
    os.environb.clear()
    os.environb.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    time.tzset()
    random.seed()
    sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.orig_argv = [_PYTHON, *arguments]
    code: Any = 0
    try:
        execute(name, arguments)
    except SystemExit as end:
        code = end.code
    except BaseException as error:  # noqa: BLE001 - as the interpreter does at its top
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename in {__file__, runpy.__file__}:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        code = 1
        if isinstance(error, KeyboardInterrupt):
            code = -signal.SIGINT
    finish(code)


def execute(name: str, arguments: list[str]) -> None:
    """Do what Python does with these arguments: `-c CODE`, `-m MODULE` or a file, and the remaining ones."""
    if not name.startswith("python"):
        arguments = [str(Path(_PYTHON).with_name(name)), *arguments]
    # The same module, not another one of that name: C's pickle requires it.
    main = sys.modules["__main__"]
    vars(main).clear()
    vars(main).update(__name__="__main__", __builtins__=builtins, __spec__=None, __doc__=None)
    option, *rest = arguments
    if option == "-m":
        sys.path[0] = str(Path.cwd())
        sys.argv = rest
        modules: Any = runpy
        modules._run_module_as_main(rest[0])
    elif option == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    else:
        sys.path[0] = str(Path(option).resolve().parent)
        sys.argv = arguments
        main.__file__ = option
        exec(compile(Path(option).read_bytes(), option, "exec"), vars(main))


def finish(code: Any) -> NoReturn:
    """End as Python ends, but without finalizing each module."""
    threads: Any = threading
    exit_functions: Any = atexit
    if isinstance(code, str):
        print(code, file=sys.stderr)
    try:
        threads._shutdown()
        exit_functions._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
    except BaseException as error:  # noqa: BLE001 - as Python shows it
        sys.excepthook(type(error), error, error.__traceback__)
        code = 120
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF if isinstance(code, int) else int(code is not None))
