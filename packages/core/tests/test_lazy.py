"""Packages whose names are imported on first use."""

import sys
from pathlib import Path

import pytest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with one name, in a separate module."""
    folder = tmp_path / "lazy_example"
    folder.mkdir()
    (folder / "_home.py").write_text("thing = object()\n")
    (folder / "__init__.py").write_text(
        "from mlflow_connections.lazy import lazy_names\n"
        "__getattr__, __dir__ = lazy_names(__name__, {'thing': '._home'})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("lazy_example", "lazy_example._home"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "lazy_example"


def test_a_name_is_imported_on_first_use(package: str) -> None:
    """Importing the package does not import the name's module; later accesses find the name in the package."""
    imported = __import__(package)
    assert f"{package}._home" not in sys.modules
    assert "thing" in dir(imported)
    assert imported.thing is sys.modules[f"{package}._home"].thing
    assert vars(imported)["thing"] is imported.thing


def test_an_unknown_name_is_the_usual_error(package: str) -> None:
    """The error is the same as for any module."""
    with pytest.raises(AttributeError, match="module 'lazy_example' has no attribute 'other'"):
        _ = __import__(package).other
