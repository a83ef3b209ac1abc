"""Offers the specified import path `kedro_mlflow.config.connection` before anybody asks for it.

Called by the `.pth` and `.start` files as Python starts, by Kedro as one of its commands starts, and
by pytest. Core installs the same placeholder, but importing core takes milliseconds and this runs
in every interpreter, so core is imported by the first look at the placeholder only. For the same reason nothing but
`sys` is imported here: `typing` alone would take longer than all the rest of Python's start.
"""

import sys

NAME = "kedro_mlflow.config.connection"


def install() -> None:
    """Put the placeholder into `sys.modules`, unless something is there."""
    if NAME not in sys.modules:
        module = type(sys)(NAME)
        module.__spec__ = type(sys.__spec__)(NAME, None)
        module.__dict__["__getattr__"] = _look_up
        sys.modules[NAME] = module


def _look_up(name: str) -> object:
    from mlflow_connections._specified_path import look_up

    found: object = look_up(name)
    return found
