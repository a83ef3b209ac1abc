"""The boundary in force, for connections that only wrap another server."""

from collections.abc import Sequence

from ._connection import Binder
from ._use import are_in_force

__all__ = ["are_identities_in_force"]


def are_identities_in_force(binders: Sequence[Binder]) -> bool:
    """Return whether the identities of a server are those in force.

    Outside any block, the variables are all that is known of the identity, so no binder contradicts them.

    Args:
        binders: The binders of the server's endpoint.
    """
    return are_in_force(binders)
