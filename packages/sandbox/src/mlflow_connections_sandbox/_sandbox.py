"""The sandbox: one real MLflow server, with stand-ins in front of it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ._mlflow_server import MlflowServer
from ._page import Page
from ._stand_in import StandIn

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


class Sandbox:
    """A context manager: everything runs inside it, and nothing but the folder is left after it.

    Attributes:
        folder: Holds the MLflow server's data in `mlflow`, and each stand-in's below its name.
        names: The stand-ins that run.
        server: The MLflow server behind them.
    """

    def __init__(self, folder: Path, names: Sequence[str] = (), *, page: bool = False) -> None:
        """Create a sandbox; nothing runs yet.

        Args:
            folder: The folder for all data.
            names: The stand-ins to start.
            page: Whether to serve a page about it at `page_url`. Each journal then keeps only its
                newest 1,000 entries.

        Raises:
            ValueError: A name is not that of a stand-in.
        """
        unknown = [name for name in names if name not in STAND_INS]
        if unknown:
            raise ValueError(
                f"There is no stand-in named {', '.join(unknown)}; there are {', '.join(STAND_INS)}."
            )
        self.folder = folder
        self.names = tuple(dict.fromkeys(names))
        self.server = MlflowServer(folder / "mlflow")
        self._has_page = page
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
            ImportError: A stand-in needs something that is not installed; the message says what.
            RuntimeError: The MLflow server or a stand-in did not start.
        """
        # A missing extra shows before the server is waited for.
        classes = {name: _load(name) for name in self.names}
        with ExitStack() as starting:
            starting.enter_context(self.server)
            for name, stand_in_class in classes.items():
                stand_in = stand_in_class(self.mlflow_url, self.folder / name)
                starting.callback(stand_in.close)
                stand_in.start()
                self._stand_ins[name] = stand_in
            if self._has_page:
                self._page = self._show(starting)
            self._running = starting.pop_all()

    def _show(self, starting: ExitStack) -> Page:
        for stand_in in self._stand_ins.values():
            stand_in.keep(_KEPT)
        page = Page(self.mlflow_url, self.folder, tuple(self._stand_ins.values()))
        # Last to start, so first to end: who looks on sees the end, not one stand-in after another.
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
        """Return the variables that point an unmodified client at a stand-in."""
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


def _load(name: str) -> type[StandIn]:
    module, _, attribute = STAND_INS[name].partition(":")
    try:
        loaded: type[StandIn] = getattr(import_module(module, __package__), attribute)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The stand-in '{name}' needs {error.name}. "
            f"Run: pip install 'mlflow-connections-sandbox[{name}]'."
        ) from error
    return loaded
