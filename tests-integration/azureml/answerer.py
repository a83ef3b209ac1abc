"""The process behind `Client`: it resolves one endpoint for each line of its input."""

import io
import json
import os
import sys
import time
from contextlib import redirect_stderr
from typing import Any


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Resolve once, with an empty cache of the discovery's response."""
    from pathlib import Path

    import mlflow_connections

    for name, value in question["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    Path("~/.azureml/.discovery").expanduser().unlink(missing_ok=True)
    started = time.monotonic()
    found: dict[str, Any]
    # A process whose logging nobody configured prints warnings to stderr.
    logged = io.StringIO()
    try:
        with redirect_stderr(logged):
            endpoint = mlflow_connections.resolve(
                "azureml", question["credentials"], question["options"]
            )
        found = {"uri": endpoint.tracking_uri, "environment": dict(endpoint.environment)}
    except Exception as error:  # noqa: BLE001 - the test decides
        chained = [str(e) for e in (error.__cause__, error.__context__) if e is not None]
        suppressed = error.__suppress_context__ and error.__cause__ is None
        found = {
            "error": type(error).__name__,
            "message": str(error),
            "shown": [] if suppressed else chained,
        }
    heavy = ("azure.identity", "azureml.core", "azureml.mlflow", "mlflow")
    return {
        **found,
        "logged": logged.getvalue(),
        "seconds": time.monotonic() - started,
        "imported": [name for name in heavy if name in sys.modules],
    }


if __name__ == "__main__":
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=replies, flush=True)
