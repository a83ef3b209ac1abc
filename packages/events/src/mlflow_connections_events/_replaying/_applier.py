"""The applier of all events, which passes each to the applier of its concept."""

from collections.abc import Callable, Sequence

from mlflow_connections.secrets import masked
from mlflow_connections_events.vocabulary import RUN_KINDS
from mlflow_connections_outbox import Event, Rejected

from ._artifacts import ArtifactApplier, Files
from ._assessments import AssessmentApplier
from ._experiments import ExperimentApplier
from ._logged_models import ModelApplier
from ._outcome import is_gone
from ._registry import RegistryApplier
from ._runs import RunApplier
from ._target import ReplayTarget
from ._traces import TraceApplier


class Applier:
    """Applies events to one server.

    Args:
        target: The server.
        files: Provides artifacts; without it none are copied.

    Attributes:
        target: The server.
        kinds: The kinds of events that can be applied.
    """

    def __init__(self, target: ReplayTarget, files: Files | None = None) -> None:
        self.target = target
        experiments = ExperimentApplier(target)
        self._runs = RunApplier(target, experiments)
        traces = TraceApplier(target, experiments, self._runs)
        self._handlers: dict[str, Callable[[Event], None]] = {
            **experiments.handlers(),
            **self._runs.handlers(),
            **ModelApplier(target, experiments, self._runs).handlers(),
            **RegistryApplier(target, self._runs).handlers(),
            **traces.handlers(),
            **AssessmentApplier(target, traces).handlers(),
            **ArtifactApplier(target, self._runs, traces, files).handlers(),
        }
        self.kinds = frozenset(self._handlers)

    def apply(self, event: Event) -> None:
        """Apply one event.

        Raises:
            Rejected: The event can never be applied.
            Exception: Any exception of MLflow's.
        """
        handler = self._handlers.get(event.kind)
        if handler is None:
            raise Rejected(
                f"An event cannot be replayed: the kind '{event.kind}' is not known to this version. "
                "Upgrade mlflow-connections-events, then retry.",
                [0],
            )
        try:
            self._unless_restored(event, lambda: handler(event))
        except (KeyError, TypeError, ValueError) as error:
            if not _is_raised_here(error):
                # A client does not expect the response: a login page, a proxy's, or a 429 without a code.
                raise
            raise Rejected(
                f"An event '{event.kind}' cannot be replayed: {type(error).__name__}: {error}.", [0]
            ) from masked(error)

    def log(self, events: Sequence[Event]) -> None:
        """Apply `logged` events of one run, in as few requests as MLflow allows."""
        self._unless_restored(events[0], lambda: self._runs.log(events))

    def _unless_restored(self, event: Event, apply: Callable[[], None]) -> None:
        """Apply an event of a run, and again if the run has another ID on the server than this process knows."""
        try:
            apply()
        except Exception as error:
            if (
                event.kind not in RUN_KINDS
                or not is_gone(error)
                or not self._runs.is_found_anew(event)
            ):
                raise
            apply()


def _is_raised_here(error: BaseException) -> bool:
    """Return whether this package raised an error, and no client that it called."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    raised_in = "" if at is None else str(at.tb_frame.f_globals.get("__name__", ""))
    return raised_in.partition(".")[0] == __name__.partition(".")[0]
