"""Tables that fit a phone: each cell has its column's heading, which the style sheet shows on narrow screens.

On a narrow screen a row becomes a block with one cell below another (`_static/site.css`). Browsers
then drop the table's roles, so they are written explicitly for screen readers.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def columns(_app: Sphinx, doctree: nodes.document, _name: str) -> None:
    """Write its column's heading into each cell, and mark the empty ones, which a phone does not show."""
    for group in doctree.findall(nodes.tgroup):
        heads = [entry.astext() for head in group.findall(nodes.thead) for entry in entries(head)]
        for body in group.findall(nodes.tbody):
            for row in body.findall(nodes.row):
                for entry, heading in zip(row.children, heads, strict=False):
                    if isinstance(entry, nodes.entry):
                        entry["heading"] = heading
                        if not entry.astext():
                            entry["classes"].append("empty")


def entries(head: nodes.thead) -> list[nodes.entry]:
    """Return the cells of a table's head."""
    return list(head.findall(nodes.entry))


def visit_entry(self: HTML5Translator, node: nodes.entry) -> None:
    """Write a cell's opening tag with the heading and its role."""
    HTML5Translator.visit_entry(self, node)
    tag = self.body[-1]
    if "heading" in node:
        heading = self.attval(node["heading"])
        self.body[-1] = tag.replace("<td", f'<td role="cell" data-heading="{heading}"', 1)
    else:
        self.body[-1] = tag.replace("<th", '<th role="columnheader"', 1)


def depart_entry(self: HTML5Translator, node: nodes.entry) -> None:
    """Close a cell."""
    HTML5Translator.depart_entry(self, node)


def visit_row(self: HTML5Translator, node: nodes.row) -> None:
    """Write a row's opening tag with its role."""
    HTML5Translator.visit_row(self, node)
    self.body[-1] = self.body[-1].replace("<tr", '<tr role="row"', 1)


def depart_row(self: HTML5Translator, node: nodes.row) -> None:
    """Close a row."""
    HTML5Translator.depart_row(self, node)


def setup(app: Sphinx) -> dict[str, Any]:
    """Replace the writers of HTML cells and rows."""
    app.connect("doctree-resolved", columns)
    app.add_node(nodes.entry, override=True, html=(visit_entry, depart_entry))
    app.add_node(nodes.row, override=True, html=(visit_row, depart_row))
    return {"version": "1", "parallel_read_safe": True}
