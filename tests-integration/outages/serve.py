"""Serve one stand-in and the MLflow server behind it, with the data of a folder, until this process is killed.

The addresses, the variables of a client and the process group of the MLflow server are printed as one
line of JSON.
"""

import json
import sys
import threading
from pathlib import Path

from mlflow_connections_sandbox import Sandbox
from mlflow_connections_sandbox._azure import Azure


def main(name: str, folder: str) -> None:
    """Serve the stand-in, or for `plain` the MLflow server alone."""
    names = [] if name == "plain" else [name]
    with Sandbox(Path(folder), names) as sandbox:
        for each in names:
            stand_in = sandbox[each]
            if isinstance(stand_in, Azure):
                stand_in.account.has_logged_models = True
        environment = dict(sandbox.environment(name)) if names else {}
        process = sandbox.server._process
        assert process is not None
        printed = {
            "mlflow_url": sandbox.mlflow_url,
            "environment": environment,
            "group": process.pid,
        }
        print(json.dumps(printed), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
