"""The state of one server in this process, shared by its stores: outbox, IDs, patience, local state."""

import json
import os
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow_connections.authentication import lasting_variables
from mlflow_connections.mlflow_state import SERVER_VARIABLES
from mlflow_connections.secrets import get_logger, looks_secret, mask_uri
from mlflow_connections_events import inner_of, is_composite
from mlflow_connections_events.ids import IdMap
from mlflow_connections_outbox import Destination, Event, Outbox, Policy

from ._connection import SERVER_VARIABLE, VARIABLE
from ._experiment_ids import is_provisional_experiment
from ._kept_files import KeptFiles
from ._local import LocalFiles, LocalRun
from ._patience import Patience
from ._records import EXPERIMENTS, MODELS, RUNS, Records
from ._uri import DurableUri
from .sink import DESCRIPTION, TARGET_VARIABLE

logger = get_logger("mlflow_connections_durable")

SINK = "mlflow_connections_durable.sink:open_sink"
"""The function that opens the sink; spools name it."""
BATCH = 1_000
"""The number of events in one delivery: as many as MLflow accepts metrics in one request."""
FLUSH_SECONDS = 20.0
"""The longest wait of a read, in seconds, for a responding server to receive earlier writes."""
MAX_SMALL_BYTES = 32 << 20
"""The bytes of small files that are kept in memory for reads; beyond it the server is read."""
_BACK_SECONDS = 3600.0
"""The longest wait, in seconds, for a server that responds again to have everything, before a message."""
RUN_END_SECONDS = 2.0
"""The longest wait for delivery at the end of an outermost run, in seconds."""

_PREFIXES = ("MLFLOW_", "DATABRICKS_", "ARM_", "AWS_", "AZURE_", "AZUREML_", "GOOGLE_")


class DurableServer:
    """One server, or none for `offline`.

    Args:
        uri: The durable URI.

    Attributes:
        lock: Held while local state changes; events are appended under it, so that both agree.
        runs: The runs that this process knows.
        models: The logged models that it created or fetched, as MLflow's entities.
        experiments: The experiments that it knows, as MLflow's entities.
        versions: The registered versions that wait for registration, by model and number.
        registered: The registered models that wait for registration.
        aliases: The versions that this process named by an alias, by model and alias.
        sends_directly: Whether artifacts go to the server at once, because no copies can be kept.
    """

    def __init__(self, uri: DurableUri) -> None:
        self.uri = uri
        self.target = uri.server
        self.is_offline = uri.is_offline
        self.patience = Patience(uri.server)
        # Reentrant: a signal handler may log while it interrupts a call.
        self.lock = threading.RLock()
        self.runs: dict[str, LocalRun] = {}
        self.files: dict[str, LocalFiles] = {}
        self._small_bytes = 0
        self.models: dict[str, Any] = {}
        self.experiments: dict[str, Any] = {}
        self.versions: dict[tuple[str, str], Any] = {}
        self.registered: dict[str, Any] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.provisional_models: set[str] = set()
        self.untold: dict[str, LocalRun] = {}
        self.asking: Any = None
        self._is_away = self._owes_back = False
        self._told_lost: set[str] = set()
        self._has_spool = True
        self.sends_directly = False

    @cached_property
    def outbox(self) -> Outbox:
        """The outbox of this process for the server."""
        policy = Policy.read()[0]._replace(batch=BATCH)
        if self.is_offline:
            policy = policy._replace(shipper="none")
        destination = Destination("durable", address(self.target), SINK)
        outbox = Outbox(destination, secrets_of(self.target), policy, self._note_outage)
        self._describe(outbox)
        return outbox

    @cached_property
    def state(self) -> Path:
        """The state folder of the spool; that of events in memory if the disk takes none."""
        try:
            return self.outbox.state
        except OSError:
            self._has_spool = False
            return self.outbox.memory_state

    @cached_property
    def ids(self) -> IdMap:
        """The map of provisional IDs, which the shipper writes."""
        return IdMap(self.state)

    @cached_property
    def kept(self) -> KeptFiles:
        """The kept files of the spool."""
        state, syncs = self.state, Policy.read()[0].sync_events
        return KeptFiles(state, takes=self._has_spool, sync=syncs)

    @cached_property
    def run_records(self) -> Records:
        """The runs that this machine created."""
        return Records(self.state / RUNS)

    @cached_property
    def experiment_records(self) -> Records:
        """The experiments that this machine has used."""
        return Records(self.state / EXPERIMENTS)

    @cached_property
    def model_records(self) -> Records:
        """The logged models that this machine created."""
        return Records(self.state / MODELS)

    def probe(self) -> object:
        """Ask the server for next to nothing, to know whether it responds."""
        return None if self.asking is None else self.asking.search_experiments(max_results=1)

    def catch_up(self, seconds: float) -> int:
        """Wait until the server has what this process wrote, as long as it responds.

        Args:
            seconds: The longest wait for a server that responds.

        Returns:
            How many events of this process still wait.

        Raises:
            Away: It does not respond.
        """
        if self.outbox.is_delivered:
            return 0
        return self.patience.wait(lambda: self.outbox.flush(seconds), self.probe, proves=False)

    def emit(self, stream: str, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event."""
        self.outbox.append(Event(stream, kind, time.time_ns() // 1_000_000, data))

    def real(self, known: str) -> str | None:
        """Return the server's ID for the ID of a run or model, or None while it has none."""
        run = self.runs.get(known)
        provisional = known in self.provisional_models or (run is not None and run.is_provisional)
        if found := self.ids.get(known):
            return found
        if provisional or self.run_records.get(known) or self.model_records.get(known):
            self.ids.refresh()
            if found := self.ids.get(known):
                return found
            record = self.run_records.get(known) or self.model_records.get(known) or {}
            return None if provisional or record.get("provisional") else known
        return known

    def real_experiment(self, known: str) -> str | None:
        """Return the server's ID of an experiment, or None while it has none."""
        key = f"experiment {known}"
        if not is_provisional_experiment(known):
            # The server may have lost it, and have it again under another ID.
            return self.ids.get(key) or known
        if self.ids.get(key) is None:
            self.ids.refresh()
        return self.ids.get(key)

    def files_of(self, root: str) -> LocalFiles:
        """Return the files logged below the root of a run or a model."""
        root = root.rstrip("/")
        known = self.files.get(root)
        if known is not None:
            return known
        with self.lock:
            return self.files.setdefault(root, LocalFiles())

    def has_room_for_small(self, size: int) -> bool:
        """Return whether the content of a small file may be kept in memory, and count it if so.

        Earlier ones are dropped if the server has them. The caller holds `lock`.
        """
        if self._small_bytes + size > MAX_SMALL_BYTES:
            if not self.outbox.is_delivered:
                return False
            for files in self.files.values():
                files.forget_contents()
            self._small_bytes = 0
        self._small_bytes += size
        return True

    def know_experiment(self, experiment: Any) -> None:
        """Remember an experiment, for this process and the next ones."""
        known = str(experiment.experiment_id)
        before = self.experiments.get(known)
        self.experiments[known] = experiment
        if before is None or (before.name, before.artifact_location) != (
            experiment.name,
            experiment.artifact_location,
        ):
            record = self.experiment_records.get(known)
            data = {
                "name": experiment.name,
                "artifact_location": experiment.artifact_location,
                "created": experiment.creation_time,
            }
            if record != data:
                self.experiment_records.add(known, data)

    def tell_provisional(self, run: LocalRun, reason: str) -> None:
        """Log once that runs begin without the server, and remember to log their URLs."""
        self.untold[run.run_id] = run
        if self.is_offline or self._is_away:
            return
        self._is_away = self._owes_back = True
        logger.warning(
            "%s. The run %s begins without it, under a provisional ID; `mlflow-connections outbox "
            "runs` shows the server's ID once it has one.",
            reason.rstrip("."),
            run.run_id,
        )

    def _note_outage(self, is_away: bool, reason: str) -> None:
        """Log once that the server is unavailable, and once that it has everything again."""
        if is_away and not self._is_away:
            self._is_away = self._owes_back = True
            logger.warning(
                "%s. Your code goes on; what is logged waits on this machine and is sent as soon as the "
                "server responds.",
                reason.rstrip("."),
            )
        elif not is_away and self._is_away:
            self._is_away = False
            # Without a wait for the thread that logs, which called this.
            threading.Thread(target=self._tell_back, name="outbox is sent", daemon=True).start()

    def _tell_back(self) -> None:
        self.outbox.flush(_BACK_SECONDS)
        if not self._is_away:
            self._tell_runs()

    def tell_delivered(self) -> None:
        """Log the URL of each run that began without the server and has been delivered since."""
        self._tell_lost()
        waited = self.untold or self._is_away or self._owes_back
        if waited and not self.is_offline and self.outbox.is_delivered:
            self._is_away = False
            self._tell_runs()

    def _tell_runs(self) -> None:
        """Log that the server has everything again, with the URLs of the runs that began without it."""
        self.ids.refresh()
        arrived = []
        with self.lock:
            for run_id, run in list(self.untold.items()):
                if real := self.ids.get(run_id):
                    del self.untold[run_id]
                    arrived.append(
                        f" The run {run.name or real} ({run_id}) is {self._url_of(run, real)}."
                    )
            is_owed, self._owes_back = self._owes_back or bool(arrived), False
        if not is_owed:
            return  # another thread has logged it
        logger.warning(
            "The MLflow server at %s has everything again.%s",
            mask_uri(self.target),
            "".join(arrived),
        )

    def _tell_lost(self) -> None:
        """Log once for each run that the server has lost it, and where the rest of it is."""
        self.ids.refresh()
        for run_id, real in self.ids.pairs().items():
            run = self.runs.get(run_id)
            if run is None or run.is_provisional or run_id in self._told_lost:
                continue
            if run.run_id == real:
                continue  # resumed by its provisional ID, after it had got this one
            self._told_lost.add(run_id)
            logger.warning(
                "The MLflow server at %s has lost the run %s, perhaps because it was restored from an "
                "older backup. Values from before that are gone; those logged since are in %s.",
                mask_uri(self.target),
                run_id,
                self._url_of(run, real),
            )

    def _url_of(self, run: LocalRun, real: str) -> str:
        experiment = self.real_experiment(run.experiment_id) or run.experiment_id
        return run_url(self.target, experiment, real)

    def renew_after_fork(self) -> None:
        """Replace locks in a forked child, because a thread of the parent may have held them."""
        self.lock = threading.RLock()
        for name in ("ids", "run_records", "experiment_records", "model_records"):
            self.__dict__.pop(name, None)  # read again on use

    def _describe(self, outbox: Outbox) -> None:
        """Record the server, for a delivery by a process without this one's secrets."""
        named = os.environ.get(SERVER_VARIABLE) or self.target
        description = {"uri": mask_uri(self.target), "server": mask_uri(named)}
        with suppress(OSError):
            path = outbox.state / DESCRIPTION
            text = json.dumps(description)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                temporary = path.with_name(f"{DESCRIPTION}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(path)


def address(target: str) -> str:
    """Return the URL of a destination; Databricks' URI alone does not identify the workspace."""
    shown = mask_uri(target)
    host = os.environ.get("DATABRICKS_HOST", "")
    if target.startswith("databricks") and host:
        return mask_uri(f"{shown} at {host}")
    return shown


def host_of(target: str) -> str:
    """Return the address of a server, as far as its URI and the environment contain it."""
    if target.startswith("databricks"):
        return os.environ.get("DATABRICKS_HOST") or target
    place = target.partition("://")[2].partition("/")[0]
    return f"https://{place}" if place else target


def secrets_of(target: str) -> dict[str, str]:
    """Return the server and the current values of its variables, as secrets of an outbox."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_PREFIXES) and name not in SERVER_VARIABLES and not is_composite(value)
    }
    environment.pop(TARGET_VARIABLE, None)
    # The shipper outlives this process, and fetches tokens itself.
    environment |= lasting_variables(target)
    return {TARGET_VARIABLE: json.dumps([target, environment])}


def run_url(target: str, experiment_id: str, run_id: str) -> str:
    """Return the page of a run in MLflow's UI, or its ID if the server has no such page."""
    if target.startswith(("http://", "https://")):
        return f"{mask_uri(target).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    return run_id


_servers: dict[tuple[str, tuple[tuple[str, str], ...]], DurableServer] = {}
_guard = threading.RLock()


def server_of(uri: DurableUri) -> DurableServer:
    """Return the state of a server in this process; other credentials are another server."""
    import atexit

    secrets = {name: value for name, value in os.environ.items() if looks_secret(name)}
    key = address(uri.server), tuple(sorted(secrets.items()))
    with _guard:
        if not _servers:
            atexit.register(_at_exit)
        if key not in _servers:
            _servers[key] = DurableServer(uri)
        return _servers[key]


def server_in_force(tracking_uri: str) -> DurableServer | None:
    """Return the server whose own tracking URI is in force, if durable stands in front of it."""
    value = os.environ.get(VARIABLE)
    if value is None or inner_of(value) != tracking_uri:
        return None
    known = reversed(list(_servers.values()))
    return next((each for each in known if each.target == tracking_uri), None)


def _at_exit() -> None:
    """Wait a moment for delivery, and log the runs that have arrived. Ctrl-C ends the wait."""
    for server in list(_servers.values()):
        if server.is_offline and not server.outbox.is_delivered:
            logger.warning(
                "Everything logged waits in %s. Deliver it with `mlflow-connections outbox ship "
                "--destination offline --to <server>`; `mlflow-connections outbox view` shows it.",
                server.outbox.folder,
            )
        elif not server.is_offline and "outbox" in vars(server):
            # In addition to the outbox, whose wait ends with the process before a thread can log.
            policy = Policy.read()[0]
            with suppress(KeyboardInterrupt):
                server.outbox.flush(policy.exit_timeout, insist=policy.exit_insists)
            server.tell_delivered()


def _after_fork() -> None:
    global _guard  # noqa: PLW0603 - a lock cannot be renewed in place
    _guard = threading.RLock()
    for server in _servers.values():
        server.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
