"""A proxy: an object that equals another one in everything except a few replaced methods.

MLflow's stores have 38 public methods in 2.22 and 173 in 3.17, and MLflow checks their classes. The
proxy of a store is therefore an instance of a subclass of the store's own class that forwards every
attribute lookup to the store. Whatever a store can do, in this version of MLflow or a later one,
its proxy can too.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T")


def proxy(inner: T, methods: Mapping[str, Callable[..., Any]], base: type | None = None) -> T:
    """Return an object that forwards everything to `inner`, except the given methods.

    Calls that `inner` makes to its own methods do not reach the replacements, so each call of a
    user is seen once.

    Args:
        inner: Any object whose class allows subclasses.
        methods: Functions by name, which replace the methods of these names.
        base: The class to appear as, instead of `inner`'s own: one of its base classes.
    """
    kind = type(inner) if base is None else base

    # The caller's own mapping, which may change later, unless methods are added.
    attributes: Any = methods if base is None else dict(methods)

    def look_up(_self: Any, name: str) -> Any:
        try:
            return attributes[name]
        except KeyError:
            return getattr(inner, name)

    namespace: dict[str, Any] = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__init__": lambda _self: None,
        "__getattribute__": look_up,
        "__setattr__": lambda _self, name, value: setattr(inner, name, value),
        "__delattr__": lambda _self, name: delattr(inner, name),
        "__repr__": lambda _self: repr(inner),
    }
    if hasattr(kind, "__del__"):
        # The inner object cleans up itself, and must do so once.
        namespace["__del__"] = lambda _self: None
    made: Any = type(kind.__name__, (kind,), namespace)
    if base is not None:
        made.__abstractmethods__ = frozenset()  # each is forwarded
        attributes["__class__"] = made  # `isinstance` reads it too
    return cast("T", made())


Arguments = Mapping[str, Any]
OnSuccess = Callable[[Callable[[], Arguments], Any], None]
"""Receives a function that returns the call's arguments by name, defaults included, and its result."""


def call_then(method: Callable[..., Any], on_success: OnSuccess) -> Callable[..., Any]:
    """Return a function that calls a method and reports the call once it has succeeded.

    Args:
        method: A bound method. Its result and its exceptions are passed to the caller.
        on_success: Called after each success. Must not raise.
    """
    parameters = inspect.signature(method).parameters.values()
    names = [p.name for p in parameters]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        # The call has succeeded, so its arguments fit; `Signature.bind` costs ten times as much.
        on_success(lambda: {**defaults, **dict(zip(names, args, strict=False)), **kwargs}, result)
        return result

    return call
