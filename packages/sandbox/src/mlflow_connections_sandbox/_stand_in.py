"""The base of every stand-in: an ASGI application on a loopback port, with a journal and faults."""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ._journal import Journal
from ._kept import KeptValues
from ._loopback import LoopbackServer
from ._mlflow_backend import MlflowBackend
from ._recorder import Faults, RequestRecorder

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ._tables import Table


KEPT = "kept.json"
"""The file below a folder that keeps its ports and secrets."""


class StandIn(ABC):
    """The server side of one service, over the wire, in front of a real MLflow server.

    A stand-in is stricter than the service it plays, never kinder. A subclass provides an ASGI
    application and the variables that direct a client to it. After `close` it can start again, at
    the same address and with its data, as a service does after an outage.

    Attributes:
        name: Its keyword.
        title: The name of the service; the keyword if empty.
        guide: Its page in the documentation.
        options: Options that the connection needs in addition to `environment()`.
        prefixes: The prefixes of the variables that the service's clients read; variables other
            than those of `environment()` would direct them elsewhere.
        mlflow: The MLflow server behind it.
        folder: The folder for its files, created when it starts.
        port: Its port of 127.0.0.1, reserved when it is created.
        url: Its URL, once started.
        journal: The received requests.
        faults: The faults to inject.
        kept: Its port and its secrets, which stay the same when it starts again in its folder.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    guide: ClassVar[str] = "sandbox"
    options: ClassVar[Mapping[str, str]] = {}
    prefixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        self.mlflow = MlflowBackend(mlflow_url)
        self.folder = folder
        self.journal = Journal()
        self.faults = Faults()
        self.kept = KeptValues(folder / KEPT)
        self._server = LoopbackServer(f"stand-in '{self.name}'", port=self.kept.port("port"))
        self.port = self._server.port
        self.url = self._server.url

    @abstractmethod
    def app(self) -> "ASGIApp":
        """Create the ASGI application."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Return the variables that direct an unmodified client to this stand-in."""

    def tables(self) -> "Sequence[Table]":
        """Return the tables that the sandbox's page shows above the requests; none by default."""
        return ()

    def notes(self) -> "Sequence[str]":
        """Return sentences that the command `up` prints below the variables; none by default."""
        return ()

    def administer(self) -> None:  # noqa: B027 - most services need no administrator
        """Do the work of an administrator outside of the service from now on; nothing by default.

        The command `up` calls this, since nobody else can do it.
        """

    def keep(self, newest: int) -> None:
        """Keep only the newest entries of each record from now on."""
        self.journal.keep(newest)

    @property
    def is_running(self) -> bool:
        """Return whether it is serving."""
        return self._server.is_running

    def start(self) -> None:
        """Start serving, in a thread of this process.

        Raises:
            RuntimeError: The server did not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kept.put("port", self.port)
        self.kept.write()
        self.faults.over.clear()
        self._server.start(RequestRecorder(self.app(), self.journal, self.faults))

    def close(self) -> None:
        """Stop serving."""
        self.faults.over.set()
        self._server.close()


def shell_of(stand_ins: "Sequence[StandIn]", variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process in which unmodified clients reach only these stand-ins.

    Args:
        stand_ins: The stand-ins.
        variables: The variables of a process that may have its own accounts.
    """
    foreign = tuple(prefix for one in stand_ins for prefix in one.prefixes)
    left = {name: value for name, value in variables.items() if not name.startswith(foreign)}
    for one in stand_ins:
        left |= one.environment()
    return left


def exports(environment: Mapping[str, str]) -> list[str]:
    """Return variables as `export` lines for a shell."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
