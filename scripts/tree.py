"""Write the tree of modules into CONTRIBUTING.md: `python scripts/tree.py`.

Each module is listed with the first sentence of its docstring, which reveals a module without a
clear purpose.
"""

import ast
import re
import sys
from pathlib import Path

from workspace import ROOT, Distribution, distributions

PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- tree: begin, written by scripts/tree.py -->", "<!-- tree: end -->"
_LONGEST = 118  # characters of a line


def main() -> int:
    """Write the tree."""
    PAGE.write_text(with_tree(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def with_tree(text: str) -> str:
    """Return a page's text with the current tree.

    Raises:
        ValueError: The page has no place for it.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks the lines '{BEGIN}' and '{END}'.")
    parts = [package(each) for each in distributions().values()]
    return f"{before}{BEGIN}\n\n{''.join(parts)}{END}{after}"


def package(distribution: Distribution) -> str:
    """Return one package's part."""
    folder = distribution.path / "src" / distribution.module
    lines = "\n".join(rooms(folder, 0))
    summary = f"<b>packages/{distribution.folder}</b>: {sentence(folder / '__init__.py')}"
    return f"<details>\n<summary>{summary}</summary>\n\n```text\n{lines}\n```\n\n</details>\n\n"


def rooms(folder: Path, depth: int) -> list[str]:
    """Return the lines of a folder: its modules, then its subfolders with theirs."""
    lines = [
        line("  " * depth + path.stem, sentence(path))
        for path in sorted(folder.glob("*.py"))
        if path.name != "__init__.py"
    ]
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file()):
        lines.append(line("  " * depth + f"{inner.name}/", sentence(inner / "__init__.py")))
        lines += rooms(inner, depth + 1)
    return lines


def line(name: str, text: str) -> str:
    """Return a module's line, cut to a readable width."""
    whole = f"{name:<26} {text}".rstrip()
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 1].rstrip()}…"


def sentence(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(doc.split("\n\n")[0].split())
    return re.split(r"(?<=[.])\s", paragraph)[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
