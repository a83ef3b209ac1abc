"""The rules of the workspace that a machine can hold."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
FAMILY = re.compile(r"mlflow_connections(?:_\w+)?")

in_each = pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)


def import_name(package: Path) -> str:
    """Give what a package is imported as: folder `x` is `mlflow_connections_x`, core bare."""
    return "mlflow_connections" + ("" if package.name == "core" else f"_{package.name}")


def test_there_are_seven_packages() -> None:
    """A package that is added or lost is noticed here."""
    names = [package.name for package in PACKAGES]
    assert names == ["azureml", "core", "databand", "databricks", "kedro", "sandbox", "snowflake"]


@in_each
def test_a_folder_names_its_distribution(package: Path) -> None:
    """Folder, distribution and import package follow one rule."""
    text = (package / "pyproject.toml").read_text()
    assert f'name = "{import_name(package).replace("_", "-")}"' in text
    assert (package / "src" / import_name(package) / "__init__.py").is_file()


@in_each
def test_each_has_what_a_release_needs(package: Path) -> None:
    """The licence is the root's to the byte, there is a changelog, and a README under 60 lines."""
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (package / "CHANGELOG.md").read_text().startswith("# Changelog")
    assert len((package / "README.md").read_text().splitlines()) < 60


@in_each
def test_a_readme_is_enough_to_begin(package: Path) -> None:
    """A README says what to install, has an example, and links to the guide.

    That its examples run is tested in tests-integration/examples.
    """
    text = (package / "README.md").read_text()
    name = import_name(package).replace("_", "-")
    assert re.search(rf"^\$ pip install '?{name}\b", text, re.MULTILINE)
    assert re.search(r"^```(python|yaml)$", text, re.MULTILINE)
    assert "github.com/mlflow-connections/mlflow-connections/" in text


@in_each
def test_arrows_point_at_core_only(package: Path) -> None:
    """No package imports a sibling, and the sandbox imports none of them, core included."""
    allowed = {import_name(package)}
    if package.name != "sandbox":
        allowed.add("mlflow_connections")
    imported = {
        (name, path.relative_to(ROOT).as_posix())
        for path in (package / "src").rglob("*.py")
        # A template with gaps of its own is no Python yet.
        if "{{" not in str(path)
        for name in imports(path)
        if FAMILY.fullmatch(name)
    }
    assert [pair for pair in sorted(imported) if pair[0] not in allowed] == []


def imports(path: Path) -> set[str]:
    """Give the top-level names that a module imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
