"""The tables of a connection's options, from what it declares."""

import importlib
import sys
from typing import Any

from workspace import ROOT, distributions

GROUP = "kedro_mlflow.connections"


def table(keyword: str) -> str:
    """Return the table of the options and credentials of a connection.

    Raises:
        KeyError: No package of this repository registers the keyword.
    """
    lines = ["| option | set in | variable | default | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *map(row, connection(keyword).declared)])


def connection(keyword: str) -> Any:
    """Import a connection from this repository, whether it is installed or not."""
    places = {
        key: place
        for each in distributions().values()
        for key, place in each.project.get("entry-points", {}).get(GROUP, {}).items()
    }
    if keyword not in places:
        raise KeyError(f"no package registers the keyword '{keyword}'")
    for path in sorted(ROOT.glob("packages/*/src")):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    module, _, attribute = places[keyword].partition(":")
    return getattr(importlib.import_module(module), attribute)


def row(option: Any) -> str:
    """Return an option's line of the table."""
    place = "credentials" if option.in_credentials else "`server.connection`"
    variable = f"`{option.env}`" if option.env else ""
    default = "required" if option.required else ""
    if option.default is not None:
        default = f"`{str(option.default).lower() if option.type is bool else option.default}`"
    choices = ", ".join(f"`{choice}`" for choice in option.choices or ())
    meaning = f"{option.help} One of {choices}." if choices else option.help
    return f"| `{option.name}` | {place} | {variable} | {default} | {meaning} |".replace("  ", " ")
