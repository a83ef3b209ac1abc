"""The methods of MLflow's stores that durable replaces: all public ones, including those of later versions."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any


def replaced_methods(
    rooms: Iterable[object],
    store: Any,
    forwarded: Callable[[str], Callable[..., Any]],
    also: type = object,
) -> dict[str, Callable[..., Any]]:
    """Return the replaced methods of a store, by name.

    Args:
        rooms: The objects whose methods replace the store's of the same names.
        store: The server's own store, or its replacement.
        forwarded: Returns the replacement of a method that no object has, which calls the server.
        also: A class whose methods are offered too, if an object has them.
    """
    kind = type(store)
    found: dict[str, Callable[..., Any]] = {}
    for name in {*dir(kind), *dir(also)}:
        theirs = getattr(kind, name, None) or getattr(also, name, None)
        if name.startswith("_") or not inspect.isfunction(theirs):
            continue
        ours = next((getattr(room, name) for room in rooms if hasattr(room, name)), None)
        if ours is not None:
            found[name] = ours
        elif hasattr(kind, name) and not inspect.iscoroutinefunction(theirs):
            found[name] = forwarded(name)
    return found


def while_enabled(
    enabled: Callable[[], bool], methods: dict[str, Callable[..., Any]], store: Any
) -> dict[str, Callable[..., Any]]:
    """Return methods that are the store's own once it is used without the wrapping again."""
    return {name: _while(enabled, method, getattr(store, name)) for name, method in methods.items()}


def _while(
    enabled: Callable[[], bool], method: Callable[..., Any], plain: Callable[..., Any]
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return (method if enabled() else plain)(*args, **kwargs)

    return call
