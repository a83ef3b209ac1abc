"""Runs a procedure's handler in a process of its own: `python main.py JOB`. Copied, like the guard."""

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any


def main(job_file: Path) -> None:
    """Connect as the procedure, call the handler with the session first, and write what it returned."""
    job: dict[str, Any] = json.loads(job_file.read_text())
    answer: dict[str, Any]
    try:
        answer = {"value": _call(job)}
        json.dumps(answer)
    except BaseException as error:  # noqa: BLE001 - whatever ends the handler is the caller's to know
        # The frames of this file would tell nobody anything.
        frames = traceback.extract_tb(error.__traceback__)[2:]
        shown = [*traceback.format_list(frames), *traceback.format_exception_only(error)]
        answer = {"error": "".join(shown)}
    Path(job["answer"]).write_text(json.dumps(answer))


def _call(job: dict[str, Any]) -> Any:
    from snowflake.snowpark import Session

    sys.path[:0] = job["paths"]
    module, _, name = job["handler"].rpartition(".")
    handler = getattr(importlib.import_module(module or "_handler"), name)
    session = Session.builder.configs(job["connection"]).create()
    try:
        return handler(session, *job["arguments"])
    finally:
        session.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
