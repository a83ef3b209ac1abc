"""The architecture's rules that a test can check: dependencies, circles, MLflow's private names, unique names."""

import ast
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from workspace import LIBRARIES, ROOT, Distribution, distributions

FOUND = distributions()
MODULES = {each.module: each for each in FOUND.values()}
KEYWORDS = "kedro_mlflow.connections"
DOTTED = re.compile(r"mlflow(\.\w+)+")

in_each = pytest.mark.parametrize("package", FOUND.values(), ids=lambda each: each.folder)


def sources(package: Distribution) -> dict[str, Path]:
    """Return a package's modules by dotted name; a template with placeholders is not valid Python yet."""
    source = package.path / "src"
    found = {}
    for path in sorted(source.rglob("*.py")):
        if "{{" not in str(path):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path) -> Iterator[tuple[str, str | None]]:
    """Read the imports of a module, including lazy and type-only ones: the module, and a name from it or None."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")
            base = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def family(package: Distribution) -> dict[str, set[str]]:
    """Return the modules of the family that each module of a package imports."""
    everything = {name for each in FOUND.values() for name in sources(each)}
    graph: dict[str, set[str]] = {}
    for name, path in sources(package).items():
        graph[name] = set()
        for module, attribute in imports(name, path):
            inner = f"{module}.{attribute}"
            target = inner if attribute and inner in everything else module
            # An import from the package's own __init__ alone is not a circle.
            if target in everything and target != name:
                graph[name].add(target)
    return graph


@in_each
def test_imports_follow_the_declared_dependencies(package: Distribution) -> None:
    """A package imports itself and the siblings that its pyproject.toml declares."""
    allowed = {package.module, *(FOUND[each].module for each in package.siblings)}
    found = {
        f"{name} imports {module}"
        for name, path in sources(package).items()
        for module, _ in imports(name, path)
        if module.split(".")[0] in MODULES and module.split(".")[0] not in allowed
    }
    assert found == set()


@in_each
def test_only_libraries_are_imported(package: Distribution) -> None:
    """Products import libraries and never products; core imports nothing of the family."""
    assert set(package.siblings) <= LIBRARIES
    order = ("core", "outbox", "events")
    if package.folder in order:
        below = order[: order.index(package.folder)]
        assert set(package.siblings) <= set(below)


@in_each
def test_libraries_own_no_keyword(package: Distribution) -> None:
    """A library's installation adds no keyword to `tracking_uri`."""
    if package.folder in LIBRARIES:
        assert KEYWORDS not in package.project.get("entry-points", {})


def test_core_names_the_packages_of_commands() -> None:
    """Core names the right package for each command of the family, if that package is not installed."""
    names = {
        name: package.project["name"]
        for package in FOUND.values()
        for name in package.project.get("entry-points", {}).get("mlflow_connections.commands", {})
    }
    source = (FOUND["core"].path / "src/mlflow_connections/_commands.py").read_text("utf-8")
    (known,) = re.findall(r"(?s)^KNOWN_COMMANDS = (\{.*?\})$", source, re.MULTILINE)
    assert ast.literal_eval(known) == names


def test_no_import_circle() -> None:
    """No module imports itself through others, not even lazily or for type hints."""
    found = [circle(family(package)) for package in FOUND.values()]
    assert [each for each in found if each] == []


def circle(graph: dict[str, set[str]]) -> str:
    """Return a circle of a graph as text, or an empty text if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(error.args[1])
    return ""


def test_private_names_of_mlflow_have_one_place() -> None:
    """Only `_mlflow.py` of a package imports or uses names of MLflow that begin with an underscore.

    Benchmarks and integration tests use MLflow as its users do, also in the programs that they run.
    """
    outside = (
        path
        for folder in ("benchmarks", "tests-integration", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )
    ours = (path for package in FOUND.values() for path in sources(package).values())
    found = [
        f"{path.relative_to(ROOT).as_posix()}: {private}"
        for path in (*ours, *outside)
        if path.name != "_mlflow.py" and "{{" not in str(path)
        for private in sorted(set(private_names(ast.parse(path.read_text(encoding="utf-8")))))
    ]
    assert found == []


def test_loggers_and_causes_are_masked() -> None:
    """A package logs through core's masked loggers, and raises from a masked cause or from none.

    The sandbox responds as a service does, with its own secrets; starters are a user's code.
    """
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{line}"
        for package in FOUND.values()
        if package.folder != "sandbox"
        for name, path in sources(package).items()
        if name != "mlflow_connections.secrets" and "{{" not in str(path)
        for line in unmasked(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def unmasked(tree: ast.Module) -> Iterator[int]:
    """Return the lines that create a logger of the standard library, or raise from a bare exception."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="logging"), attr="getLogger"):
                yield node.lineno
            case ast.Raise(cause=ast.Name()):
                yield node.lineno


def private_names(tree: ast.Module) -> Iterator[str]:
    """Return the private names of MLflow that a module, or a program in it, imports or reads."""
    bound: set[str] = set()
    for name, full in bindings(tree):
        bound.add(name)
        if is_private(full.split(".")):
            yield full
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if DOTTED.fullmatch(text):
                if is_private(text.split(".")):
                    yield text
            case ast.Constant(value=str(text)) if "import mlflow" in text or "from mlflow" in text:
                with suppress(SyntaxError):  # prose
                    yield from private_names(ast.parse(textwrap.dedent(text)))
        names = chain(node) if isinstance(node, ast.Attribute) else []
        if names and names[0] in bound and is_private(names[-1:]):
            yield ".".join(names)


def bindings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Return a module's imports from MLflow: the local name, and the full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "mlflow":
                    yield alias.asname or "mlflow", alias.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mlflow":
            yield from (
                (alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names
            )


def chain(node: ast.expr) -> list[str]:
    """Return the names of a dotted expression, or nothing if it does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []


def is_private(names: Iterable[str]) -> bool:
    """Return whether a dotted name has a part that begins with one underscore."""
    return any(name.startswith("_") and not name.startswith("__") for name in names)


def test_a_class_name_is_defined_once() -> None:
    """No two modules of the family define a public class of the same name."""
    places = defaultdict(set)
    for package in FOUND.values():
        for name, path in sources(package).items():
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].add(name)
    found = [
        f"{name} in {', '.join(sorted(where))}" for name, where in places.items() if len(where) > 1
    ]
    assert sorted(found) == []
