"""The documentation's build: Sphinx with MyST and Furo. Warnings are errors (`nox -s docs`)."""

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs" / "_ext"), str(ROOT / "scripts")]
from install_lines import is_released  # noqa: E402 - its folder is not on the path before
from workspace import addresses, distributions  # noqa: E402

project = "mlflow-connections"
author = "The mlflow-connections maintainers"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name for it
release = distributions()["core"].project["version"]
if not is_released("core"):
    release += " (not released)"
version = release
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "both_forms",
    "complete_reference",
    "narrow_tables",
]
html_theme = "furo"
html_title = project
html_baseurl = f"{addresses().site}/"
html_show_sphinx = False
html_domain_indices = False
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_theme_options = {
    "source_repository": addresses().repository,
    "source_branch": "main",
    "source_directory": "docs/",
    "top_of_page_buttons": ["edit"],
}
exclude_patterns = ["_build", "_templates"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

# Names in single backticks become links if they have a target.
default_role = "py:obj"
suppress_warnings = ["ref.python"]  # a word such as `start` may be the name of several methods
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}

# A class's own docstring describes its attributes; they are omitted where autodoc would list them
# again.
napoleon_use_ivar = True


def _says_nothing(*arguments: Any) -> bool | None:
    """Omit docstrings that only number a tuple's field, and a connection's options: its guide has their table."""
    _app, _what, name, member, _skip, _options = arguments
    text = getattr(member, "__doc__", None) or ""
    is_options = name == "declared" and bool(member)
    return True if text.startswith("Alias for field number") or is_options else None


def _without_first_paragraph(*arguments: Any) -> None:
    """Remove from a module's docstring the paragraph that begins its page."""
    _app, what, _name, _module, _options, lines = arguments
    if what == "module":
        del lines[: lines.index("") if "" in lines else len(lines)]


def setup(app: Sphinx) -> None:
    """Connect these functions."""
    app.connect("autodoc-skip-member", _says_nothing)
    app.connect("autodoc-process-docstring", _without_first_paragraph)
