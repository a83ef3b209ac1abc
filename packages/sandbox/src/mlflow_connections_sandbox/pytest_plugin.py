"""A pytest plugin: a sandbox for a test session, and the environment of a stand-in for a test.

Nothing is imported or started before a test requests a fixture.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ._sandbox import Sandbox

__all__ = ["mlflow_sandbox", "sandbox_environment"]


@pytest.fixture(scope="session")
def mlflow_sandbox(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Sandbox]":
    """A sandbox for the whole session; `add(name)` starts a stand-in and returns it.

    The workers of pytest-xdist share one MLflow server, which the last of them ends. Each has its
    own stand-ins, so that faults and counts of a test do not affect another worker.
    """
    from ._sandbox import Sandbox
    from ._shared_server import SharedMlflowServer

    own = tmp_path_factory.mktemp("mlflow-sandbox")
    # Each worker's folder is in the folder of the whole run.
    shared = tmp_path_factory.getbasetemp().parent / "mlflow-sandbox-server"
    server = SharedMlflowServer(shared) if "PYTEST_XDIST_WORKER" in os.environ else None
    with Sandbox(own, server=server) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox_environment(
    mlflow_sandbox: "Sandbox", monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Mapping[str, str]]:
    """A function that sets, for this test, the variables that direct a client to a stand-in.

    Other variables of that service are removed for the test, since they would direct its clients
    elsewhere.
    """

    def set_environment(name: str) -> Mapping[str, str]:
        """Start a stand-in unless it runs, and set its variables.

        Args:
            name: The stand-in, such as `databricks`.

        Returns:
            The variables.
        """
        stand_in = mlflow_sandbox.add(name)
        stand_in.administer()
        for variable in os.environ.keys() - stand_in.environment().keys():
            if variable.startswith(stand_in.prefixes or ("\0",)):
                monkeypatch.delenv(variable)
        for variable, value in stand_in.environment().items():
            monkeypatch.setenv(variable, value)
        return stand_in.environment()

    return set_environment
