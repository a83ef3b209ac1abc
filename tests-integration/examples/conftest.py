"""A sandbox with every stand-in, and the outcome of each example."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_sandbox import Sandbox

_FATES = pytest.StashKey[list[dict[str, Any]]]()


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory, warm_bin: Path) -> Iterator[Sandbox]:
    """One sandbox for all pages: its server takes seconds to start."""
    names = ["azureml", "databand", "databricks", "http", "snowflake"]
    made = Sandbox(tmp_path_factory.mktemp("sandbox"), names)
    made.server.python = str(warm_bin / "python")
    with made as started:
        yield started


@pytest.fixture(scope="session")
def fates(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Collects the outcome of each example."""
    return request.config.stash.setdefault(_FATES, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Count the examples that ran, and name those that did not."""
    fates = config.stash.get(_FATES, [])
    for language in sorted({fate["language"] for fate in fates}):
        of_it = [fate for fate in fates if fate["language"] == language]
        left_out = sum(bool(fate["why"]) for fate in of_it)
        terminalreporter.write_line(f"{language}: {len(of_it) - left_out} run, {left_out} not run")
    for fate in fates:
        if fate["why"]:
            place = f"{fate['page']}:{fate['line']}"
            terminalreporter.write_line(f"  {place} not run: {fate['why']}")


@pytest.fixture
def shell() -> Callable[..., dict[str, str]]:
    """Returns the variables of a shell in which only the paths of programs are set."""
    return _shell


def _shell(home: Path, first: Path | None = None, *, alone: bool = False) -> dict[str, str]:
    """Return the variables of a shell in which only the paths of programs are set.

    Args:
        home: The home folder.
        first: A folder of programs before this environment's.
        alone: Whether there are no others but the system's.
    """
    others = [os.defpath] if alone else [str(Path(sys.executable).parent), os.environ["PATH"]]
    places = [*([str(first)] if first else []), *others]
    return {
        **{name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ},
        "PATH": os.pathsep.join(places),
        "HOME": str(home),
        "COLUMNS": "160",  # for tables with paths of the test's folder
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # `pip install` finds the installed packages, builds with them, and has no index.
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
