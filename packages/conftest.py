"""Shared by the tests of all packages, which may run in one process."""

import sys

import pytest


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show again in this test the values that another one taught the process to hide."""
    secrets = sys.modules.get("mlflow_connections.secrets")
    if secrets is not None:
        monkeypatch.setattr(secrets, "_known", {})
        monkeypatch.setattr(secrets, "_variables", set())
