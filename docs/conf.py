"""The documentation's build: Sphinx with MyST and Furo. Warnings are errors (`nox -s docs`)."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "mlflow-connections"
author = "The mlflow-connections maintainers"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name for it
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "complete_reference",
    "declared_options",
]
html_theme = "furo"
html_title = project
html_show_sphinx = False
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}

# Attributes are told in the class's own docstring; a NamedTuple's fields would show a second time.
napoleon_use_ivar = True


def _is_field(*arguments: object) -> bool | None:
    """Leave out what says only which place of a tuple it is."""
    _app, _what, _name, member, _skip, _options = arguments
    text = getattr(member, "__doc__", None) or ""
    return True if text.startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-skip-member", _is_field)
