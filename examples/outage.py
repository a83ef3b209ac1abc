"""The outage for `durable`: a real MLflow server is killed in the middle of a run, and started again."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from mlflow_connections_events.testing import describe, differences
from mlflow_connections_sandbox import MlflowServer

if TYPE_CHECKING:
    from typing_extensions import Self

NAME = "durable"
"""The keyword, and the environment of the Kedro project."""
NODE_BEFORE = "Completed node: split"
"""The run's output line after which logging to MLflow begins: the next node logs."""
NEVER_EQUAL = ("models/*/files/model.skops",)
"""Files that differ in each run: skops names its members by addresses in memory."""

_WAITS = 180
"""Seconds that the run may wait for the server at its end; it ends as soon as everything is delivered."""
_GONE, _BACK = "does not", "has everything again"
_TOLD = re.compile(
    rf"WARNING +(The MLflow server at \S+ (?:{_GONE}|{_BACK}).*?)(?: +\S+\.py:\d+)?$"
)


class Outage:
    """A separate server, which is started in parallel with other work and killed once.

    Args:
        folder: Holds the server's data and the outbox.
        port: The server's port, which it reuses.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.server = MlflowServer(folder / "mlflow", port)
        self._outbox = folder / "outbox"
        self._error: Exception | None = None
        self._killing = threading.Thread(target=self._kill_when_begun, daemon=True)
        self._is_killed = threading.Event()
        self._is_told = False
        self._comes_back = False
        self._starting = threading.Thread(target=self._start)

    def __enter__(self) -> "Self":
        self._starting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._starting.join()
        self.server.close()

    def environment(self) -> Mapping[str, str]:
        """Return the variables of the run, once the server is up."""
        self.wait()
        return {
            "MLFLOW_CONNECTIONS_DURABLE_SERVER": self.server.url,
            "MLFLOW_CONNECTIONS_OUTBOX_DIR": str(self._outbox),
            "MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT": str(_WAITS),
        }

    def follow(self, line: str) -> Iterator[str]:
        """Kill the server and start it again as the run proceeds, and yield each event.

        Args:
            line: The next line that the run prints.
        """
        if NODE_BEFORE in line:
            self._killing.start()
        if self._is_killed.is_set() and not self._is_told:
            self._is_told = True
            yield "the server is killed"
        if told := _TOLD.search(line):
            yield told[1]
        if told and _GONE in told[1] and not self._comes_back:
            self._comes_back = True
            self._starting = threading.Thread(target=self._start)
            self._starting.start()
            yield "the server is started again"

    def differences(self, plain: str, of_plain: str, of_run: str) -> list[str]:
        """Compare the whole run with the same run without a server, entity by entity.

        Args:
            plain: The tracking URI of the other run.
            of_plain: Its experiment.
            of_run: This run's experiment.

        Returns:
            A line for each difference.
        """
        self.wait()
        # Times and generated names differ in each run.
        plain_run = describe(plain, experiments={of_plain: "wine"}, exact=False)
        run = describe(self.server.url, experiments={of_run: "wine"}, exact=False)
        return differences(plain_run, run, ignore=NEVER_EQUAL)

    def wait(self) -> None:
        """Wait until the server is up.

        Raises:
            RuntimeError: It did not start.
        """
        self._starting.join()
        if self._error is not None:
            raise self._error

    def _kill_when_begun(self) -> None:
        """Kill the server as soon as it has a run, which still has most of its work to do."""
        client = MlflowClient(self.server.url)
        ids = [each.experiment_id for each in client.search_experiments()]
        while not client.search_runs(ids):
            time.sleep(0.05)
            ids = [each.experiment_id for each in client.search_experiments()]
        self.server.kill()
        self._is_killed.set()

    def _start(self) -> None:
        try:
            self.server.start()
        except RuntimeError as error:
            self._error = error
