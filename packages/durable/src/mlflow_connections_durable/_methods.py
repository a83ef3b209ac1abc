"""The methods of MLflow's stores that durable replaces: all public ones, those of later versions too."""

import inspect
from collections.abc import Callable
from typing import Any


def replaced_methods(
    own: Any, store: Any, remote: Callable[[str], Callable[..., Any]], *, has_server: bool
) -> dict[str, Callable[..., Any]]:
    """Return the replaced methods of a store, by name.

    Args:
        own: The object whose methods take the place of the store's.
        store: The server's own store.
        remote: Returns the method in place of one that `own` has not, which asks the server.
        has_server: Whether there is a server. Without one, methods are offered which MLflow's REST store has
            and its abstract one has not.
    """
    kind = type(store)
    found: dict[str, Callable[..., Any]] = {}
    names = {*dir(kind), *(() if has_server else dir(type(own)))}
    for name in names - {"methods"}:
        theirs, ours = getattr(kind, name, None), getattr(own, name, None)
        if name.startswith("_") or not (inspect.isfunction(theirs) or theirs is None):
            continue
        if ours is not None:
            found[name] = ours
        elif not inspect.iscoroutinefunction(theirs):
            found[name] = remote(name)
    return found
