"""A Python that starts warm: `main` serves commands until its standard input ends.

Importing MLflow's dependencies takes most of the time of a command that logs to it. This process
has imported those packages and runs each command in a fork of itself, with the command's own
arguments, variables, folder, standard streams and exit code. Each command imports MLflow, Kedro,
their plugins and this repository's packages itself, because their behaviour on import, such as
reading variables, is under test.

The folder `bin` has commands that replace `python` and the console scripts of this environment.
They leave whatever they do not support, such as an option of Python, to the real ones. Linux only:
it uses a descriptor of a process.
"""

import atexit
import builtins
import contextlib
import gc
import importlib
import marshal
import multiprocessing.process
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

CONSOLE_SCRIPTS = (
    *("dbnd", "kedro", "mlflow"),
    *("mlflow-connections", "mlflow-databand", "mlflow-snowflake"),
)
# The dependencies of MLflow, Kedro and their plugins. None of them reads a variable or a file on
# behalf of a command.
PRELOADED = (
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
pid = int(server.recv(20))
for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
    _signal.signal(number, lambda number, frame: posix.kill(pid, number))
code = int(server.recv(20) or b"1")
if code < 0:
    if -code != _signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    posix.kill(posix.getpid(), -code)
posix._exit(code)
"""


def main(folder: Path) -> None:
    """Write the commands below a folder, import, and serve."""
    del sys.path[0]
    address = str(folder / "socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(64)
    write_commands(folder / "bin", address)
    for name in PRELOADED:
        # Some groups of tests do not have it, or not in an importable version.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            watch(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def write_commands(folder: Path, address: str) -> None:
    """Write an executable for each command."""
    # Through a short path without spaces, as the first line of an executable requires.
    interpreter = folder.with_name("interpreter")
    interpreter.symlink_to(sys.executable)
    text = COMMAND.format(interpreter=interpreter, python=sys.executable, address=address)
    folder.mkdir()
    for name in ("python", "python3", *CONSOLE_SCRIPTS):
        if Path(sys.executable).with_name(name).exists():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)


def watch(connection: socket.socket) -> NoReturn:
    """Run a command in a fork and report how it ended; kill it if its wrapper is killed."""
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    job = connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
    pid = os.fork()
    if pid == 0:
        connection.close()
        name, arguments, environment, folder = marshal.loads(job)
        run(name, arguments, environment, folder, streams)
    for number in streams:
        os.close(number)
    connection.send(b"%d" % pid)
    process = os.pidfd_open(pid)
    ready, _, _ = select.select([process, connection.fileno()], [], [])
    if process not in ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        connection.send(b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


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
    sys.orig_argv = [sys.executable, *arguments]
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
        arguments = [str(Path(sys.executable).with_name(name)), *arguments]
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
