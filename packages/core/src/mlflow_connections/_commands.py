"""Commands that other distributions add to `mlflow-connections`.

An entry point in the group `mlflow_connections.commands` names a function that takes the arguments
after the command and returns the exit code. Nothing is imported until its command is run.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from ._errors import (
    AmbiguousConnectionError,
    MissingDependencyError,
    PluginLoadError,
    PluginTypeError,
)
from .secrets import masked

COMMAND_GROUP = "mlflow_connections.commands"

KNOWN_COMMANDS = {"mirror": "mlflow-connections-mirror", "outbox": "mlflow-connections-outbox"}
"""The distribution of each command of this family, named in the error if a command is not installed."""

Run = Callable[[Sequence[str]], int | None]


class InstalledCommand(NamedTuple):
    """A command and the distribution that adds it."""

    name: str
    distribution: str
    entry_point: EntryPoint


def installed_commands() -> list[InstalledCommand]:
    """Read the commands that installed distributions add, sorted by name."""
    found = {
        (point.name, point.value, point.dist.name if point.dist else ""): point
        for point in entry_points(group=COMMAND_GROUP)
    }
    return sorted(
        InstalledCommand(name, distribution or "an unnamed distribution", point)
        for (name, _, distribution), point in found.items()
    )


def load_command(name: str) -> Run | None:
    """Import the function behind a command, or return None if no distribution adds it.

    Raises:
        AmbiguousConnectionError: Two distributions add the command.
        MissingDependencyError: The command is one of this family, and its distribution is not installed.
        PluginLoadError: Its import failed; the cause is chained.
        PluginTypeError: The entry point names something that cannot be called.
    """
    owners = [command for command in installed_commands() if command.name == name]
    if not owners:
        if name in KNOWN_COMMANDS:
            raise MissingDependencyError(
                f"The command '{name}' is in {KNOWN_COMMANDS[name]}, which is not installed. "
                f"Run: pip install {KNOWN_COMMANDS[name]}."
            )
        return None
    if len(owners) > 1:
        names = " and ".join(owner.distribution for owner in owners)
        raise AmbiguousConnectionError(
            f"The command '{name}' is added by {names}. Uninstall one of them."
        )
    (owner,) = owners
    try:
        run = owner.entry_point.load()
    except Exception as error:  # noqa: BLE001 - raised again
        raise PluginLoadError(
            f"Failed to load the command '{name}' ({owner.entry_point.value}, from "
            f"{owner.distribution}): {type(error).__name__}: {error}. "
            f"Reinstall or uninstall {owner.distribution}."
        ) from masked(error)
    if not callable(run):
        raise PluginTypeError(
            f"The command '{name}' from {owner.distribution} is a {type(run).__name__}, not a "
            "function; its entry point must name one that takes the arguments."
        )
    function: Run = run
    return function
