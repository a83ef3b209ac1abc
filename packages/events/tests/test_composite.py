"""Composite URIs and transparent wrapping, with a fictitious product."""

import logging
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from mlflow_connections_events import _mlflow, _transparent, composite, inner_of, is_composite
from mlflow_connections_events._transparent import keeps_its_uri, wrap_builders


class Wrapping(NamedTuple):
    """A composite URI of the scheme `copied`."""

    inner: str | None

    def wrap_tracking(self, build: Callable[[], Any], enabled: Callable[[], bool]) -> Any:
        """Return the scheme of the store, and the function `enabled`."""
        return SimpleNamespace(store=build(), enabled=enabled)

    def wrap_registry(self, build: Callable[[], Any], enabled: Callable[[], bool]) -> Any:
        """Return the inner registry."""
        return build()


def parse(uri: str) -> Wrapping:
    """Parse `copied://<inner>`, and refuse one that names the word `wrong`."""
    inner = uri.partition("://")[2]
    if inner == "wrong":
        raise ValueError("The URI is wrong.")
    return Wrapping(inner or None)


@pytest.fixture(autouse=True)
def product(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the scheme."""
    point = EntryPoint("copied", f"{__name__}:parse", composite.GROUP)
    composite.parse.cache_clear()
    monkeypatch.setattr(composite, "_parsers", lambda: {"copied": point})
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    yield
    composite.parse.cache_clear()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("copied://x", True),
        ("COPIED://x", True),
        ("copied", False),
        ("http://x", False),
        ("", False),
        (None, False),
    ],
)
def test_a_registered_scheme_makes_a_uri_composite(uri: str | None, expected: bool) -> None:
    """Other URIs, paths and an absent one are not."""
    assert is_composite(uri) is expected


def test_composite_uris_may_be_nested() -> None:
    """The innermost store is returned, or None if none is named."""
    assert inner_of("copied://copied://http://m") == "http://m"
    assert inner_of("copied://copied://") is None
    assert inner_of("http://m") == "http://m"


@pytest.mark.parametrize("uri", ["databricks", "databricks://p", "azureml://r/x", "arn:aws:s"])
def test_some_stores_keep_their_uri(uri: str) -> None:
    """MLflow and its plugins recognize these by the tracking URI."""
    assert keeps_its_uri(uri)
    assert not keeps_its_uri(f"http://{uri}")


@pytest.fixture
def builders(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    """MLflow's registered builders, which return their URI."""
    known: dict[str, Callable[..., Any]] = {
        scheme: lambda store_uri, artifact_uri: store_uri for scheme in ("databricks", "http")
    }
    monkeypatch.setattr(_transparent, "builders", lambda kind: known)
    return known


def test_a_variable_wraps_the_store_named_in_its_uri(
    builders: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's own URI stays; the wrapping ends with the variable, and other stores are left alone."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_COPIED", "copied://databricks://profile")
    wrap_builders()
    wrap_builders()
    assert builders["databricks"]("databricks://other") == "databricks://other"
    wrapped = builders["databricks"]("databricks://profile")
    assert wrapped.store == "databricks://profile"
    assert wrapped.enabled()
    monkeypatch.delenv("MLFLOW_CONNECTIONS_COPIED")
    assert not wrapped.enabled()
    assert builders["databricks"]("databricks://profile") == "databricks://profile"


def test_any_scheme_named_in_a_variable_is_wrapped(
    builders: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user may keep a server's own URI too; two products wrap one store in sequence."""
    plain = builders["http"]
    wrap_builders()
    assert builders["http"] is plain
    monkeypatch.setenv("MLFLOW_CONNECTIONS_ONE", "copied://http://m")
    monkeypatch.setenv("MLFLOW_CONNECTIONS_TWO", "copied://http://m")
    wrap_builders()
    assert builders["http"]("http://m").store.store == "http://m"


def test_an_invalid_variable_never_stops_the_import_of_mlflow(
    builders: dict[str, Callable[..., Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is ignored with a warning that names it."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_COPIED", "copied://wrong")
    with caplog.at_level(logging.WARNING):
        wrap_builders()
    assert "MLFLOW_CONNECTIONS_COPIED is ignored: The URI is wrong." in caplog.text


def test_builders_are_empty_before_mlflow_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrapped, and nothing is imported."""
    name = "mlflow.tracking._tracking_service.utils"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert _mlflow.builders("tracking") == {}


def test_the_registries_of_a_wrapped_store_are_wrapped_too(
    builders: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that MLflow derives from its URI, for this store alone, and as long as the variable names it."""
    registries: dict[str, Callable[..., Any]] = {
        scheme: lambda store_uri, tracking_uri: store_uri for scheme in ("databricks-uc", "http")
    }
    plain = registries["http"]
    kinds = {"tracking": builders, "model_registry": registries}
    monkeypatch.setattr(_transparent, "builders", kinds.get)
    monkeypatch.setattr(
        Wrapping,
        "wrap_registry",
        lambda _, build, enabled: SimpleNamespace(store=build(), on=enabled),
    )
    monkeypatch.setenv("MLFLOW_CONNECTIONS_COPIED", "copied://databricks://p")
    wrap_builders()
    builders["databricks"]("databricks://p")
    build = registries["databricks-uc"]
    wrapped = build(store_uri="databricks-uc://p", tracking_uri="databricks://p")
    assert wrapped.store == "databricks-uc://p"
    assert wrapped.on()
    for others in (("databricks-uc://p", "http://m"), ("databricks-uc://q", "databricks://p")):
        assert build(store_uri=others[0], tracking_uri=others[1]) == others[0]
    monkeypatch.delenv("MLFLOW_CONNECTIONS_COPIED")
    assert not wrapped.on()
    assert build("databricks-uc://p", tracking_uri="databricks://p") == "databricks-uc://p"
    assert registries["http"] is plain
