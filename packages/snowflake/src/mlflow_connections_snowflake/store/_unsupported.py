"""Refuse by name the MLflow calls that external functions cannot make."""

import inspect
from typing import Any, NoReturn

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import NOT_IMPLEMENTED

_FIX = (
    "Call it outside of Snowflake on MLflow's own URI, or use the connection's option "
    "mode: external_access"
)


def unsupported(name: str, fix: str = _FIX) -> MlflowException:
    """Return the error for a method that is not supported.

    Args:
        name: The method of MLflow's store.
        fix: The alternative, as a sentence without its full stop.
    """
    return MlflowException(
        f"MLflow's {name} is not supported over Snowflake external functions, which only POST, "
        f"and only to allowed paths. {fix}.",
        NOT_IMPLEMENTED,
    )


def mark_unsupported(store: type, base: type, kept: frozenset[str]) -> None:
    """Make a store refuse every public method of its base that it does not implement.

    Some methods of MLflow's base classes would return None instead, which looks like success.

    Args:
        store: The class of the store.
        base: MLflow's abstract store.
        kept: Methods of the base that work because they build on others.
    """
    own = {name for part in store.__mro__[: store.__mro__.index(base)] for name in vars(part)}
    for name, _ in inspect.getmembers(base, callable):
        if not name.startswith("_") and name not in own and name not in kept:
            setattr(store, name, _refusing(name))


def _refusing(name: str) -> Any:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise unsupported(name)

    refuse.__name__ = name
    refuse.__doc__ = "Refuse: external functions cannot make this call."
    return refuse
