"""Applying an endpoint, and restoring the previous state."""

import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from mlflow_connections import InvalidOptionError, use
from mlflow_connections.mlflow_state import SavedState, set_uris

Install = Callable[..., str]
Mlflow = tuple["FakeMlflow", "FakeMlflow"]

EXPORTING = """
    class Exporting:
        def tracking_uri(self, credentials, options): return "http://tracked.example"
        def environment(self, credentials, options): return {"TEST_TOKEN": credentials["token"]}
    connection = Exporting()
"""


class FakeMlflow(ModuleType):
    """The two variables and setters with which MLflow 2.22 to 3.18 keeps its URIs."""

    def __init__(self, variable: str, environment: str) -> None:
        super().__init__(variable)
        self.variable = variable
        self.environment = environment
        setattr(self, variable, None)

    def set_tracking_uri(self, uri: str | None) -> None:
        """Store the URI and export it, as MLflow's setters do."""
        setattr(self, self.variable, uri)
        if uri:
            os.environ[self.environment] = uri
        elif self.variable == "_tracking_uri":
            os.environ.pop(self.environment, None)

    set_registry_uri = set_tracking_uri


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No URI is set before a test."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "TEST_TOKEN"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Mlflow:
    """MLflow and its two modules of URIs, as if other code had imported it."""
    tracking = FakeMlflow("_tracking_uri", "MLFLOW_TRACKING_URI")
    registry = FakeMlflow("_registry_uri", "MLFLOW_REGISTRY_URI")
    monkeypatch.setitem(sys.modules, "mlflow", sys.modules.get("mlflow", ModuleType("mlflow")))
    monkeypatch.setitem(sys.modules, "mlflow.tracking._tracking_service.utils", tracking)
    monkeypatch.setitem(sys.modules, "mlflow.tracking._model_registry.utils", registry)
    return tracking, registry


def test_without_mlflow_the_variables_are_set() -> None:
    """MLflow is not imported: it reads the variables once it is, and children at once."""
    imported = "mlflow" in sys.modules  # by another package's tests in this process
    with use("http://t", registry="http://r") as endpoint:
        assert endpoint.tracking_uri == os.environ["MLFLOW_TRACKING_URI"] == "http://t"
        assert os.environ["MLFLOW_REGISTRY_URI"] == "http://r"
        assert ("mlflow" in sys.modules) is imported
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert "MLFLOW_REGISTRY_URI" not in os.environ


def test_mlflow_is_set_and_reset(mlflow: Mlflow) -> None:
    """An imported MLflow gets the URIs, and none afterwards."""
    tracking, registry = mlflow
    with use("http://t", registry="http://r"):
        assert (tracking._tracking_uri, registry._registry_uri) == ("http://t", "http://r")
    assert (tracking._tracking_uri, registry._registry_uri) == (None, None)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert "MLFLOW_REGISTRY_URI" not in os.environ


def test_a_variable_without_a_set_uri_stays_a_variable(
    mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that the user's shell has set is restored only as a variable."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://shell")
    with use("http://t"):
        assert os.environ["MLFLOW_TRACKING_URI"] == "http://t"
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://shell"
    assert mlflow[0]._tracking_uri is None


def test_the_process_uri_is_restored(mlflow: Mlflow) -> None:
    """A URI set by code is restored in both places."""
    mlflow[0].set_tracking_uri("http://mine")
    with use("http://t"):
        pass
    assert mlflow[0]._tracking_uri == os.environ["MLFLOW_TRACKING_URI"] == "http://mine"


def test_it_nests(mlflow: Mlflow) -> None:
    """Each block restores the state from its beginning."""
    with use("http://outer"):
        with use("http://inner", registry="http://r"):
            assert mlflow[0]._tracking_uri == "http://inner"
        assert mlflow[0]._tracking_uri == "http://outer"
        assert mlflow[1]._registry_uri is None
    assert mlflow[0]._tracking_uri is None


def test_an_error_inside_also_restores(mlflow: Mlflow) -> None:
    """An exception passes through, and leaves nothing behind."""
    with pytest.raises(RuntimeError, match="mine"), use("http://t"):
        raise RuntimeError("mine")
    assert mlflow[0]._tracking_uri is None
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_plain_call_stays_in_force(mlflow: Mlflow) -> None:
    """Without `with` it lasts until it is restored, once."""
    applied = use("http://t")
    assert mlflow[0]._tracking_uri == "http://t"
    applied.restore()
    mlflow[0].set_tracking_uri("http://later")
    applied.restore()
    assert mlflow[0]._tracking_uri == "http://later"


def test_the_environment_is_exported_and_restored(install: Install) -> None:
    """Exported variables are set inside the block, and removed or restored after it."""
    install("exporting", EXPORTING)
    with use("exporting", {"token": "t1"}):
        assert os.environ["TEST_TOKEN"] == "t1"
    assert "TEST_TOKEN" not in os.environ


def test_replacing_a_variable_causes_a_warning_with_its_name(
    install: Install, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning about a replaced value shows neither value."""
    install("exporting", EXPORTING)
    monkeypatch.setenv("TEST_TOKEN", "0ld")
    with caplog.at_level(logging.WARNING), use("exporting", {"token": "n3w"}):
        assert os.environ["TEST_TOKEN"] == "n3w"
    assert os.environ["TEST_TOKEN"] == "0ld"
    assert "TEST_TOKEN" in caplog.text
    assert "n3w" not in caplog.text
    assert "0ld" not in caplog.text


def test_a_failure_changes_nothing(mlflow: Mlflow) -> None:
    """A failed resolution sets nothing."""
    mlflow[0].set_tracking_uri("http://mine")
    with pytest.raises(InvalidOptionError):
        use("http://t", None, {"option": "x"})
    assert mlflow[0]._tracking_uri == os.environ["MLFLOW_TRACKING_URI"] == "http://mine"


def test_a_snapshot_keeps_later_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restoring with a later snapshot keeps values that other code has changed since."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://before")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    before = SavedState.take()
    set_uris("http://ours", "http://ours")
    after = SavedState.take()
    os.environ["MLFLOW_REGISTRY_URI"] = "http://theirs"
    before.restore([], after)
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://before"
    assert os.environ["MLFLOW_REGISTRY_URI"] == "http://theirs"
    before.restore([])
    assert "MLFLOW_REGISTRY_URI" not in os.environ
