"""The tables of a connection's options, from its declarations."""

import importlib
import sys
from typing import Any

from workspace import ROOT, distributions

GROUP = "kedro_mlflow.connections"
OPTIONS = "Options, under `server.connection` in Kedro's `mlflow.yml`, in a connections file, or in `use`:"
CREDENTIALS = "Credentials, in an entry of `credentials.yml`, by their source in a connections file, or in `use`:"
HEAD = ("| name | variable | meaning |", "|---|---|---|")


def table(keyword: str) -> str:
    """Return the tables of a connection's options and of its credentials, without empty ones.

    Raises:
        KeyError: No package of this repository registers the keyword.
    """
    declared = connection(keyword).declared
    parts = []
    for title, in_credentials in ((OPTIONS, False), (CREDENTIALS, True)):
        rows = [row(each) for each in declared if each.in_credentials is in_credentials]
        if rows:
            parts.append("\n".join([title, "", *HEAD, *rows]))
    return "\n\n".join(parts)


def connection(keyword: str) -> Any:
    """Import a connection from this repository, whether or not it is installed."""
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
    """Return an option's row of the table."""
    variable = f"`{option.env}`" if option.env else ""
    meaning = str(option.help)
    if option.choices:
        meaning += f" One of {', '.join(f'`{choice}`' for choice in option.choices)}."
    if option.required:
        meaning += " Required."
    if option.default is not None:
        default = str(option.default).lower() if option.type is bool else option.default
        meaning += f" Default: `{default}`."
    return f"| `{option.name}` | {variable} | {meaning} |".replace("  ", " ")
