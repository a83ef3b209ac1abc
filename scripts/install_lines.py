"""The commands that install packages: from PyPI once they are released, before from Git."""

import re

from workspace import ROOT, addresses, distributions, with_siblings

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?P<extras>\[[\w,-]+\])?")
_RELEASED = re.compile(r"(?m)^## \d[0-9a-z.]* \(\d{4}-\d\d-\d\d\)$")
TESTED_BY = "tests-integration/examples/test_install.py runs it"


def block(requirements: str) -> str:
    """Return a console block that installs requirements, such as `mlflow-connections-sandbox[azureml] mlflow`.

    Raises:
        ValueError: A requirement has another form.
    """
    wanted = requirements.split()
    ours, others = sorted_out(wanted)
    if all(map(is_released, ours)):
        return f"```console\n$ pip install {' '.join(map(quoted, wanted))}\n```"
    git = [f'"{from_git(folder, extras)}"' for folder, extras in ours.items()]
    clone = [quoted(f"./packages/{folder}{extras}") for folder, extras in ours.items()]
    others = list(map(quoted, others))
    command = " \\\n    ".join(["pip install", *git, *others])
    return (
        f'<!--- skip: next "{TESTED_BY}" --->\n```console\n$ {command}\n```\n\n'
        f"In a clone of the repository: `pip install {' '.join([*clone, *others])}`."
    )


def sorted_out(requirements: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the folders to install with their extras, including their siblings, and the other requirements."""
    folders = {each.name: folder for folder, each in distributions().items()}
    wanted: dict[str, str] = {}
    others = []
    for requirement in requirements:
        found = _REQUIREMENT.fullmatch(requirement)
        if found is None:
            raise ValueError(f"'{requirement}' is not a requirement")
        if found["name"] in folders:
            wanted[folders[found["name"]]] = found["extras"] or ""
        else:
            others.append(requirement)
    needed = dict.fromkeys(each for folder in wanted for each in with_siblings(folder))
    return {folder: wanted.get(folder, "") for folder in needed}, others


def from_git(folder: str, extras: str = "") -> str:
    """Return the requirement that installs a package of this repository from Git."""
    name = distributions()[folder].name
    return f"{name}{extras} @ git+{addresses().repository}#subdirectory=packages/{folder}"


def quoted(requirement: str) -> str:
    """Return a requirement quoted for a shell."""
    return f"'{requirement}'" if "[" in requirement else requirement


def is_released(folder: str) -> bool:
    """Return whether a package is on PyPI: its changelog then has a dated section."""
    changelog = ROOT / "packages" / folder / "CHANGELOG.md"
    return _RELEASED.search(changelog.read_text(encoding="utf-8")) is not None
