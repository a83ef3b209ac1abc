"""A directive that writes the table of a connection's options from what it declares.

    ```{declared-options} azureml
    ```

The table can therefore not differ from what the code reads.
"""

from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

from mlflow_connections import Option
from mlflow_connections.discovery import find_connection


class DeclaredOptions(SphinxDirective):
    """Writes one table of options and credentials of the connection that it names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        keyword = self.arguments[0]
        lines = ["| option | where | variable | default | what it is |", "|---|---|---|---|---|"]
        lines += [row(option) for option in find_connection(keyword).declared]
        parsed = nodes.container()
        source, line = self.get_source_info()
        nested_parse_with_titles(self.state, StringList(lines, f"{source}:{line}"), parsed)
        return list(parsed.children)


def row(option: Option) -> str:
    """Return an option's line of the table."""
    where = "credentials" if option.in_credentials else "`server.connection`"
    variable = f"`{option.env}`" if option.env else ""
    default = "required" if option.required else ""
    if option.default is not None:
        default = f"`{str(option.default).lower() if option.type is bool else option.default}`"
    choices = (
        f" One of {', '.join(f'`{choice}`' for choice in option.choices)}."
        if option.choices
        else ""
    )
    return f"| `{option.name}` | {where} | {variable} | {default} | {option.help}{choices} |"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("declared-options", DeclaredOptions)
    return {"version": "1", "parallel_read_safe": True}
