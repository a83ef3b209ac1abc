"""What cannot be done from inside Snowflake is refused by name, with the cure."""

import inspect
from typing import Any, NoReturn

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import NOT_IMPLEMENTED

_CURE = (
    "do it outside of Snowflake on MLflow's own URI, or use the connection's option "
    "mode: external_access"
)


def refusal(name: str, cure: str = _CURE) -> MlflowException:
    """Make the error for a method that cannot be offered.

    Args:
        name: The method of MLflow's store.
        cure: What to do instead.
    """
    return MlflowException(
        f"MLflow's {name} is not to be had through Snowflake's external functions, which only "
        f"POST, and only to paths that are allowed: {cure}.",
        NOT_IMPLEMENTED,
    )


def refuse_the_rest(store: type, base: type, kept: frozenset[str]) -> None:
    """Make a store refuse every public method of its base that it does not have itself.

    Some of MLflow's bases would answer None instead, which looks like success.

    Args:
        store: The class of the store.
        base: MLflow's abstract store.
        kept: Methods of the base that work, since they rest on others.
    """
    own = {name for part in store.__mro__[: store.__mro__.index(base)] for name in vars(part)}
    for name, _ in inspect.getmembers(base, callable):
        if not name.startswith("_") and name not in own and name not in kept:
            setattr(store, name, _refusing(name))


def _refusing(name: str) -> Any:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise refusal(name)

    refuse.__name__ = name
    refuse.__doc__ = "Refuse: this cannot be done from inside Snowflake."
    return refuse
