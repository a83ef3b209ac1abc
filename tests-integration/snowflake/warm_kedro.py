"""Run `python -m …` and `python -c …` in forks of one process that has imported Kedro, which takes most of the time.

Each command has its own folder, variables, standard streams and exit code, as in a shell.
"""

import atexit
import importlib
import json
import os
import runpy
import sys
import threading
from pathlib import Path
from typing import Any

_IMPORTED = (
    *("kedro.framework.cli.cli", "kedro.framework.project", "kedro.framework.session"),
    *("pandas", "rich.live", "snowflake.snowpark"),
)


def main() -> None:
    """Fork for each command on standard input, and report how it ended."""
    # The output of an import must not be read as a response.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for module in _IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(job)
        _, status = os.waitpid(pid, 0)
        answers.write(json.dumps(os.waitstatus_to_exitcode(status)) + "\n")
        answers.flush()


def _run(job: dict[str, Any]) -> None:
    given = os.open(job["input"], os.O_RDONLY)
    shown = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for source, target in ((given, 0), (shown, 1), (shown, 2)):
        os.dup2(source, target)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.path[0] = job["folder"]
    option, what, *arguments = job["arguments"]
    sys.argv = [what if option == "-m" else option, *arguments]
    code = 0
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:  # noqa: BLE001 - shown as Python shows it
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    # As Python ends, but without finalizing each module.
    threads: Any = threading
    exit_functions: Any = atexit
    threads._shutdown()
    exit_functions._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    main()
