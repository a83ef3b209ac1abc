"""What one session of this process leaves behind, so that the next one starts clean.

MLflow's URIs and the exported credentials outlive a session on purpose: nodes in children read
them. A second session, in a notebook or a test run, must not inherit them.
"""

from collections.abc import Iterable, Mapping

from mlflow_connections.mlflow_state import SavedState, export_environment


class Leftovers:
    """The state before the last session changed anything, and right after it did."""

    def __init__(self) -> None:
        self._before: SavedState | None = None
        self._after: SavedState | None = None
        self._names: set[str] = set()

    def begin(self) -> None:
        """Put back what the last session changed and nobody has changed since; watch the next."""
        if self._before is not None and self._after is not None:
            self._before.restore(self._names, self._after)
        self._before, self._after, self._names = SavedState.take(), None, set()

    def export(self, variables: Mapping[str, str]) -> None:
        """Set environment variables, with a warning for each whose other value is replaced."""
        self._names.update(variables)
        export_environment(variables)

    def undo(self) -> None:
        """Put everything back, since the session cannot start."""
        if self._before is not None:
            self._before.restore(self._names)
            self._before = None

    def keep(self, names: Iterable[str] = ()) -> None:
        """Remember what is in force now as this session's, with variables that others exported."""
        if self._before is not None:
            self._names.update(names)
            self._after = SavedState.take()
