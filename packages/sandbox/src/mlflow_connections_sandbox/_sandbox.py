"""The sandbox: one real MLflow server, with stand-ins in front of it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ._kept import FolderLock, KeptValues
from ._mlflow_server import MlflowServer
from ._page import Page
from ._stand_in import KEPT, StandIn

if TYPE_CHECKING:
    from typing_extensions import Self

STAND_INS: Mapping[str, str] = {
    "azureml": "._azure:Azure",
    "databand": "._databand:Databand",
    "databricks": "._databricks:Databricks",
    "http": "._http:ProtectedMlflow",
    "snowflake": "._snowflake:Snowflake",
}
"""Every stand-in: its name, and the module and class behind it, imported on demand."""

_KEPT = 1000
"""The number of requests that each stand-in keeps while a page shows them."""


_PORTS = ("page_port", "mlflow_port")
"""The first two of consecutive ports; those of the stand-ins follow."""


_SECOND_PORTS = {"azureml": "proxy_port", "http": "mtls_port"}
"""Second addresses of stand-ins have the last ports."""


class Sandbox:
    """A context manager: everything runs inside it, and only the folder remains after it.

    A folder is used by one sandbox at a time. The next one in it has the same data, ports, tokens
    and passwords.

    Attributes:
        folder: Holds the MLflow server's data in `mlflow`, and each stand-in's below its name.
        names: The stand-ins that run.
        server: The MLflow server behind them.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str] = (),
        *,
        page: bool = False,
        port: int = 0,
        server: MlflowServer | None = None,
    ) -> None:
        """Create a sandbox without starting it.

        Args:
            folder: The folder for all data.
            names: The stand-ins to start.
            page: Whether to serve a page about it at `page_url`. Each journal then keeps only its
                newest 1,000 entries.
            port: The page's port. The MLflow server has the next one, followed by one for each
                stand-in of `STAND_INS` in order, whichever are started. 0 selects the folder's
                previous ports, or any free ones.
            server: The MLflow server to use, which is started and closed with the sandbox; by
                default its own.

        Raises:
            ValueError: A name is not that of a stand-in.
        """
        _check(names)
        # Variables for clients name files below it, and a client may run in another folder.
        self.folder = folder.absolute()
        self.names = tuple(dict.fromkeys(names))
        self.server = MlflowServer(self.folder / "mlflow") if server is None else server
        self._has_page = page
        self._port = port
        self._page: Page | None = None
        self._stand_ins: dict[str, StandIn] = {}
        self._running = ExitStack()

    @property
    def mlflow_url(self) -> str:
        """Return the URL of the real MLflow server and its web pages."""
        return self.server.url

    @property
    def page_url(self) -> str:
        """Return the URL of the page about this sandbox; empty without one."""
        return "" if self._page is None else self._page.url

    def start(self) -> None:
        """Start everything.

        Raises:
            ImportError: A stand-in needs a package that is not installed; the message names it.
            RuntimeError: Another sandbox uses the folder, another program uses one of the ports, or
                something did not start.
            ValueError: The folder contains a file that no sandbox wrote.
        """
        # A missing extra is reported before waiting for the server.
        classes = {name: load_stand_in(name) for name in self.names}
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as starting:
            lock = FolderLock(self.folder)
            lock.acquire()
            starting.callback(lock.close)
            kept = KeptValues(self.folder / KEPT)
            if self._port:
                self._choose_ports(kept)
            self._start_server(kept, starting)
            for name, stand_in_class in classes.items():
                self._start_stand_in(name, stand_in_class, starting)
            if self._has_page:
                self._page = self._show(starting, kept.port("page_port"))
                kept.put("page_port", self._page.port)
            kept.write()
            self._running = starting.pop_all()

    def add(self, name: str) -> StandIn:
        """Start another stand-in while the sandbox runs, or return it if it already runs.

        Raises:
            ImportError: It needs a package that is not installed; the message names it.
            RuntimeError: It did not start.
            ValueError: There is no stand-in with this name.
        """
        if name not in self._stand_ins:
            _check([name])
            self._start_stand_in(name, load_stand_in(name), self._running)
            self.names = (*self.names, name)
        return self._stand_ins[name]

    def _choose_ports(self, kept: KeptValues) -> None:
        ports = count(self._port)
        for name in _PORTS:
            kept.put(name, next(ports))
        of_stand_ins = {}
        for name in STAND_INS:
            (self.folder / name).mkdir(exist_ok=True)
            of_stand_ins[name] = KeptValues(self.folder / name / KEPT)
            of_stand_ins[name].put("port", next(ports))
        for name, port in _SECOND_PORTS.items():
            of_stand_ins[name].put(port, next(ports))
        for values in of_stand_ins.values():
            values.write()

    def _start_server(self, kept: KeptValues, starting: ExitStack) -> None:
        self.server.port = self.server.port or kept.port("mlflow_port")
        starting.enter_context(self.server)
        own = self.folder / "mlflow"
        if self.server.folder == own:
            kept.put("mlflow_port", urlsplit(self.server.url).port)
        elif not own.is_symlink():
            # Stand-ins expect the server's artifacts in this folder.
            own.symlink_to(self.server.folder, target_is_directory=True)

    def _start_stand_in(
        self, name: str, stand_in_class: type[StandIn], starting: ExitStack
    ) -> None:
        stand_in = stand_in_class(self.mlflow_url, self.folder / name)
        starting.callback(stand_in.close)
        stand_in.start()
        self._stand_ins[name] = stand_in

    def _show(self, starting: ExitStack, port: int) -> Page:
        for stand_in in self._stand_ins.values():
            stand_in.keep(_KEPT)
        page = Page(self.mlflow_url, self.folder, tuple(self._stand_ins.values()), port)
        # Started last, so it stops first: an open page shows the end at once, not one stand-in
        # after another.
        starting.callback(page.close)
        page.start()
        return page

    def close(self) -> None:
        """Stop everything; the folder stays."""
        self._page = None
        self._stand_ins.clear()
        self._running.close()

    def __getitem__(self, name: str) -> StandIn:
        return self._stand_ins[name]

    def environment(self, name: str) -> Mapping[str, str]:
        """Return the variables that direct an unmodified client to a stand-in."""
        return self[name].environment()

    def __enter__(self) -> "Self":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _check(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in STAND_INS]
    if unknown:
        raise ValueError(
            f"There is no stand-in named {', '.join(unknown)}; there are {', '.join(STAND_INS)}."
        )


def load_stand_in(name: str) -> type[StandIn]:
    """Import a stand-in.

    Raises:
        ImportError: It needs a package that is not installed; the message names it.
    """
    module, _, attribute = STAND_INS[name].partition(":")
    try:
        loaded: type[StandIn] = getattr(import_module(module, __package__), attribute)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The stand-in '{name}' needs {error.name}. "
            f"Run: pip install 'mlflow-connections-sandbox[{name}]'."
        ) from error
    return loaded
