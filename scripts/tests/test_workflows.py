"""The workflows are valid, pinned and safe, and their shell steps work."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import changed
from workspace import ROOT, distributions

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROGRAMS = Path(sys.executable).parent
SCHEMA = ("--builtin-schema", "vendor.github-workflows")

in_each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def steps(file: Path) -> Iterator[dict[str, Any]]:
    """Read the steps of all jobs of a workflow."""
    for job in yaml.safe_load(file.read_text())["jobs"].values():
        yield from job["steps"]


def run_step(name: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a named shell step as a runner does, with its outputs in a file."""
    (script,) = {step["run"] for file in FILES for step in steps(file) if step.get("name") == name}
    (folder / "output").touch()
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(folder / "output"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the scripts and packages of this repository, as in a checkout."""
    for name in ("scripts", "packages", "noxfile.py", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@in_each
def test_a_workflow_fits_the_schema(file: Path) -> None:
    """GitHub's own schema of workflows accepts each file."""
    check = [str(PROGRAMS / "check-jsonschema"), *SCHEMA, str(file)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_workflows_are_safe() -> None:
    """Zizmor finds no way to inject code, leak a token or swap an action."""
    check = [str(PROGRAMS / "zizmor"), "--offline", "--no-progress", *map(str, FILES)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@in_each
def test_actions_are_pinned(file: Path) -> None:
    """Each action is named by a commit, with its version in a comment."""
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used
    assert [each for each in used if not re.fullmatch(r"\S+@[0-9a-f]{40} # v\S+", each)] == []


def test_a_wrong_tag_fails_the_release(checkout: Path) -> None:
    """A tag that the changelog or the version contradicts ends the job, with a reason."""
    name = "Check that tag, version and changelog agree"
    done = run_step(name, checkout, GITHUB_REF_NAME="core-v99.0.0")
    assert done.returncode != 0
    assert "core-v99.0.0" in done.stderr
    assert (checkout / "output").read_text() == ""


def test_a_right_tag_names_its_folder(tmp_path: Path) -> None:
    """The folder to build is an output of the step."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "release.py").write_bytes((ROOT / "scripts/release.py").read_bytes())
    folder = tmp_path / "packages" / "core"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('version = "1.2.0"\n')
    (folder / "CHANGELOG.md").write_text("## 1.2.0 (2026-11-25)\n\n- New.\n")
    name = "Check that tag, version and changelog agree"
    done = run_step(name, tmp_path, GITHUB_REF_NAME="core-v1.2.0")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_text() == "folder=packages/core\n"


def jobs_of_every_change() -> list[str]:
    """Return the sessions of the job that runs for every pull request."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    names: list[str] = workflow["jobs"]["check"]["strategy"]["matrix"]["session"]
    return names


def test_the_plan_lists_every_session_for_main(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a base everything is tested: each package, each group, and macOS for some."""
    done = run_step("Choose the sessions", checkout, BASE="")
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=", 1) for line in (checkout / "output").read_text().splitlines())
    assert json.loads(found["unit"]) == [f"unit({each})" for each in distributions()]
    assert "integration(kedro-mlflow)" in json.loads(found["integration"])
    monkeypatch.syspath_prepend(str(ROOT))
    import noxfile

    listed = {name for names in found.values() for name in json.loads(names)}
    assert listed | set(jobs_of_every_change()) == set(noxfile.DEFAULT)
    assert "unit(core)" in json.loads(found["macos"])


def test_the_nightly_plan_lists_the_matrix(checkout: Path) -> None:
    """The nightly matrix is nox's own list for the tag."""
    done = run_step("List the sessions", checkout)
    assert done.returncode == 0, done.stderr
    sessions = json.loads((checkout / "output").read_text().partition("=")[2])
    assert "matrix_python-3.13(core)" in sessions
    assert "slow(outbox)" in sessions
    assert len(sessions) <= 256  # the maximum number of jobs in a matrix


def test_a_change_of_one_package_tests_its_dependents() -> None:
    """A change of a connection tests that connection and the groups that install it."""
    chosen = changed.plan(["packages/databricks/src/mlflow_connections_databricks/_connection.py"])
    assert chosen["unit"] == ["unit(databricks)"]
    assert "integration(databricks)" in chosen["integration"]
    assert "integration(snowflake)" not in chosen["integration"]
    assert chosen["macos"] == []


def test_a_change_of_core_tests_all_dependents() -> None:
    """All packages that need a changed one are tested with it, and no others."""
    unit = changed.plan(["packages/core/src/mlflow_connections/_use.py"])["unit"]
    assert {"unit(kedro)", "unit(sandbox)"} <= set(unit)
    unit = changed.plan(["packages/outbox/src/mlflow_connections_outbox/_writer.py"])["unit"]
    assert "unit(databand)" in unit
    assert not {"unit(core)", "unit(kedro)", "unit(sandbox)"} & set(unit)


def test_a_change_of_a_page_runs_the_examples() -> None:
    """A page's change runs the pages' examples and no package's tests."""
    assert changed.plan(["docs/kedro.md"]) == {
        "unit": [],
        "integration": ["integration(examples)"],
        "macos": [],
    }
