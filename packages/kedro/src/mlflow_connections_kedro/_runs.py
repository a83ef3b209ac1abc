"""The runs that a pipeline starts, so that they end with it.

If a node logs outside of a run, MLflow starts one in the thread and the process of the node, and
nothing ends it. Each pipeline therefore records the runs that become active while it runs: those of
its own thread and of its worker threads in memory, those of its child processes in a folder that
the children find through an environment variable. Runs that were active before the pipeline, and
the run in MLFLOW_RUN_ID, which an orchestrator started, are not the pipeline's.
"""

import atexit
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from mlflow_connections.secrets import get_logger

from ._mlflow import active_runs, end_active_runs, end_run

logger = get_logger(__name__)

FOLDER_VARIABLE = "MLFLOW_CONNECTIONS_KEDRO_RUNS"
"""The folder in which child processes record their runs: `<folder>/<session ID>/<run ID>`."""


class PipelineRuns:
    """The runs that become active while one pipeline runs.

    Args:
        session_id: Kedro's ID of the session, which child processes know too.
        not_ours: IDs of runs that must never be ended.
    """

    def __init__(self, session_id: str, not_ours: frozenset[str] = frozenset()) -> None:
        self.session_id = session_id
        self._process = os.getpid()
        self._thread = threading.get_ident()
        resumed = os.environ.get("MLFLOW_RUN_ID")
        self._not_ours = not_ours | {*active_runs(), *([resumed] if resumed else ())}
        self._noted: set[str] = set()

    @property
    def is_here(self) -> bool:
        """Whether this is the process of the pipeline, not a child that was forked from it."""
        return self._process == os.getpid()

    @property
    def is_interrupted(self) -> bool:
        """Whether the session's `run` is no longer on the stack of this thread, where it started."""
        if self._thread != threading.get_ident():
            return False
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if getattr(frame.f_locals.get("self"), "session_id", None) == self.session_id:
                return False
        return True

    def note(self) -> None:
        """Record the active runs of this thread."""
        self._noted.update(run for run in active_runs() if run not in self._not_ours)

    def end(self, status: str, not_ours: frozenset[str] = frozenset()) -> None:
        """End all recorded runs that have not ended. An unavailable server causes a warning.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
            not_ours: IDs of more runs that must not be ended.
        """
        self.note()
        noted = (self._noted | _take_notes(self.session_id)) - self._not_ours - not_ours
        active = set(active_runs()) & noted
        try:
            end_active_runs(active, status)
        except Exception as error:  # noqa: BLE001 - the pipeline's own result must stand
            _warn(active, error)
        for run in sorted(noted - active):
            _end_quietly(run, status)
        self._noted.clear()


def _end_quietly(run: str, status: str) -> None:
    try:
        end_run(run, status)
    except Exception as error:  # noqa: BLE001 - the pipeline's own result must stand
        _warn({run}, error)


def _warn(runs: set[str], error: Exception) -> None:
    from mlflow_connections.secrets import mask

    logger.warning(
        "The MLflow run %s of this pipeline could not be ended: %s",
        ", ".join(sorted(runs)),
        mask(" ".join(str(error).split())) or type(error).__name__,
    )


def prepare_folder() -> None:
    """Create the folder for the records of child processes, once per process, and export its path."""
    if os.environ.get(FOLDER_VARIABLE) and _own_folder.process == os.getpid():
        return
    folder = tempfile.mkdtemp(prefix="mlflow-connections-kedro-")
    os.environ[FOLDER_VARIABLE] = folder
    _own_folder.process = os.getpid()
    atexit.register(_remove_folder, folder, os.getpid())


def leave_note(session_id: str) -> None:
    """Record the active runs of this child process for the pipeline's process."""
    folder = os.environ.get(FOLDER_VARIABLE)
    runs = active_runs()
    if not folder or not runs or not Path(folder).is_dir():
        return
    notes = Path(folder, session_id)
    notes.mkdir(exist_ok=True)
    for run in runs:
        (notes / run).touch()


def _take_notes(session_id: str) -> set[str]:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return set()
    notes = Path(folder, session_id)
    found = {note.name for note in notes.iterdir()} if notes.is_dir() else set()
    shutil.rmtree(notes, ignore_errors=True)
    return found


def _remove_folder(folder: str, process: int) -> None:
    # A forked child that ends with `sys.exit` runs this too, and must not remove the parent's
    # folder.
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


class _OwnFolder:
    process: int | None = None


_own_folder = _OwnFolder()
