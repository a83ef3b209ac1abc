"""The protocol of an identity that variables cannot hold.

In a separate module: creating a protocol takes half a millisecond, and only type checkers need it.
"""

from typing import Protocol

__all__ = ["Binder"]


class Binder(Protocol):
    """An identity that a boundary activates and deactivates.

    For state that a service's client keeps itself, such as a credential object that it looks up by
    URI, or a cache of clients by host. The boundary itself exports and restores variables, and
    drops MLflow's own caches. Two equal binders are the same identity.

    A binder may also have a method `check(seconds: float) -> None`. `mlflow-connections check`
    calls it before it contacts MLflow, so that it raises an `UnreachableError` at once if the
    service's own client would retry for minutes.
    """

    def bind(self) -> None:
        """Activate the identity.

        Called when the boundary is entered, and again after a nested boundary for another server
        was left. MLflow may not be imported yet; importing it in this method costs the user a
        second.
        """

    def unbind(self) -> None:
        """Deactivate the identity, and drop the clients' state that depends on it."""
