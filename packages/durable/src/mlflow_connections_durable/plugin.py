"""The targets of entry points. MLflow imports this module during its own import, so it is small."""

from typing import Any


def provisional_artifacts(*args: Any, **kwargs: Any) -> Any:
    """Build the artifact repository of a run or a model that has a provisional ID."""
    from ._artifacts import provisional_artifacts as build

    return build(*args, **kwargs)
