"""The stand-in itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlflow_connections_sandbox._stand_in import StandIn
from mlflow_connections_sandbox._tables import NEWEST, Table

from ._access import Access, Account
from ._app import make_app
from ._books import Books
from ._tables import runs

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class Databand(StandIn):
    """Databand's tracker. What it received outlives a restart, in SQLite below its folder.

    Attributes:
        account: What opens it.
    """

    name: ClassVar[str] = "databand"
    title: ClassVar[str] = "Databand"
    guide: ClassVar[str] = "sandbox-databand"

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        super().__init__(mlflow_url, folder)
        self.account = Account("databand-sandbox-token", "databand", "databand-sandbox-password")
        self._books: Books | None = None

    def app(self) -> "ASGIApp":
        """Make the tracker."""
        return make_app(self.books, Access(self.account))

    def environment(self) -> Mapping[str, str]:
        """Give the variables that dbnd itself reads."""
        return {
            "DBND__CORE__DATABAND_URL": self.url,
            "DBND__CORE__DATABAND_ACCESS_TOKEN": self.account.token,
            "DBND__MLFLOW_TRACKING__DUPLICATE_TRACKING_TO": self.mlflow.url,
        }

    def tables(self) -> Sequence[Table]:
        """Give the newest runs, with how much was told of each."""
        return (runs(self.books.newest(NEWEST)),)

    @property
    def books(self) -> Books:
        """What it knows."""
        if self._books is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._books = Books(self.folder / "tracker.db")
        return self._books

    def runs(self) -> list[dict[str, Any]]:
        """Give every run that it knows, with all that belongs to it."""
        return self.books.runs()

    def run(self, uid: str) -> dict[str, Any]:
        """Give one run.

        Raises:
            KeyError: There is none.
        """
        return self.books.run(uid)
