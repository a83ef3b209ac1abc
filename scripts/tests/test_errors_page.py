"""docs/errors.md has an entry for every message that a package raises or warns with, and no other."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from workspace import ROOT, distributions

PAGE = ROOT / "docs" / "errors.md"
PACKAGES = tuple(distributions())
GAP = "…"
"""Replaces a part of a message that is known only at run time."""

# The functions and classes that create errors and warnings: by name, the argument that is the
# message.
_BUILTIN = ("BlockingIOError", "FileNotFoundError", "ImportError", "OSError", "PermissionError")
_MAKERS = {
    **dict.fromkeys((*_BUILTIN, "RuntimeError", "ValueError"), 0),
    **dict.fromkeys(("ClickException", "MlflowException"), 0),
    **dict.fromkeys(("Rejected", "Unauthorized", "Unavailable"), 0),  # the outbox's own
    "refusal": 0,  # raised for MLflow's client
    "kind": 0,  # a variable that holds the class of an error
    "warning": 0,
    "invalid": 1,  # snowflake's Section
    "_warn": 1,  # the outbox's FaultLog
    "wrong.append": 0,  # its Policy
}
# Everything below these folders responds like the service that it imitates.
_SERVICES = ("_azure", "_databand", "_databricks", "_snowflake")


class Message(NamedTuple):
    """A message in the sources.

    Attributes:
        place: The module and the line.
        text: The text, with gaps.
    """

    place: str
    text: str


class Module:
    """One module, in which the text of a message may be assembled in several places."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.returned: dict[str, list[ast.expr]] = {}
        self.assigned: dict[str, list[ast.expr]] = {}
        self._following: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                self.returned[node.name] = [
                    found.value
                    for found in ast.walk(node)
                    if isinstance(found, ast.Return) and found.value is not None
                ]
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.assigned.setdefault(node.targets[0].id, []).append(node.value)
        for name, arguments in appended(self.tree):
            self.assigned.setdefault(name, []).extend(arguments)

    def texts(self, node: ast.expr) -> list[str]:
        """Return the possible texts of an expression; nothing if the module does not contain them."""
        match node:
            case ast.Constant(value=str(text)):
                return [re.sub(r"%[srdg]|%r", GAP, text)]
            case ast.JoinedStr(values=parts):
                return ["".join(chosen) for chosen in product(*map(self._part, parts))]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                befores, afters = self.texts(left) or [GAP], self.texts(right) or [GAP]
                return [before + after for before in befores for after in afters]
            case ast.IfExp(body=one, orelse=other):
                return self.texts(one) + self.texts(other)
            case ast.Lambda(body=body):
                return self.texts(body)
            case ast.Call(func=ast.Attribute(attr="join"), args=[each]):
                return self.texts(each)
            case ast.GeneratorExp(elt=each) | ast.ListComp(elt=each):
                return self.texts(each)
            case ast.Call(func=ast.Name(id=name)):
                return self._followed(name, self.returned)
            case ast.Name(id=name):
                return self._followed(name, self.assigned)
        return []

    def _followed(self, name: str, values: dict[str, list[ast.expr]]) -> list[str]:
        """Return the texts of a name; a name that is defined by itself adds none."""
        if name in self._following:
            return []
        self._following.add(name)
        found = [text for value in values.get(name, []) for text in self.texts(value)]
        self._following.remove(name)
        return found

    def _part(self, part: ast.expr) -> list[str]:
        match part:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.FormattedValue(value=ast.Name(id=name)) if (
                len(self.assigned.get(name, [])) == 1 and name not in self._following
            ):
                return self.texts(self.assigned[name][0]) or [GAP]
        return [GAP]

    def messages(self, makers: dict[str, int]) -> Iterator[Message]:
        """Return every message that this module creates."""
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call):
                continue
            at = makers.get(_name(node.func))
            if at is None or len(node.args) <= at:
                continue
            for text in self.texts(node.args[at]):
                # Without its own text it passes on another message.
                if re.search(r"[A-Za-z]", text):
                    yield Message(f"{self.path.name}:{node.lineno}", text)


def appended(tree: ast.Module) -> Iterator[tuple[str, list[ast.expr]]]:
    """Return the names of lists, and the values appended to them."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append"), args=args):
                yield name, args


def _name(function: ast.expr) -> str:
    match function:
        case ast.Attribute(value=ast.Name(id=owner), attr="append"):
            return f"{owner}.append"
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"):
            return "super().__init__"  # an error class that writes its message itself
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def sources(package: str) -> list[Path]:
    """Return a package's modules; a template with placeholders is not valid Python yet."""
    found = (ROOT / "packages" / package / "src").rglob("*.py")
    return sorted(path for path in found if "{{" not in str(path))


@cache
def error_classes() -> frozenset[str]:
    """Return the names of the family's errors, wherever they are defined."""
    found: set[str] = set()
    for path in (path for package in PACKAGES for path in sources(package)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                found.add(node.name)
    return frozenset(found)


@cache
def messages(package: str) -> tuple[Message, ...]:
    """Return all messages of a package, including those of its JavaScript."""
    makers = {**dict.fromkeys(error_classes(), 0), **_MAKERS}
    found: list[Message] = []
    for path in sources(package):
        if package == "sandbox" and any(part in _SERVICES for part in path.parts):
            continue
        own = any(
            name in path.read_text(encoding="utf-8")
            for name in ("(ConnectionsError)", "Error(Exception)")
        )
        found += Module(path).messages({**makers, **({"super().__init__": 0} if own else {})})
    for path in sorted((ROOT / "packages" / package / "src").rglob("*.js")):
        for refusal in re.finditer(r"refuse\((.*)\);", path.read_text(encoding="utf-8")):
            text = re.sub(r'"([^"]*)"|[^"]+', lambda part: part[1] or GAP, refusal[1])
            found.append(Message(path.name, text))
    return tuple(found)


def phrases(package: str) -> list[str]:
    """Return the phrases that the page's entries for a package quote."""
    name = "mlflow-connections" + ("" if package == "core" else f"-{package}")
    _, found, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {name}\n")
    assert found, f"docs/errors.md has no section '## {name}'"
    section = rest.partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    return [phrase for cell in cells for phrase in re.findall(r"`([^`]+)`", cell)]


def says(message: Message, phrase: str) -> bool:
    """Return whether a message contains a phrase, whose gaps may be any text."""
    pattern = ".*".join(re.escape(part.strip()) for part in phrase.split(GAP))
    return re.search(pattern, message.text.replace("`", "")) is not None


SPEAKING = [package for package in PACKAGES if package != "kedro-import-path"]
"""The start-up file's package raises nothing but the AttributeError of any module."""


def test_a_package_without_messages_has_no_section() -> None:
    """A package is omitted from the page only while it has no message."""
    assert messages("kedro-import-path") == ()


@pytest.mark.parametrize("package", SPEAKING)
def test_every_message_has_its_entry(package: str) -> None:
    """A message that is new, or was reworded, fails this test until the page has its entry."""
    known = phrases(package)
    found = messages(package)
    assert found
    missing = [m for m in found if not any(says(m, phrase) for phrase in known)]
    assert [f"{m.place}: {m.text}" for m in missing] == []


@pytest.mark.parametrize("package", SPEAKING)
def test_every_entry_matches_a_message(package: str) -> None:
    """An entry whose message was removed or changed is detected."""
    found = messages(package)
    assert [p for p in phrases(package) if not any(says(m, p) for m in found)] == []
