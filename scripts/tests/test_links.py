"""Every relative link of the pages has a target on GitHub, and the site's checker finds broken ones."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import check_site
from workspace import ROOT, addresses

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "packages/*/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
    if "_build" not in path.parts
)
_CODE = re.compile(r"(?ms)^( *)```.*?^\1```|<!--.*?-->|`[^`\n]+`")
_LINK = re.compile(r"\]\(\s*(?!https?:|mailto:)([^)\s]+)\s*\)")
_OWN = re.compile(r"\((" + re.escape(addresses().repository) + r"/(?:blob|tree)/main/[^)\s]*)\)")


def text_of(path: Path) -> str:
    """Read a page without its code and comments."""
    return _CODE.sub(
        lambda code: "\n" * code[0].count("\n") if "\n" in code[0] else "", path.read_text()
    )


def slugs(path: Path) -> set[str]:
    """Return the anchors that GitHub creates for a page's headings."""
    text = re.sub(r"(?ms)^( *)```.*?^\1```", "", path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#{1,6} (.+?)\s*$", text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        name, count = slug, 0
        while name in found:
            count += 1
            name = f"{slug}-{count}"
        found.add(name)
    return found


def leads_nowhere(page: Path, target: str) -> bool:
    """Return whether a link's file, or the heading in it, is missing."""
    place, _, anchor = target.partition("#")
    path = (page.parent / place).resolve() if place else page
    if not path.exists():
        return True
    return bool(anchor) and path.suffix == ".md" and anchor not in slugs(path)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_pages_links_lead_somewhere(page: Path) -> None:
    """Relative links, and those to this repository's own address, name an existing file and heading."""
    text = text_of(page)
    own = [re.sub(r".*?/main/", "", link) for link in _OWN.findall(page.read_text())]
    assert [link for link in _LINK.findall(text) if leads_nowhere(page, link)] == []
    assert [link for link in own if leads_nowhere(ROOT / "README.md", link)] == []


def test_a_broken_link_of_the_site_is_found(tmp_path: Path) -> None:
    """A missing page, a missing anchor and a missing picture are each a fault; nothing else is."""
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html#y"></a><img src="no.png"></p>')
    (tmp_path / "b.html").write_text('<a href="a.html#x"></a><a href="c.html"></a><a href="#"></a>')
    assert check_site.faults(tmp_path) == ["a.html: b.html#y", "a.html: no.png", "b.html: c.html"]
