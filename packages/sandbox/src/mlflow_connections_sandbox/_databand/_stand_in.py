"""The stand-in, and its part of the sandbox's page."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlflow_connections_sandbox._stand_in import StandIn
from mlflow_connections_sandbox._tables import NEWEST, Cell, Row, Table, moment, number, state

from ._app import TrackerAccount, make_app
from ._database import TrackerDatabase

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class Databand(StandIn):
    """Databand's tracker. Received data survives a restart, in SQLite below its folder.

    Attributes:
        account: The credentials that it accepts.
    """

    name: ClassVar[str] = "databand"
    title: ClassVar[str] = "Databand"
    guide: ClassVar[str] = "sandbox-databand"
    prefixes = ("DBND_", "DATABAND_")

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        super().__init__(mlflow_url, folder)
        self.account = TrackerAccount(
            "databand-sandbox-token", "databand", "databand-sandbox-password"
        )
        self._database: TrackerDatabase | None = None

    def app(self) -> "ASGIApp":
        """Return the tracker's application."""
        return make_app(self.database, self.account)

    def environment(self) -> Mapping[str, str]:
        """Return the variables that dbnd itself reads."""
        return {
            "DBND__CORE__DATABAND_URL": self.url,
            "DBND__CORE__DATABAND_ACCESS_TOKEN": self.account.token,
            "DBND__MLFLOW_TRACKING__DUPLICATE_TRACKING_TO": self.mlflow.url,
        }

    def tables(self) -> Sequence[Table]:
        """Return a table of the newest runs."""
        return (_runs_table(self.database.newest(NEWEST)),)

    @property
    def database(self) -> TrackerDatabase:
        """The received data."""
        if self._database is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._database = TrackerDatabase(self.folder / "tracker.db")
        return self._database

    def runs(self) -> list[dict[str, Any]]:
        """Return every run with all its parts."""
        return self.database.runs()

    def run(self, uid: str) -> dict[str, Any]:
        """Return one run.

        Raises:
            KeyError: The run does not exist.
        """
        return self.database.run(uid)


_COUNTED = ("tasks", "params", "metrics", "notes", "data")


def _runs_table(newest: Iterable[Mapping[str, Any]]) -> Table:
    rows = [
        Row(
            run["uid"],
            (
                moment(datetime.fromisoformat(run["start_time"]).timestamp()),
                Cell(run["name"]),
                Cell(run["job_name"]),
                state(run["state"]),
                *(number(run[counted]) for counted in _COUNTED),
            ),
        )
        for run in newest
    ]
    columns = ("Started", "Run", "Job", "State", "Tasks", "Params", "Metrics", "Notes", "Data")
    return Table("Received runs", columns, rows, "It has received no run yet.")
