"""Shared by the tests of all packages, which may run in one process."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests-shared"))

# A machine may be busy: no test fails because it took long.
settings.register_profile(
    "however long it takes", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("however long it takes")


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show again in this test the values that another one taught the process to hide."""
    secrets = sys.modules.get("mlflow_connections.secrets")
    if secrets is not None:
        monkeypatch.setattr(secrets, "_known", {})
        monkeypatch.setattr(secrets, "_variables", set())


@pytest.fixture(autouse=True)
def no_log_handlers_of_kedro(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep records off the output: once imported, Kedro prints those of every package to stdout."""
    if "kedro" not in request.path.parts:
        root = logging.getLogger()
        of_pytest = [each for each in root.handlers if type(each).__module__.startswith("_pytest")]
        monkeypatch.setattr(root, "handlers", of_pytest)


@pytest.fixture(autouse=True)
def no_identities_of_other_tests() -> Iterator[None]:
    """Take out of force what a test has put in force: all tests of a process ask one provider."""
    yield
    authentication = sys.modules.get("mlflow_connections.authentication")
    if authentication is not None:
        for binding in list(reversed(authentication._bound)):
            binding.authenticator.unbind()
