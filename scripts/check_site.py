"""Check that every internal link of the built documentation has a target: `python scripts/check_site.py FOLDER`.

Pages, anchors, pictures, scripts and style sheets are searched for in the folder; nothing is
fetched.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Links(HTMLParser):
    """The links of one page, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(
        self,
        tag: str,  # noqa: ARG002 - the base class names it
        attrs: list[tuple[str, str | None]],
    ) -> None:
        """Record a tag's link and its name."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


def main(arguments: list[str]) -> int:
    """Print each broken link; return their number."""
    folder = Path(arguments[0]).resolve()
    broken = faults(folder)
    print(*broken, sep="\n")
    return len(broken)


def faults(folder: Path) -> list[str]:
    """Return the broken links of all pages of a folder."""
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    found = []
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchors = pages[path].anchors if path in pages else set()
            no_anchor = path in pages and unquote(parts.fragment) not in {"", *anchors}
            if not path.exists() or no_anchor:
                found.append(f"{page.relative_to(folder)}: {target}")
    return sorted(set(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
