"""The server's own tracking store, called with a deadline."""

from collections.abc import Callable
from typing import Any, NoReturn

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from mlflow_connections.secrets import get_logger, mask_uri
from mlflow_connections_events import keeps_its_uri

from . import _mlflow
from ._delivering import is_delivering
from ._experiment_ids import is_provisional_experiment
from ._patience import Away
from ._server import FLUSH_SECONDS, DurableServer, host_of

logger = get_logger("mlflow_connections_durable")

_READS = ("get_", "search_", "list_", "batch_get_", "query_", "find_")


class InnerStore:
    """The server's store. No call outlasts a server that does not respond.

    Args:
        server: The state of the server in this process.
        store: The server's own store, or None for `offline`.

    Attributes:
        store: The same.
    """

    def __init__(self, server: DurableServer, store: Any | None) -> None:
        self.store = store
        self._server = server
        self._asking = None if store is None else _mlflow.asking_store(store)
        server.asking = self._asking
        self._credentials: Any = None

    def ask(self, call: Callable[[Any], Any], *, of_every_server: bool = True) -> Any:
        """Make one attempt of a call, which receives the store.

        Args:
            call: The call.
            of_every_server: Whether every server has the endpoint. One without it refuses the call;
                otherwise a 404 is a proxy's that finds no server.

        Raises:
            Away: The server does not respond, or there is none.
            MlflowException: The server refuses the request.
        """
        if self._asking is None:
            raise Away("There is no server: 'server' is 'offline'")
        probe = None if of_every_server else self._server.probe
        return self._server.patience.attempt(lambda: call(self._asking), probe)

    def catch_up(self) -> None:
        """Wait until the server has everything that this process wrote, if it responds.

        Raises:
            Away: It does not respond.
        """
        if self.store is None:
            return
        if self._server.catch_up(FLUSH_SECONDS):
            logger.warning(
                "The MLflow server at %s has not received everything that was logged before this "
                "read: `mlflow-connections outbox status` shows the waiting events.",
                mask_uri(self._server.target),
            )

    def forwarded(self, name: str) -> Callable[..., Any]:
        """Return a method that calls the server, with the server's IDs in place of provisional ones."""
        what = f"the result of {name}"

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.store is None:
                refuse(self._server, None, what)
            method = getattr(self.store, name)
            if is_delivering():
                return method(*args, **kwargs)
            try:
                if name.startswith(_READS) or not name.startswith(("log_", "start_")):
                    self.catch_up()
                args = tuple(self._real(value) for value in args)
                kwargs = {key: self._real(value) for key, value in kwargs.items()}
                return self._server.patience.wait(
                    lambda: method(*args, **kwargs), self._server.probe
                )
            except Away as away:
                refuse(self._server, away, what)

        return call

    def host_credentials(self) -> Any:
        """Return the server's address and credentials; only its known address while it does not respond.

        MLflow prints a run's address with it, and the clients of Databricks and Azure sign in for
        that.
        """
        server, store = self._server, self.store
        assert store is not None  # noqa: S101 - a store without a server has no such attribute
        if not keeps_its_uri(server.target):
            return store.get_host_creds()
        try:
            self._credentials = server.patience.attempt(store.get_host_creds, proves=False)
        except Away:
            return self._credentials or _mlflow.host_credentials(host_of(server.target))
        return self._credentials

    def _real(self, value: Any) -> Any:
        if isinstance(value, str):
            server = self._server
            if is_provisional_experiment(value):
                return server.real_experiment(value) or value
            return server.ids.get(value) or server.ids.replaced(value)
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return [self._real(each) for each in value]
        return value


def unless_away(look: Callable[[], object]) -> None:
    """Check an entity before it is written to; without the server, the check happens on delivery."""
    try:
        look()
    except MlflowException as error:
        if error.error_code != "TEMPORARILY_UNAVAILABLE":
            raise


def refuse(server: DurableServer, away: Away | None, what: str) -> NoReturn:
    """Raise MLflow's error for a read that needs the server."""
    if server.is_offline:
        raise MlflowException(
            f"'server' is 'offline', and only a server knows {what}: deliver the waiting events, and ask "
            "the server that has them.",
            TEMPORARILY_UNAVAILABLE,
        )
    fault = str(away or f"The MLflow server at {mask_uri(server.target)} does not respond")
    raise MlflowException(
        f"{fault.rstrip('.')}. Only the server knows {what}; repeat this once it is back. Everything "
        "logged is kept.",
        TEMPORARILY_UNAVAILABLE,
    ) from None
