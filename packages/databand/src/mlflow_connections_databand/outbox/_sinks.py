"""Building a sink from what a destination notes, in whichever process sends."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import cast

from ._events import Destination, Sink


def make_sink(destination: Destination, secrets: Mapping[str, str]) -> Sink:
    """Call the factory of a destination.

    Args:
        destination: Names the factory.
        secrets: Variables that stand over those of this process.

    Raises:
        ImportError: There is no such factory.
    """
    module, _, function = destination.factory.partition(":")
    try:
        factory = getattr(import_module(module), function)
    except AttributeError as error:
        raise ImportError(f"{destination.factory} does not exist.") from error
    return cast("Sink", factory(destination, {**os.environ, **secrets}))
