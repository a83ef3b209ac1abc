"""An object that is another one in everything, but for a few captured methods.

MLflow's stores have 38 public methods in 2.22 and 173 in 3.17, and MLflow asks for their classes.
So the stand-in for a store is an instance of a subclass of the store's own class that hands every
look at an attribute to the store. Whatever a store can do, now or in a later MLflow, it can too.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T")


def delegate(inner: T, captured: Mapping[str, Callable[..., Any]]) -> T:
    """Give an object that hands everything to `inner`, except the captured methods.

    Calls that `inner` makes to its own methods are not captured: one call of a user is seen once.

    Args:
        inner: Any object whose class allows subclasses.
        captured: Functions by name, called in place of the methods of these names.
    """
    kind = type(inner)

    def look_up(_self: Any, name: str) -> Any:
        try:
            return captured[name]
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
        # The inner object cleans up after itself, once.
        namespace["__del__"] = lambda _self: None
    return cast("T", type(kind.__name__, (kind,), namespace)())


Arguments = Mapping[str, Any]
Record = Callable[[Callable[[], Arguments], Any], None]
"""Gets what gives a call's arguments by name, defaults included, and the call's result."""


def capture(method: Callable[..., Any], record: Record) -> Callable[..., Any]:
    """Give a function that calls a method and, when it has returned, notes what it was told.

    Args:
        method: A bound method. What it returns or raises is the caller's.
        record: Called after each success. Must not raise.
    """
    parameters = inspect.signature(method).parameters.values()
    names = [p.name for p in parameters]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        # The call has succeeded, so its arguments fit; `Signature.bind` costs ten times as much.
        record(lambda: {**defaults, **dict(zip(names, args, strict=False)), **kwargs}, result)
        return result

    return call
