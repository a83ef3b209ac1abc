"""The pages of the reference: one for each public module, with its names; Sphinx adds the rest of the docstrings.

The modules are parsed and not imported, so that no dependency has to be installed.
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from workspace import ROOT, Distribution, distributions

FOLDER = ROOT / "docs" / "reference"
ABOUT = """\
Every public name, made from the docstrings of the code. Modules and names that are on none of these pages may change
in any release.
"""


class Module(NamedTuple):
    """A public module.

    Attributes:
        name: Its dotted name.
        path: Its file.
    """

    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        """Return the module's syntax tree."""
        return _parsed(self.path)


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def pages() -> dict[Path, str]:
    """Return the text of each page of the reference."""
    found = {each.name: list(modules(each)) for each in distributions().values()}
    listed = [module for each in found.values() for module in each]
    texts = {FOLDER / f"{module.name}.md": page(module) for module in listed}
    return {FOLDER / "index.md": index(found), **texts}


def modules(distribution: Distribution) -> Iterator[Module]:
    """Return a package's public modules that export or define a name."""
    source = distribution.path / "src"
    for path in sorted((source / distribution.module).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") or not part.isidentifier() for part in parts):
            module = Module(".".join(parts), path)
            if names(module):
                yield module


def names(module: Module) -> list[str]:
    """Return the public names of a module: those in `__all__`, or else its own definitions."""
    tree = module.tree
    listed = constant(tree, "__all__")
    if isinstance(listed, list):
        return sorted(listed)
    grouped = constant(tree, "_MODULES")
    if isinstance(grouped, dict):
        return sorted(name for each in grouped.values() for name in each)
    defined = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    return [name for name in defined if summary(module, name)]


def constant(tree: ast.Module, name: str) -> object:
    """Return the literal that a module assigns to a name, or None if there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in bound(node) and node.value:
            try:
                value: object = ast.literal_eval(node.value)
            except ValueError:
                return None
            return value
    return None


def bound(node: ast.stmt) -> list[str]:
    """Return the names that an assignment defines."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [each.id for each in targets if isinstance(each, ast.Name)]


def summary(module: Module, name: str) -> str:
    """Return the first sentence of a public name's docstring, from the module that defines it; empty without one."""
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return first_sentence(ast.get_docstring(node) or "")
    return documented_constant(module.tree, name) or next(
        (found for home in homes(module, name) if (found := summary(home, name))), ""
    )


def documented_constant(tree: ast.Module, name: str) -> str:
    """Return the first sentence of the docstring below an assignment."""
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))) if name in bound(node):
                return first_sentence(text)
    return ""


def homes(module: Module, name: str) -> Iterator[Module]:
    """Return the modules that a name may come from: its imports, and those in a lazy map."""
    places = []
    for node in ast.walk(module.tree):
        match node:
            case ast.ImportFrom(module=str(place), level=1, names=listed) if any(
                each.name in (name, "*") for each in listed
            ):
                places.append(place)
    lazy = constant(module.tree, "_HOMES")
    if isinstance(lazy, dict) and name in lazy:
        places.append(lazy[name].lstrip("."))
    for place in dict.fromkeys(places):
        folder = module.path.parent.joinpath(*place.split("."))
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if path.is_file():
            yield Module(f"{module.name}.{place}", path)


def first_sentence(doc: str) -> str:
    """Return the first sentence of a docstring, on one line."""
    paragraph = " ".join(doc.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.])\s", paragraph)[0].replace("``", "`").replace("|", "\\|")


def page(module: Module) -> str:
    """Return the page of a module."""
    source = module.path.relative_to(ROOT).as_posix()
    about = " ".join((ast.get_docstring(module.tree) or "").split("\n\n")[0].split())
    rows = "\n".join(f"| `{name}` | {summary(module, name)} |" for name in names(module))
    return (
        f"# {module.name}\n\n{about}\n\n| name | purpose |\n|---|---|\n{rows}\n\n"
        f"The source is [`{source}`](../../{source}).\n\n<!-- autodoc: {module.name} -->\n"
    )


def index(found: dict[str, list[Module]]) -> str:
    """Return the first page of the reference."""
    parts = ["# Reference\n", ABOUT]
    for distribution, listed in found.items():
        if listed:
            rows = [
                f"- [{module.name}]({module.name}.md): "
                f"{first_sentence(ast.get_docstring(module.tree) or '')}"
                for module in listed
            ]
            parts.append(f"## {distribution}\n\n" + "\n".join(rows) + "\n")
    every = " ".join(module.name for listed in found.values() for module in listed)
    return "\n".join([*parts, f"<!-- toctree: {every} -->\n"])
