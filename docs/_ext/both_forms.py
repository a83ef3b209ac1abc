r"""Pages that read well on GitHub and on the site: comments, which GitHub hides, mark what Sphinx makes more of.

| in the page | on the site |
|---|---|
| `<!-- toctree: a b -->`, or `<!-- toctree: Caption \| a b -->` | these pages in the sidebar |
| `<!-- cards -->` … `<!-- end cards -->` | each heading of the third level and its text as a card |
| `<!-- tabs -->` … `<!-- end tabs -->` | each paragraph that is one bold text begins a tab |
| `<!-- autodoc: module -->` | the docstrings of a module |
| a picture that has another one of its name with `-dark` | the one or the other, as the reader's colour scheme is |
| a link to a file outside of the documentation | a link into the repository |
"""

import importlib
import inspect
import json
import os.path
import re
import sys
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import reference
from workspace import ROOT, addresses

DOCS = ROOT / "docs"
TOP = PurePosixPath()
_TOCTREE = re.compile(r"(?m)^<!-- toctree: (?:(?P<caption>[^|]+?) \| )?(?P<pages>.+?) -->$")
_BLOCK = re.compile(r"(?ms)^<!-- (?P<kind>cards|tabs) -->\n(?P<body>.*?)^<!-- end (?P=kind) -->$")
_CARD = re.compile(r"(?m)^### (.+)\n")
_TAB = re.compile(r"(?m)^\*\*([^*\n]+)\*\*\n")
_AUTODOC = re.compile(r"(?m)^<!-- autodoc: (\S+) -->$")
_PICTURE = re.compile(r"(?ms)^!\[(?P<alt>[^\]]*)\]\((?P<path>\S+)\.png\)$")
_OUTSIDE = re.compile(r"\]\((?P<target>\.\./[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")


def for_the_site(text: str, folder: PurePosixPath = TOP) -> str:
    """Return a page's text in Sphinx's form.

    Args:
        text: The page.
        folder: Its folder below `docs`.
    """
    text = _TOCTREE.sub(toctree, text)
    text = _BLOCK.sub(lambda block: {"cards": cards, "tabs": tabs}[block["kind"]](block), text)
    text = _AUTODOC.sub(lambda found: autodoc(found[1]), text)
    text = _PICTURE.sub(lambda found: picture(found, folder), text)
    return _OUTSIDE.sub(lambda link: outside(link, folder), text)


def toctree(found: re.Match[str]) -> str:
    """Return a toctree that is visible only in the sidebar."""
    caption = f":caption: {found['caption']}\n" if found["caption"] else ""
    pages = "\n".join(found["pages"].split())
    return f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n{caption}\n{pages}\n```"


def cards(block: re.Match[str]) -> str:
    """Return a grid of cards."""
    _, *parts = _CARD.split(block["body"])
    items = [
        f":::{{grid-item-card}} {title}\n\n{text.strip()}\n:::\n"
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return "::::{grid} 1 1 2 2\n:gutter: 3\n:class-container: cards\n\n" + "\n".join(items) + "::::"


def tabs(block: re.Match[str]) -> str:
    """Return a set of tabs; tabs of one name are selected together, on all pages."""
    _, *parts = _TAB.split(block["body"])
    items = [
        f":::{{tab-item}} {title}\n:sync: {title}\n\n{text.strip()}\n:::\n"
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return "::::{tab-set}\n:sync-group: way\n\n" + "\n".join(items) + "::::"


def picture(found: re.Match[str], folder: PurePosixPath) -> str:
    """Return a picture for light pages and one for dark ones, if it has been taken twice."""
    path, alt = found["path"], " ".join(found["alt"].split())
    if not (DOCS / folder / f"{path}-dark.png").exists():
        return found[0]
    return "\n\n".join(
        f"```{{image}} {path}{suffix}.png\n:alt: {json.dumps(alt, ensure_ascii=False)}\n:class: only-{scheme}\n```"
        for scheme, suffix in (("light", ""), ("dark", "-dark"))
    )


def autodoc(name: str) -> str:
    """Return the directives that describe a module's public names."""
    module = importlib.import_module(name)
    source = reference.Module(name, Path(inspect.getsourcefile(module) or ""))
    public = list(getattr(module, "__all__", ()))
    data = [each for each in public if is_imported_data(source, module, each)]
    lines = [f".. automodule:: {name}", *(["   :imported-members:"] if public else [])]
    lines += [f"   :exclude-members: {', '.join(data)}"] if data else []
    for each in data:
        kind = type(getattr(module, each))
        about = reference.summary(source, each).replace("`", "``")
        lines += [
            "",
            f".. py:data:: {each}",
            f"   :type: {kind.__name__}",
            "",
            f"   {about}",
        ]
    body = "\n".join(lines)
    return f"```{{eval-rst}}\n{body}\n```"


def is_imported_data(source: reference.Module, module: ModuleType, name: str) -> bool:
    """Return whether a name is a value that another module documents, where autodoc does not look."""
    thing = getattr(module, name)
    if inspect.isclass(thing) or inspect.isroutine(thing):
        return False
    return not reference.documented_constant(source.tree, name)


def outside(link: re.Match[str], folder: PurePosixPath) -> str:
    """Return a link that leaves the documentation as a link into the repository."""
    path = os.path.normpath(DOCS / folder / link["target"])
    if Path(path).is_relative_to(DOCS):
        return link[0]
    kind = "tree" if Path(path).is_dir() else "blob"
    place = Path(path).relative_to(ROOT).as_posix()
    return f"]({addresses().repository}/{kind}/main/{place}{link['anchor'] or ''})"


def rewrite(_app: Sphinx, name: str, source: list[str]) -> None:
    """Rewrite a page before it is parsed."""
    source[0] = for_the_site(source[0], PurePosixPath(name).parent)


def setup(app: Sphinx) -> dict[str, Any]:
    """Rewrite each page that is read."""
    app.connect("source-read", rewrite)
    return {"version": "1", "parallel_read_safe": True}
