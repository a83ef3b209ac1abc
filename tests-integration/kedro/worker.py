"""A process that has imported Kedro and MLflow, and runs each command in a fork of itself.

Importing both takes most of the time of a `kedro` command. A fork starts from the state right after
the imports, so commands do not see each other. Jobs are lines of JSON on standard input, with the
arguments for a `python` command; results are lines of JSON on standard output.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

PRELOADED = (
    "kedro.framework.cli.cli",
    "kedro.framework.cli.project",
    "kedro.framework.session",
    "kedro.runner",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.tracking.fluent",
)


def main() -> None:
    """Import, then run jobs until standard input ends."""
    # Kedro logs to standard output while it is imported: keep that out of the results.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in PRELOADED:
        importlib.import_module(name)
    for group in ("kedro.hooks", "kedro.global_commands", "kedro.project_commands"):
        for entry in entry_points(group=group):
            entry.load()
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), file=results, flush=True)


def run(job: dict[str, Any]) -> None:
    """Execute a job's command, and end as it does."""
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environ"])
    for number, name in ((0, os.devnull), (1, job["stdout"]), (2, job["stderr"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags), number)
    sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    code: Any = 1
    try:
        execute(job["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as the interpreter does at its top
        traceback.print_exc()
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def execute(arguments: list[str]) -> None:
    """Do what `python` does with these arguments: `-c CODE` or `-m MODULE`, and the remaining ones."""
    option, what, *rest = arguments
    if option == "-c":
        sys.argv = ["-c", *rest]
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    elif what == "kedro":
        sys.argv = [str(Path(sys.executable).with_name("kedro")), *rest]
        importlib.import_module("kedro.framework.cli.cli").main()
    else:
        sys.argv = [what, *rest]
        runpy.run_module(what, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
