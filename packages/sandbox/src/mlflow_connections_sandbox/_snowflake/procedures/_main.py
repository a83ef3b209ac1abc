"""Run a procedure's handler in a separate process: `python main.py JOB`, or `python main.py --serve`.

With `--serve` the process imports Snowpark once and forks a process for each job whose file it
reads from standard input. Importing Snowpark takes over a second, forking takes milliseconds, and
no call sees a module or a variable of another one.

The file is copied out of the package, next to the guard; it must not import other modules of the
package.
"""

import atexit
import contextlib
import importlib
import io
import json
import os
import runpy
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import IO, Any

_COMMON = (
    *("numpy", "pandas", "pyarrow", "pydantic", "google.protobuf", "requests", "yaml", "jinja2"),
    *("sqlparse", "opentelemetry.sdk.trace", "fastapi", "flask", "dynaconf", "aiohttp"),
    *("azure.storage.blob", "cryptography.hazmat.primitives.serialization", "ruamel.yaml", "rich"),
    *("scipy.stats", "sklearn.linear_model", "joblib", "cachetools", "msrest", "databricks.sdk"),
)
"""The modules of other projects that MLflow, Kedro and their users' code import.

Each call imports MLflow and Kedro itself: MLflow searches for plugins on import, and must find
those in the procedure's IMPORTS.
"""


def main(job_file: Path) -> None:
    """Connect as the procedure, call the handler with the session, and write its return value."""
    job: dict[str, Any] = json.loads(job_file.read_text())
    answer: dict[str, Any]
    try:
        answer = {"value": _call(job)}
        json.dumps(answer)
    except BaseException as error:  # noqa: BLE001 - any error is passed to the caller
        # The frames of this file do not concern the handler.
        frames = traceback.extract_tb(error.__traceback__)[2:]
        shown = [*traceback.format_list(frames), *traceback.format_exception_only(error)]
        answer = {"error": "".join(shown)}
    Path(job["answer"]).write_text(json.dumps(answer))


def serve() -> Path | None:
    """Fork a process for each job, and report how it ended.

    Returns:
        In the forked process, the file of its job; None in the template itself, when it ends.
    """
    _simulate_procedure()
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return _serve(read, write)


def _serve(read: int, write: int) -> Path | None:
    import select

    running: dict[int, str] = {}
    pending = b""
    to_import = list(_COMMON)
    while True:
        # Jobs do not wait for all imports: they are done one by one while no job arrives.
        ready, _, _ = select.select([0, read], [], [], 0 if to_import else None)
        if not ready:
            with contextlib.suppress(Exception):
                importlib.import_module(to_import.pop(0))
        if read in ready:
            os.read(read, 4096)
            for pid in list(running):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    code = os.waitstatus_to_exitcode(status)
                    print(json.dumps([running.pop(pid), "ended", code]), flush=True)
        if 0 in ready:
            taken = os.read(0, 65536)
            if not taken:
                return None
            *lines, pending = (pending + taken).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    os.close(read)
                    os.close(write)
                    return _become(Path(os.fsdecode(line)))
                running[pid] = os.fsdecode(line)
                print(json.dumps([running[pid], "started", pid]), flush=True)


def _become(job_file: Path) -> Path:
    """Make the forked process equivalent to one that was started for this job."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    job: dict[str, Any] = json.loads(job_file.read_text())
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job_file.parent)
    tempfile.tempdir = None
    sys._xoptions["snowflake_import_directory"] = job["imports"]
    importlib.invalidate_caches()
    if "numpy" in sys.modules:
        # Otherwise every call would draw the same random numbers.
        sys.modules["numpy"].random.seed()
    runpy.run_path(str(job_file.parent / "sitecustomize.py"))
    return job_file


def _simulate_procedure() -> None:
    """Make Snowpark behave as inside a stored procedure.

    Snowpark's name for the platform of procedures is `XP`. There `session.file` sends no SQL but
    asks the connector for file operations, which Snowflake's server side provides.
    """
    import snowflake.connector.description

    vars(snowflake.connector.description)["PLATFORM"] = "XP"
    import snowflake.snowpark


class _FileOperations:
    """Provides the connector's file operations in a procedure; its own class supports only uploads."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def parse_file_operation(
        self,
        stage_location: str,
        local_file_name: str | None,
        target_directory: str | None,
        command_type: str,
        options: dict[str, Any] | None,
        has_source_from_stream: Any = False,
    ) -> dict[str, Any]:
        if options and "pattern" in options:
            raise ValueError("session.file.get takes no pattern in a stored procedure.")
        listed = " ".join(f"{k}={v}" for k, v in (options or {}).items())
        if command_type == "UPLOAD":
            if has_source_from_stream:
                stage_location, _, local_file_name = stage_location.rpartition("/")
            return self.ask(f"PUT {_local(local_file_name or '')} ? {listed}", stage_location)
        if target_directory is None:
            return self.ask("READ_STREAM ?", stage_location)
        Path(target_directory.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
        return self.ask(f"GET ? {_local(target_directory)} {listed}", stage_location)

    def ask(self, sql: str, bound: str) -> dict[str, Any]:
        """Send a marked file operation, and return the server's response."""
        with self._connection.cursor() as cursor:
            answer: dict[str, Any] = cursor._execute_helper(
                sql,
                binding_params={"1": {"type": "TEXT", "value": bound}},
                statement_params={"SANDBOX_FILE_OPERATION": True},
                is_internal=True,
            )
        if not answer["success"]:
            from snowflake.connector.errors import ProgrammingError

            raise ProgrammingError(
                msg=answer["message"],
                errno=int(answer["code"]),
                sqlstate=answer["data"]["sqlState"],
                sfqid=answer["data"]["queryId"],
            )
        return answer

    def download_as_stream(self, answer: dict[str, Any], decompress: bool = False) -> IO[bytes]:
        """Return the content of a file that was requested without a target directory."""
        import gzip

        content = Path(answer["data"]["path"]).read_bytes()
        return io.BytesIO(gzip.decompress(content) if decompress else content)


def _local(path: str) -> str:
    path = path.removeprefix("file://").replace("'", "\\'")
    return f"'file://{path}'"


def _call(job: dict[str, Any]) -> Any:
    _simulate_procedure()
    from snowflake.snowpark import Session

    sys.path[:0] = job["paths"]
    module, _, name = job["handler"].rpartition(".")
    session = Session.builder.configs(job["connection"]).create()
    connection: Any = session.connection
    try:
        operations = _FileOperations(connection)
        connection._file_operation_parser = connection._stream_downloader = operations
        _open_stage_files(operations)
        handler = getattr(importlib.import_module(module or "_handler"), name)
        return handler(session, *job["arguments"])
    finally:
        connection.close()


def _exit() -> None:
    """End this process as Python does, but without finalizing each module, which takes seconds."""
    threads: Any = threading
    exit_functions: Any = atexit
    threads._shutdown()
    exit_functions._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _open_stage_files(operations: _FileOperations) -> None:
    """Provide the server's side of SnowflakeFile: the files of internal and external stages."""
    from snowflake.snowpark.files import SnowflakeFile

    def read(
        _: type,
        file_location: str,
        mode: str = "r",
        is_owner_file: bool = False,
        *,
        require_scoped_url: bool = True,
    ) -> Any:
        if mode in {"r", "rb"} and file_location.startswith("@"):
            if require_scoped_url and not is_owner_file:
                raise ValueError(
                    f"SnowflakeFile.open takes a scoped URL, not '{file_location}', unless "
                    "require_scoped_url is False."
                )
            answer = operations.ask("READ_FILE ?", file_location)
            file_location = answer["data"]["path"]
        return opened(file_location, mode, is_owner_file, require_scoped_url=require_scoped_url)

    opened = SnowflakeFile.open
    vars_of: Any = SnowflakeFile
    vars_of.open = classmethod(read)


if __name__ == "__main__":
    job = serve() if sys.argv[1] == "--serve" else Path(sys.argv[1])
    if job is not None:
        main(job)
        _exit()
