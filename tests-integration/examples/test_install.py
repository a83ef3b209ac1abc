"""The lines that install packages before the first release: from Git and from a clone, as the pages print them.

Git is configured to use a local clone for the repository's address, so a command is run as printed.
The environment has every third-party package, and none of this repository.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("packages/*/README.md")])
_BLOCK = re.compile(r"<!-- install: (.*?) -->(.*?)<!-- end install -->", re.DOTALL)
_COMMAND = re.compile(r"```console\n\$ (.*?)\n```", re.DOTALL)
_CLONE = re.compile(r"In a clone of the repository: `(.*?)`")
_REPOSITORY = re.compile(r"git\+(https://\S+?)#")
OURS = re.compile(r"_*(editable_impl_)?mlflow_connections", re.IGNORECASE)


class Printed(NamedTuple):
    """The two commands of an install block.

    Attributes:
        git: Installs from Git.
        clone: Installs from a clone.
    """

    git: str
    clone: str


def printed() -> dict[str, Printed]:
    """Read each install block once, by the requirements that it names."""
    found = {}
    for page in PAGES:
        for wanted, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
            (git,), (clone,) = _COMMAND.findall(text), _CLONE.findall(text)
            found[wanted] = Printed(git, clone)
    return found


PRINTED = printed()
# The block of the site's first page, and one that needs two of the libraries.
QUICK = ("mlflow-connections-databricks", "mlflow-connections-databand mlflow")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Git repository with the packages in their state on the disk."""
    folder = tmp_path_factory.mktemp("clone")
    left_out = shutil.ignore_patterns("__pycache__", ".*_cache", "dist", "tests")
    shutil.copytree(ROOT / "packages", folder / "packages", ignore=left_out)
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    for command in (("init", "--quiet"), ("add", "."), (*identity, "commit", "--quiet", "-m", "A")):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to all installed third-party packages."""
    folder = tmp_path_factory.mktemp("third-party")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not OURS.match(path.name) and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def shell(tmp_path: Path, clone: Path, third_party: Path) -> dict[str, str]:
    """The variables of a shell with its own environment."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "third_party.pth").write_text(f"{third_party}\n")
    pip = folder / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m pip "$@"\n')
    pip.chmod(0o755)
    addresses = {url for each in PRINTED.values() for url in _REPOSITORY.findall(each.git)}
    (address,) = addresses
    return {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{clone.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }


def run(command: str, folder: Path, shell: dict[str, str]) -> str:
    """Run a command of a page; return its output."""
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=shell, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


in_each = pytest.mark.parametrize(
    "wanted",
    [pytest.param(each, marks=() if each in QUICK else pytest.mark.slow) for each in PRINTED],
)


@in_each
def test_a_line_that_installs_from_git_works_as_printed(
    wanted: str, tmp_path: Path, shell: dict[str, str]
) -> None:
    """Pip installs everything that the page names, with the siblings that it needs."""
    assert_installed(wanted, run(PRINTED[wanted].git, tmp_path, shell))
    run("python -c 'import mlflow_connections'", tmp_path, shell)


@in_each
def test_a_line_that_installs_from_a_clone_works_as_printed(
    wanted: str, clone: Path, shell: dict[str, str]
) -> None:
    """In a clone, pip installs the same."""
    assert_installed(wanted, run(PRINTED[wanted].clone, clone, shell))


def assert_installed(wanted: str, output: str) -> None:
    """Compare the packages that pip has installed with those that a page names."""
    last = output.splitlines()[-1]
    assert last.startswith("Successfully installed")
    installed = {each.rpartition("-")[0] for each in last.split()[2:]}
    assert set(re.findall(r"mlflow-connections[\w-]*", wanted)) <= installed
