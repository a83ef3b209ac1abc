"""The base of every stand-in: an ASGI application on a loopback port, with a journal and faults."""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ._journal import Journal
from ._loopback import LoopbackServer
from ._mlflow_backend import MlflowBackend
from ._recorder import Faults, RequestRecorder

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ._tables import Table


class StandIn(ABC):
    """The server side of one service, over the wire, before a real MLflow server.

    A stand-in is stricter than the service it stands for, never kinder. A subclass brings an ASGI
    application and says what a client must be told to reach it. After `close` it can be started
    again, at the same address and with what it remembers: the service was down.

    Attributes:
        name: Its keyword.
        title: What people call the service; the keyword if empty.
        guide: The page of the documentation about it.
        options: What the connection of that keyword must be told besides `environment()`.
        mlflow: The MLflow server that it stands before.
        folder: Where it may keep files. Made when it is started.
        port: Its port of 127.0.0.1, taken from the moment it is made.
        url: Where it answers, once started.
        journal: What it received.
        faults: What goes wrong on purpose.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    guide: ClassVar[str] = "sandbox"
    options: ClassVar[Mapping[str, str]] = {}

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        self.mlflow = MlflowBackend(mlflow_url)
        self.folder = folder
        self.journal = Journal()
        self.faults = Faults()
        self._server = LoopbackServer(f"stand-in '{self.name}'")
        self.port = self._server.port
        self.url = self._server.url

    @abstractmethod
    def app(self) -> "ASGIApp":
        """Make the application that answers."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Give the variables that point an unmodified client at this stand-in."""

    def tables(self) -> "Sequence[Table]":
        """Give what the sandbox's page shows of it before the requests: nothing."""
        return ()

    def administer(self) -> None:  # noqa: B027 - most services need nobody else
        """Do from now on what somebody outside of the service has to do: nothing.

        Where people start stand-ins by a command there is nobody else to do it.
        """

    def keep(self, newest: int) -> None:
        """Remember only so much of what happens, the newest, from now on."""
        self.journal.keep(newest)

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return self._server.is_running

    def start(self) -> None:
        """Answer from now on, in a thread of this process.

        Raises:
            RuntimeError: The server did not come up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.faults.over.clear()
        self._server.start(RequestRecorder(self.app(), self.journal, self.faults))

    def close(self) -> None:
        """Stop answering."""
        self.faults.over.set()
        self._server.close()


def exports(environment: Mapping[str, str]) -> list[str]:
    """Return variables as `export` lines for a shell."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
