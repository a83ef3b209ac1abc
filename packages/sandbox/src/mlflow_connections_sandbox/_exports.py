"""Lines for a shell."""

import shlex
from collections.abc import Mapping


def exports(environment: Mapping[str, str]) -> list[str]:
    """Write variables so that a shell can be given them as they are."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
