"""The release script, on a copy of the workspace's files."""

import datetime as dt
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = "# Changelog\n\n## Unreleased\n\n- Something new.\n"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace of two packages."""
    for name in ("core", "kedro"):
        folder = tmp_path / "packages" / name
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "0.1.0"\n')
        (folder / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def test_a_release_touches_one_package(
    script: ModuleType, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version and changelog of only that package change, and the tag is printed."""
    other = (workspace / "packages/kedro/pyproject.toml").read_text()
    assert script.main(["core", "0.2.0"], workspace) == 0
    assert capsys.readouterr().out == "core-v0.2.0\n"
    assert 'version = "0.2.0"' in (workspace / "packages/core/pyproject.toml").read_text()
    changelog = (workspace / "packages/core/CHANGELOG.md").read_text()
    assert changelog.index("## Unreleased") < changelog.index("## 0.2.0 (20")
    assert changelog.index("## 0.2.0 (20") < changelog.index("- Something new.")
    assert (workspace / "packages/kedro/pyproject.toml").read_text() == other


def test_the_first_release_has_the_initial_version(script: ModuleType, workspace: Path) -> None:
    """0.1.0 can be released, once."""
    assert script.main(["core", "0.1.0"], workspace) == 0
    assert script.main(["core", "0.1.0"], workspace) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cor", "1.0"], "no package 'cor'; there are core, kedro"),
        (["core", "one"], "'one' is not a version"),
        (["core", "1.0-rc1"], "Write the version as 1.0rc1"),
        (["--check", "core"], "not a tag of a release"),
        (["--check", "core-v9.9"], "has version 0.1.0"),
        (["--check", "core-v0.1.0"], "no dated section 0.1.0"),
    ],
)
def test_an_invalid_release_is_refused(
    arguments: list[str],
    said: str,
    script: ModuleType,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence contains the reason, and nothing is changed."""
    assert script.main(arguments, workspace) == 1
    assert said in capsys.readouterr().err
    assert (workspace / "packages/core/CHANGELOG.md").read_text() == CHANGELOG


def test_nothing_to_release_is_refused(
    script: ModuleType, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version without notes is refused."""
    (workspace / "packages/core/CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    assert script.main(["core", "0.2.0"], workspace) == 1
    assert "nothing under '## Unreleased'" in capsys.readouterr().err
    assert 'version = "0.1.0"' in (workspace / "packages/core/pyproject.toml").read_text()


def test_a_tag_is_checked_against_the_release(
    script: ModuleType, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tag that a release prints is accepted, and names the folder to build."""
    script.main(["kedro", "0.2.0"], workspace)
    tag = capsys.readouterr().out.strip()
    assert script.main(["--check", tag], workspace) == 0
    assert capsys.readouterr().out == "packages/kedro\n"


def test_a_folder_of_several_words_has_tags_too(script: ModuleType, workspace: Path) -> None:
    """`kedro-import-path-v0.1.0` names the folder `kedro-import-path`."""
    (workspace / "packages/kedro").rename(workspace / "packages/kedro-import-path")
    tag = script.release("kedro-import-path", "0.1.0", dt.date(2026, 11, 25), workspace)
    assert script.check(tag, workspace) == "packages/kedro-import-path"


def test_a_release_turns_the_install_lines_to_pypi(tmp_path: Path) -> None:
    """Pages name Git until everything that they install is released, and then PyPI."""
    left_out = shutil.ignore_patterns("__pycache__", "_build", "tests", ".*_cache")
    for name in ("docs", "packages", "scripts", ".github"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=left_out)
    for name in ("README.md", "CONTRIBUTING.md", "noxfile.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    page = tmp_path / "packages" / "databricks" / "README.md"
    for package, source in (("core", "Git"), ("databricks", "PyPI")):
        changelog = tmp_path / "packages" / package / "CHANGELOG.md"
        changelog.write_text(CHANGELOG)
        script = tmp_path / "scripts" / "release.py"
        subprocess.run([sys.executable, script, package, "0.1.0"], check=True, capture_output=True)
        lines = re.findall(r"(?m)^\$ pip install (.*)$", page.read_text())
        assert lines == ["\\" if source == "Git" else "mlflow-connections-databricks"]
