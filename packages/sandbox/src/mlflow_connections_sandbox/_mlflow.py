"""Run `mlflow` with its server in this process: `python _mlflow.py server …`.

MLflow's command starts its web server (uvicorn, before 3.3 or by an option gunicorn) in a second process and then
waits, with all of MLflow imported: twice the start-up time, and 280 MB for nothing. The application
and its settings are the same. This file contains the sandbox's only private name of MLflow.
"""

import importlib.util
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn


def main() -> None:
    """Run MLflow's command line."""
    if importlib.util.find_spec("uvicorn") is not None:
        import uvicorn  # noqa: F401 - MLflow looks whether it is imported to know that it is a server
    from mlflow import cli, server

    has_uvicorn = hasattr(server, "_build_uvicorn_command") and importlib.util.find_spec("uvicorn")
    if not has_uvicorn or any(each.startswith("--gunicorn-opts") for each in sys.argv):
        # gunicorn serves this application, in a process that is forked from this one.
        server.app.after_request(_add_nonce)
    server._exec_cmd = _become  # type: ignore[assignment,attr-defined]
    cli.cli(prog_name="mlflow")


def _nonce() -> tuple[str, str]:
    return "X-Sandbox-Nonce", os.environ.get("SANDBOX_NONCE", "")


def _add_nonce(response: Any) -> Any:
    name, value = _nonce()
    response.headers[name] = value
    return response


def _become(command: Sequence[Any], extra_env: Mapping[str, str], **_: Any) -> NoReturn:
    """Run a server's command in this process: `python -m NAME …`, or a console script of that name."""
    os.environ.update(extra_env)
    words = [str(word) for word in command]
    name, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[0], words[1:])
    if name == "uvicorn":
        arguments += ["--header", ":".join(_nonce())]
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    raise SystemExit


if __name__ == "__main__":
    main()
