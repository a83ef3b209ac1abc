"""The table of versions, from the packages' metadata and the noxfile's matrix."""

import sys
from collections.abc import Iterable
from typing import Any

from packaging.requirements import Requirement
from workspace import ROOT, Distribution, distributions

MLFLOW = ("mlflow", "mlflow-skinny")


def table(name: str) -> str:
    """Return a table: `packages`, the versions that each package needs and was tested with.

    Raises:
        KeyError: There is no such table.
    """
    return {"packages": packages}[name]()


def packages() -> str:
    """Return a row for each package."""
    noxfile = the_noxfile()
    lines = ["| package | Python | MLflow | tested with | Kedro | tested with |"]
    lines.append("|---|---|---|---|---|---|")
    for each in distributions().values():
        needs = requirements(each)
        mlflow = next((needs[name] for name in MLFLOW if name in needs), "")
        cells = (
            f"`{each.name}`",
            pythons(each),
            mlflow,
            tested(each.folder, noxfile.MLFLOW_PAIRS, noxfile.GROUPS),
            needs.get("kedro", ""),
            tested(each.folder, noxfile.KEDRO_PAIRS, noxfile.GROUPS) if "kedro" in needs else "",
        )
        lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join(lines)


def pythons(distribution: Distribution) -> str:
    """Return the Python versions that a package declares, as a range."""
    prefix = "Programming Language :: Python :: 3."
    minors = [
        int(each.removeprefix(prefix))
        for each in distribution.project["classifiers"]
        if each.startswith(prefix) and each.removeprefix(prefix).isdigit()
    ]
    return f"3.{min(minors)} to 3.{max(minors)}"


def requirements(distribution: Distribution) -> dict[str, str]:
    """Return a package's requirements of MLflow and Kedro; requirements of an extra are marked with its name."""
    found: dict[str, str] = {}
    extras = distribution.project.get("optional-dependencies", {})
    listed = [(need, "") for need in distribution.project.get("dependencies", ())]
    listed += [(need, f", extra `{extra}`") for extra in extras for need in extras[extra]]
    for need, note in listed:
        parsed = Requirement(need)
        if parsed.name in (*MLFLOW, "kedro"):
            oldest = [each.version for each in parsed.specifier if each.operator == ">="]
            found.setdefault(parsed.name, f"{oldest[0]} or newer{note}" if oldest else "any")
    return found


def tested(folder: str, pairs: Iterable[Any], groups: dict[str, Any]) -> str:
    """Return the versions with which a package's groups of integration tests run in the matrix."""
    versions: dict[str, None] = {}
    for group, version in (pair.args for pair in pairs):
        if group == folder or folder in groups[group].packages[1:2]:
            versions[version] = None
    return ", ".join(versions)


def the_noxfile() -> Any:
    """Import the noxfile."""
    sys.path.insert(0, str(ROOT))
    import noxfile

    return noxfile
