"""The workspace's rules that a test can check."""

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tree import PAGE, with_tree
from workspace import ROOT, distributions

PACKAGES = [each.path for each in distributions().values()]
DESIGNED = {
    *("core", "outbox", "events", "kedro", "kedro-import-path", "databricks", "azureml", "http"),
    *("durable", "mirror", "databand", "snowflake", "sandbox"),
}

in_each = pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)


def import_name(package: Path) -> str:
    """Return the import name of a package: folder `x` is `mlflow_connections_x`, core bare."""
    suffix = package.name.replace("-", "_")
    return "mlflow_connections" + ("" if package.name == "core" else f"_{suffix}")


def test_each_package_is_in_the_design() -> None:
    """A folder that the README's table or the design does not contain is detected."""
    assert {package.name for package in PACKAGES} <= DESIGNED
    readme = (ROOT / "README.md").read_text()
    for package in PACKAGES:
        name = import_name(package).replace("_", "-")
        assert f"`{name}`" in readme, f"README.md does not list {name}"


@in_each
def test_the_pages_install_it(package: Path) -> None:
    """The page that installs every package has a line for this one."""
    name = import_name(package).replace("_", "-")
    text = (ROOT / "docs" / "install.md").read_text()
    assert re.search(rf"^<!-- install: (?:.* )?{name}[\[ ]", text, re.MULTILINE)


@in_each
def test_hatch_installs_it(package: Path) -> None:
    """The one editable environment has every package."""
    assert f'"packages/{package.name}"' in (ROOT / "hatch.toml").read_text()


@in_each
def test_mypy_finds_its_sources(package: Path) -> None:
    """Mypy gets the module names of a package from its path in the root's settings."""
    (line,) = re.findall(
        r'^mypy_path = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert f"packages/{package.name}/src" in line.split(":")


@in_each
def test_a_folder_names_its_distribution(package: Path) -> None:
    """Folder, distribution and import package follow one rule."""
    text = (package / "pyproject.toml").read_text()
    assert f'name = "{import_name(package).replace("_", "-")}"' in text
    assert (package / "src" / import_name(package) / "__init__.py").is_file()


@in_each
def test_each_has_the_files_of_a_release(package: Path) -> None:
    """The licence is identical to the root's, there is a changelog, and a README under 60 lines.

    The generated lines that install it do not count.
    """
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    title = f"# Changelog of {import_name(package).replace('_', '-')}\n\n## Unreleased\n\n"
    assert (package / "CHANGELOG.md").read_text().startswith(title)
    readme = (package / "README.md").read_text()
    written = re.sub(r"(?s)<!-- install: .*?<!-- end install -->", "", readme)
    assert len(written.splitlines()) < 60


@in_each
def test_a_readme_is_enough_to_begin(package: Path) -> None:
    """A README contains an install line, an example, and a link to the guide.

    tests-integration/examples tests that its examples run.
    """
    text = (package / "README.md").read_text()
    name = import_name(package).replace("_", "-")
    assert re.search(rf"^<!-- install: {name}\b", text, re.MULTILINE)
    assert re.search(r"^```(python|yaml)$", text, re.MULTILINE)
    assert "github.com/mlflow-connections/mlflow-connections/" in text


GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.name)
def test_a_page_with_examples_has_install_lines(page: Path) -> None:
    """A reader of one page finds a line that installs its packages, or a link to all of them."""
    text = page.read_text(encoding="utf-8")
    if re.search(r"(?m)^ *```(python|console)$", text):
        assert "<!-- install: " in text or "(install.md" in text


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.name)
def test_install_lines_are_generated(page: Path) -> None:
    """The generator, which knows whether a package is on PyPI, writes them; messages name PyPI's."""
    text = re.sub(
        r"(?s)<!-- install: .*?<!-- end install -->", "", page.read_text(encoding="utf-8")
    )
    quoting_messages = page.name in ("errors.md", "install.md")
    assert quoting_messages or not re.search(r"pip install ['\"]?mlflow-connections", text)


def test_generated_parts_of_the_pages_are_as_generated() -> None:
    """Install lines, options, versions, the reference and all addresses agree with the code.

    Run `python scripts/pages.py` if this fails.
    """
    command = [sys.executable, str(ROOT / "scripts" / "pages.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `python scripts/pages.py`\n{done.stdout}{done.stderr}"


def test_the_tree_in_contributing_is_the_tree_on_the_disk() -> None:
    """A module that is added, removed or described differently is detected until `python scripts/tree.py` runs."""
    text = PAGE.read_text(encoding="utf-8")
    assert with_tree(text) == text


_OPENERS = re.compile(r'(?m)^\s*r?"""(?:What|Where|Who|Whose|Give|Gives|Tell|Tells) .*')
# Words of older or translated English; docs, comments and messages use the common ones.
_ODD = re.compile(
    r"\b(?:mend(?:s|ed|ing)?|cure[sd]?|whoever|beside|anew|thereof|be\s+it|so\s+to\s+say|as\s+it\s+were|"
    r"said\s+to\s+be|the\s+latter|belongs?\s+into|so\s+as\s+to|forced?\s+to\s+the\s+disk)\b",
    re.IGNORECASE,
)
_FOLDERS = (
    "packages",
    "scripts",
    "tests-integration",
    "tests-shared",
    "benchmarks",
    "docs",
    "examples",
)


def _sources() -> list[tuple[str, str]]:
    paths = [
        path
        for folder in _FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "{{" not in str(path) and path != Path(__file__).resolve()
    ]
    return [
        (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for path in [*paths, ROOT / "noxfile.py"]
    ]


def test_no_docstring_opens_with_a_clause() -> None:
    """A docstring names its thing or its act: no What, Where or Who in place of a noun, no Give or Tell."""
    found = [
        f"{path}: {line.strip()}" for path, text in _sources() for line in _OPENERS.findall(text)
    ]
    assert found == []


def test_prose_uses_common_words() -> None:
    """Docstrings, comments and messages contain no word that a reader would have to look up or translate."""
    found = [
        f"{path}:{token.start[0]}: {match.group()}"
        for path, text in _sources()
        if _ODD.search(text)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type != tokenize.NAME
        for match in _ODD.finditer(token.string)
    ]
    assert found == []
