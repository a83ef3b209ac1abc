"""The cost of a tracking URI in a new process: `sdk: arm` compared with `sdk: v1`.

Each round starts one new process for each, with the credentials of a service principal and a home
folder without any cache, against the sandbox's Azure. Both include Python's own start.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from _ratio import Row, table

from mlflow_connections_sandbox._azure import Azure

ROUNDS = 5

_CLIENT = """
import json, pathlib, re, resource, sys
import mlflow_connections
mlflow_connections.resolve("azureml", options={"sdk": sys.argv[1]})
used = resource.getrusage(resource.RUSAGE_SELF)
status = pathlib.Path("/proc/self/status")
if status.exists():
    # On Linux ru_maxrss also counts the process that this one was forked from.
    memory = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) / 2**10
else:
    memory = used.ru_maxrss / 2**20
print(json.dumps([used.ru_utime + used.ru_stime, memory]))
"""


class Cost(NamedTuple):
    """The cost of resolving once.

    Attributes:
        cpu: CPU seconds of the process.
        memory: Its peak of resident memory, in MB.
        requests: All requests.
        arm: Requests to Azure Resource Manager.
    """

    cpu: float
    memory: float
    requests: int
    arm: int


def resolve(azure: Azure, environment: Mapping[str, str], sdk: str) -> Cost:
    """Resolve once in a separate process."""
    azure.journal.clear()
    with TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-c", _CLIENT, sdk],
            env={**environment, "HOME": home},
            check=True,
            capture_output=True,
            text=True,
        )
    cpu, memory = json.loads(done.stdout)
    received = azure.journal.requests()
    to_arm = [r for r in received if r.path.startswith("/subscriptions")]
    return Cost(cpu, memory, len(received), len(to_arm))


def measure() -> list[Row]:
    """Measure both alternately."""
    costs: dict[str, list[Cost]] = {"v1": [], "arm": []}
    with TemporaryDirectory() as folder:
        # Resolving sends nothing to the MLflow server, so no server runs.
        azure = Azure("http://127.0.0.1:9", Path(folder))
        azure.start()
        try:
            environment = {**os.environ, **azure.environment(), "MLFLOW_DISABLE_TELEMETRY": "true"}
            for _ in range(ROUNDS):
                for sdk, found in costs.items():
                    found.append(resolve(azure, environment, sdk))
        finally:
            azure.close()
    v1, arm = (
        Cost(*(statistics.median(values) for values in zip(*costs[sdk], strict=True)))
        for sdk in ("v1", "arm")
    )
    return [
        Row(
            "azureml, cold process to URI: CPU, v1 | arm",
            *(v1.cpu, arm.cpu, "s"),
            aim="4 times less",
            met=arm.cpu * 4 <= v1.cpu,
        ),
        Row(
            "azureml, peak memory, v1 | arm",
            *(v1.memory, arm.memory, "MB"),
            aim="half",
            met=arm.memory * 2 <= v1.memory,
        ),
        Row("azureml, all requests, v1 | arm", v1.requests, arm.requests, "requests"),
        Row(
            "azureml, requests to ARM, v1 | arm",
            *(v1.arm, arm.arm, "requests"),
            aim="one",
            met=arm.arm == 1,
        ),
    ]


def main() -> None:
    """Measure and print."""
    print(table(measure()))


if __name__ == "__main__":
    main()
