"""A sandbox with every stand-in, and what became of each example."""

from collections.abc import Iterator
from typing import Any

import pytest

from mlflow_connections_sandbox import Sandbox

_FATES = pytest.StashKey[list[dict[str, Any]]]()


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One for all pages: its server takes seconds to start."""
    names = ["azureml", "databand", "databricks", "http", "snowflake"]
    with Sandbox(tmp_path_factory.mktemp("sandbox"), names) as started:
        yield started


@pytest.fixture(scope="session")
def fates(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Takes what became of each example."""
    return request.config.stash.setdefault(_FATES, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Count what ran, and name what did not."""
    fates = config.stash.get(_FATES, [])
    for language in sorted({fate["language"] for fate in fates}):
        of_it = [fate for fate in fates if fate["language"] == language]
        left_out = sum(bool(fate["why"]) for fate in of_it)
        terminalreporter.write_line(f"{language}: {len(of_it) - left_out} run, {left_out} not run")
    for fate in fates:
        if fate["why"]:
            place = f"{fate['page']}:{fate['line']}"
            terminalreporter.write_line(f"  {place} not run: {fate['why']}")
