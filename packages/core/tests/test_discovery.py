"""Discovery is strict, and its errors name the remedy."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlflow_connections
from mlflow_connections import (
    AmbiguousConnectionError,
    PluginLoadError,
    PluginTypeError,
    UnknownConnectionError,
)
from mlflow_connections.discovery import find_connection, installed_connections, is_keyword

Install = Callable[..., str]

PLAIN = """
    from mlflow_connections import Connection

    class Plain(Connection):
        def tracking_uri(self, credentials, options):
            return "http://server.example"

    connection = Plain()
"""


@pytest.mark.parametrize("word", ["azureml", "my_connection", "_x", "databricks-uc", "a.b"])
def test_a_bare_word_is_a_keyword(word: str) -> None:
    """A bare word can be a keyword."""
    assert is_keyword(word)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "http://x",
        "sqlite:///m.db",
        "databricks://prod",
        "./mlruns",
        "a/b",
        "C:\\runs",
        "1st",
        "a b",
        "a\n",
    ],
)
def test_a_uri_or_path_is_not_a_keyword(value: Any) -> None:
    """Neither a URI nor a path with a slash can be a keyword, so no plugin can take it over."""
    assert not is_keyword(value)


def test_an_instance_is_found(install: Install) -> None:
    """The entry point's instance is returned for its keyword, always the same one."""
    install("mine", PLAIN)
    assert find_connection("mine").tracking_uri({}, {}) == "http://server.example"
    assert find_connection("mine") is find_connection("mine")


def test_a_class_is_instantiated(install: Install) -> None:
    """An entry point may name the class itself."""
    install("mine", PLAIN, target="Plain")
    assert find_connection("mine").tracking_uri({}, {}) == "http://server.example"


def test_an_object_that_looks_like_a_connection_is_accepted(install: Install) -> None:
    """Any object with a method tracking_uri is a connection, whatever its base class."""
    install(
        "duck",
        """
        class Duck:
            def tracking_uri(self, credentials, options):
                return "http://duck.example"
        connection = Duck()
        """,
    )
    assert find_connection("duck").tracking_uri({}, {}) == "http://duck.example"


def test_a_plugin_from_the_specification_alone_loads(install: Install) -> None:
    """A plugin can import its base class from the specification's path, with or without kedro-mlflow."""
    install(
        "specified",
        """
        from kedro_mlflow.config.connection import KedroMlflowConnection

        class MyConnection(KedroMlflowConnection):
            def tracking_uri(self, credentials, options) -> str:
                return "my_tracking_uri"

        connection = MyConnection()
        """,
    )
    assert find_connection("specified").registry_uri({}, {}) == "my_tracking_uri"


def test_listing_imports_no_plugin(install: Install) -> None:
    """`installed` reads metadata only."""
    module = install("mine", PLAIN)
    assert [
        (f.keyword, f.distribution, f.version)
        for f in installed_connections()
        if f.keyword == "mine"
    ] == [("mine", "plugin-of-mine", "1.2")]
    assert module not in sys.modules


def test_an_unknown_keyword_suggests_a_close_one(install: Install) -> None:
    """The error for a typo suggests the right keyword, and lists the installed ones."""
    install("warehouse", PLAIN)
    with pytest.raises(UnknownConnectionError, match="Did you mean 'warehouse'") as caught:
        find_connection("warehose")
    assert "installed are" in str(caught.value)


@pytest.mark.parametrize("word", ["snowflake", "snowflak"])
def test_an_unknown_keyword_names_the_package_to_install(word: str) -> None:
    """The error for a keyword of this family that is not installed contains the install command."""
    code = f"from mlflow_connections.discovery import find_connection; find_connection({word!r})"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],  # without site-packages nothing else is installed
        env={"PYTHONPATH": str(Path(mlflow_connections.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "UnknownConnectionError" in done.stderr
    assert "pip install mlflow-connections-snowflake" in done.stderr


def test_the_error_for_an_unknown_word_explains_folders(install: Install) -> None:
    """The error for an unknown word also shows how to write a folder."""
    with pytest.raises(UnknownConnectionError, match=r"write '\./runs'"):
        find_connection("runs")


def test_a_plugin_installed_later_is_found(install: Install) -> None:
    """An unknown keyword is searched for again, as after a notebook's pip install."""
    with pytest.raises(UnknownConnectionError):
        find_connection("late")
    install("late", PLAIN)
    assert callable(find_connection("late").tracking_uri)


def test_two_owners_are_an_error_that_names_both(install: Install) -> None:
    """Credentials must not go to whichever owner comes first."""
    install("mine", PLAIN, name="first-owner")
    install("mine", PLAIN, name="second-owner")
    with pytest.raises(AmbiguousConnectionError, match=r"first-owner 1\.2 .*second-owner 1\.2"):
        find_connection("mine")


def test_a_distribution_seen_twice_is_one_owner(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same folder twice on sys.path is not a second owner."""
    install("mine", PLAIN)
    link = tmp_path / "again"
    link.symlink_to(tmp_path / "site", target_is_directory=True)
    monkeypatch.syspath_prepend(str(link))
    assert callable(find_connection("mine").tracking_uri)


def test_a_hidden_distribution_owns_nothing(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python imports the first one on sys.path, which no longer has the keyword."""
    install("mine", PLAIN, name="renamed")
    info = tmp_path / "first" / "renamed-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: renamed\nVersion: 2.0\n")
    monkeypatch.syspath_prepend(str(info.parent))
    with pytest.raises(UnknownConnectionError):
        find_connection("mine")


def test_a_distribution_without_a_name_is_listed(install: Install, tmp_path: Path) -> None:
    """Broken metadata neither hides a keyword nor stops the scan."""
    install("mine", PLAIN, name="nameless")
    (tmp_path / "site" / "nameless-1.2.dist-info" / "METADATA").unlink()
    (found,) = [each for each in installed_connections() if each.keyword == "mine"]
    assert found.distribution == "an unnamed distribution"


def test_a_broken_import_is_chained(install: Install) -> None:
    """A plugin that fails at import is named with its target and distribution, with its cause chained."""
    install("broken", "import no_such_module_at_all")
    with pytest.raises(PluginLoadError) as caught:
        find_connection("broken")
    assert str(caught.value).startswith("Failed to load KedroMlflowConnection plugin 'broken' (")
    assert "from plugin-of-broken 1.2" in str(caught.value)
    assert str(caught.value.__cause__).startswith("builtins.ModuleNotFoundError: No module named")
    assert isinstance(caught.value, ImportError)


def test_a_missing_attribute_is_a_load_error(install: Install) -> None:
    """An entry point whose target is missing is a plugin that cannot be loaded."""
    install("missing", PLAIN, target="nothing")
    with pytest.raises(PluginLoadError, match="nothing"):
        find_connection("missing")


@pytest.mark.parametrize("code", ["connection = len", "connection = 7", "import os as connection"])
def test_other_objects_are_a_type_error(code: str, install: Install) -> None:
    """A function, a number or a module is refused, with its distribution and target."""
    install("wrong", code)
    with pytest.raises(
        PluginTypeError, match="plugin_of_wrong_module:connection, from plugin-of-wrong"
    ):
        find_connection("wrong")


def test_an_abstract_class_is_a_type_error_that_names_what_is_missing(install: Install) -> None:
    """A class that does not implement tracking_uri cannot be instantiated, and the error states the reason."""
    install(
        "abstract",
        """
        from mlflow_connections import Connection
        class connection(Connection):
            pass
        """,
    )
    with pytest.raises(PluginTypeError, match="does not implement tracking_uri"):
        find_connection("abstract")


def test_an_error_in_a_constructor_is_a_load_error(install: Install) -> None:
    """A class that cannot be instantiated is chained as well."""
    install(
        "angry",
        """
        class connection:
            def __init__(self): raise RuntimeError("no")
            def tracking_uri(self, credentials, options): return "x"
        """,
    )
    with pytest.raises(PluginLoadError, match="RuntimeError: no"):
        find_connection("angry")


def test_the_scan_is_cached_until_the_path_changes(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadata is read once, and again when sys.path changes."""
    install("mine", PLAIN)
    first = installed_connections()
    assert installed_connections() is first
    (tmp_path / "more").mkdir()
    monkeypatch.syspath_prepend(str(Path(tmp_path / "more")))
    assert installed_connections() is not first
