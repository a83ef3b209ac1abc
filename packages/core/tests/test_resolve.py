"""Resolving: values that pass through, values that are read, values that are refused."""

import difflib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import (
    ConnectionsError,
    Endpoint,
    InvalidOptionError,
    MissingOptionError,
    PluginTypeError,
    UnknownConnectionError,
    options,
    resolve,
)
from mlflow_connections.discovery import installed_connections, is_reserved
from mlflow_connections.options import SourceNames
from mlflow_connections.reports import connection_rows

Install = Callable[..., str]

DECLARED = """
    from mlflow_connections import Connection, Option

    class Declared(Connection):
        declared = (
            Option("workspace", "Which workspace.", env="TEST_WORKSPACE", required=True),
            Option("region", "Where it is.", env="TEST_REGION", required=True, choices=("eu", "us")),
            Option("timeout", "Seconds to wait.", type=float, default=30.0),
            Option("verify", "Check the certificate.", type=bool, default=True),
            Option("token", "A personal token.", env="TEST_TOKEN", secret=True),
        )

        def tracking_uri(self, credentials, options):
            v = self.values(credentials, options)
            return f"http://{v['workspace']}.{v['region']}?timeout={v['timeout']}&verify={v['verify']}"

        def registry_uri(self, credentials, options):
            return "http://registry.example"

        def environment(self, credentials, options):
            token = self.values(credentials, options)["token"]
            return {"TEST_EXPORTED": token} if token else {}

    connection = Declared()
"""
GOOD = {"workspace": "dev", "region": "eu"}


def returning(what: str) -> str:
    """Write a plugin whose tracking_uri returns the given expression."""
    return f"""
    class Odd:
        def tracking_uri(self, credentials, options):
            return {what}
    connection = Odd()
    """


@pytest.mark.parametrize(
    "uri",
    [
        "http://u:p@h:5000",
        "sqlite:///mlflow.db",
        "databricks://prod",
        "./runs",
        "file:///x",
        "arn:aws:sagemaker:eu:1:mlflow-tracking-server/x",
        "dbnd://localhost:8080?duplicate_tracking_to=x",
    ],
)
def test_a_full_uri_passes_through_unchanged(uri: str) -> None:
    """A URI or path is returned unchanged, and the registry is left to MLflow."""
    assert resolve(uri) == Endpoint(uri, None, {})


def test_a_full_uri_never_scans_the_installed_distributions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full URI costs nothing: no metadata is read."""
    monkeypatch.setattr("importlib.metadata.distributions", SimpleNamespace())
    assert resolve("http://h", registry="http://r").registry_uri == "http://r"


@pytest.mark.parametrize("word", ["databricks", "databricks-uc", "uc", "mlruns"])
def test_words_of_mlflow_pass_without_an_owner(word: str, install: Install) -> None:
    """URIs that MLflow understands need no plugin."""
    assert resolve(word).tracking_uri == word


def test_a_word_of_mlflow_with_options_needs_its_plugin(install: Install) -> None:
    """With credentials or options MLflow's own word is not sufficient, because MLflow would ignore them."""
    # Not `databricks` itself, whose plugin is installed together with the whole workspace.
    with pytest.raises(UnknownConnectionError, match="Did you mean 'databricks'"):
        resolve("databricks-uc", {"token": "t"})


@pytest.mark.parametrize("word", ["databricks", "databricks-uc", "uc", "mlruns"])
def test_a_word_of_mlflow_cannot_be_taken(word: str, install: Install) -> None:
    """A distribution that registers one of MLflow's own words is not called and gets no credentials."""
    install(word, "raise SystemExit('imported')", name="taker")
    reserved = [found for found in installed_connections() if found.distribution == "taker"]
    assert [is_reserved(found) for found in reserved] == [True]
    assert [r["note"] for r in connection_rows() if r["distribution"] == "taker"] == [
        "MLflow's own word: not used"
    ]
    if word == "databricks":  # its own distribution may be installed
        return
    assert resolve(word, registry=word) == Endpoint(word, word, {})
    with pytest.raises(UnknownConnectionError, match=f"'{word}' .* which taker cannot register"):
        resolve(word, {"token": "t"})


def test_the_distribution_of_databricks_may_register_it(install: Install) -> None:
    """The word belongs to this family's distribution, however its name is spelled."""
    install("databricks", DECLARED, name="MLflow_Connections.databricks")
    ours = [found for found in installed_connections() if found.distribution.startswith("MLflow_")]
    assert [is_reserved(found) for found in ours] == [False]


def test_credentials_for_a_uri_are_exported_as_their_variables() -> None:
    """Credentials that MLflow and the clouds' clients read from variables are part of the endpoint."""
    endpoint = resolve(
        "https://server",
        {
            "MLFLOW_TRACKING_TOKEN": "x",
            "MLFLOW_TRACKING_INSECURE_TLS": True,
            "AWS_ACCESS_KEY_ID": 7,
            "MLFLOW_TRACKING_PASSWORD": None,
        },
    )
    assert endpoint.tracking_uri == "https://server"
    assert dict(endpoint.environment) == {
        "MLFLOW_TRACKING_TOKEN": "x",
        "MLFLOW_TRACKING_INSECURE_TLS": "true",
        "AWS_ACCESS_KEY_ID": "7",
    }


@pytest.mark.parametrize("key", ["token", "PATH", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_unused_credentials_are_refused(key: str) -> None:
    """With a URI, a credential that is not one of MLflow's variables is refused, without its value."""
    with pytest.raises(InvalidOptionError, match=f"has '{key}', but 'https://server' is") as caught:
        resolve("https://server", {key: "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_credential_that_no_variable_can_hold_is_refused() -> None:
    """A mapping cannot become a variable; its value is not shown."""
    with pytest.raises(InvalidOptionError, match="'MLFLOW_X' in the credentials must be text") as e:
        resolve("https://server", {"MLFLOW_X": {"a": "hunter2"}})
    assert "hunter2" not in str(e.value)


def test_credentials_named_as_variables_reach_a_connections_server_too(install: Install) -> None:
    """With a keyword they are exported as well; the connection's own variables take precedence."""
    install("declared", DECLARED)
    endpoint = resolve(
        "declared", {"token": "tok", "MLFLOW_TRACKING_TOKEN": "x", "other": "y"}, GOOD
    )
    assert dict(endpoint.environment) == {"MLFLOW_TRACKING_TOKEN": "x", "TEST_EXPORTED": "tok"}


SETTING = """
    class Setting:
        def tracking_uri(self, credentials, options): return "http://h"
        def environment(self, credentials, options): return {{{name!r}: "evil", "SAFE": "1"}}
    connection = Setting()
"""


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "LD_PRELOAD",
        "DYLD_INSERT_LIBRARIES",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "HTTPS_PROXY",
        "http_proxy",
        "no_proxy",
        "BASH_ENV",
        "HOME",
    ],
)
def test_a_connection_may_not_change_programs_without_consent(
    name: str, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that changes how programs run is refused by name until the user allows it."""
    install("setting", SETTING.format(name=name))
    with pytest.raises(PluginTypeError, match=f"sets {name}, .*ALLOW_VARIABLES={name}") as caught:
        resolve("setting")
    assert "evil" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_CONNECTIONS_ALLOW_VARIABLES", f"OTHER, {name}")
    assert dict(resolve("setting").environment) == {name: "evil", "SAFE": "1"}


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_a_connection_sets_uris_only_by_its_methods(name: str, install: Install) -> None:
    """A URI among the variables would direct the registry or a child elsewhere."""
    install("setting", SETTING.format(name=name))
    with pytest.raises(PluginTypeError, match=f"sets {name}, which only tracking_uri"):
        resolve("setting")


@pytest.mark.parametrize("name", ["XPATH", "MY_HOME", "PROXY", "TEST_PATH", "REQUESTS_CA_BUNDLE"])
def test_other_variables_need_no_consent(name: str, install: Install) -> None:
    """Only complete names count."""
    install("setting", SETTING.format(name=name))
    assert resolve("setting").environment[name] == "evil"


@pytest.mark.parametrize("path", [Path("runs"), Path("mlruns"), Path("/srv/x"), Path("a/b")])
def test_a_path_is_never_a_keyword(path: Path, install: Install) -> None:
    """A `Path` passes through as text, even if a connection has its name."""
    install("runs", DECLARED)
    assert resolve(path, registry=path) == Endpoint(str(path), str(path), {})
    with pytest.raises(InvalidOptionError, match="which takes no options"):
        resolve(path, None, {"workspace": "w"})


def test_a_registry_may_be_a_word_of_mlflow_beside_a_connection(install: Install) -> None:
    """The tracking connection reads credentials and options, so the registry needs no plugin."""
    install("declared", DECLARED)
    assert resolve("declared", {"token": "tok"}, GOOD, registry="databricks-uc").registry_uri == (
        "databricks-uc"
    )


def test_a_keyword_is_resolved(install: Install) -> None:
    """Options become a URI, credentials are exported."""
    install("declared", DECLARED)
    endpoint = resolve("declared", {"token": "tok"}, GOOD)
    assert endpoint.tracking_uri == "http://dev.eu?timeout=30.0&verify=True"
    assert endpoint.registry_uri is None
    assert dict(endpoint.environment) == {"TEST_EXPORTED": "tok"}


def test_the_registry_is_resolved_only_when_named(install: Install) -> None:
    """`registry` may name the same keyword, another one or a URI."""
    install("declared", DECLARED)
    assert (
        resolve("declared", None, GOOD, registry="declared").registry_uri
        == "http://registry.example"
    )
    assert resolve("declared", None, GOOD, registry="http://r").registry_uri == "http://r"
    assert resolve("http://t", None, GOOD, registry="declared") == Endpoint(
        "http://t", "http://registry.example", {}
    )


def test_each_option_overrides_its_own_variable(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each option its value comes first, then the environment, then the default."""
    install("declared", DECLARED)
    monkeypatch.setenv("TEST_WORKSPACE", "fromenv")
    monkeypatch.setenv("TEST_REGION", "us")
    assert resolve("declared").tracking_uri.startswith("http://fromenv.us")
    assert resolve("declared", None, {"region": "eu"}).tracking_uri.startswith("http://fromenv.eu")


def test_an_empty_variable_counts_as_unset(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that a CI system sets to an empty string is no value."""
    install("declared", DECLARED)
    monkeypatch.setenv("TEST_WORKSPACE", "")
    with pytest.raises(MissingOptionError, match="TEST_WORKSPACE"):
        resolve("declared", None, {"region": "eu"})


def test_all_missing_options_are_named_at_once(install: Install) -> None:
    """One error names every missing option, with both its possible places."""
    install("declared", DECLARED)
    with pytest.raises(MissingOptionError) as caught:
        resolve("declared", source_names=SourceNames("server.connection of conf/base/mlflow.yml"))
    assert str(caught.value) == (
        "'workspace' is neither in server.connection of conf/base/mlflow.yml nor in the environment "
        "variable TEST_WORKSPACE; 'region' is neither in server.connection of "
        "conf/base/mlflow.yml nor in the environment variable TEST_REGION. 2 values are missing."
    )
    assert isinstance(caught.value, KeyError)


@given(st.text("abc_", max_size=12), st.lists(st.text("abc_", max_size=12), max_size=4))
def test_a_suggestion_is_difflibs(name: str, names: list[str]) -> None:
    """Names that are left out by their length alone are none that difflib would suggest."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    assert options._suggestion(name, names) == (f", did you mean '{close[0]}'?" if close else "")


def test_an_unknown_option_suggests_the_right_one(install: Install) -> None:
    """A typo in an option is not ignored."""
    install("declared", DECLARED)
    with pytest.raises(InvalidOptionError, match=r"'workspce'.*did you mean 'workspace'"):
        resolve("declared", None, {**GOOD, "workspce": "dev"})


def test_a_misspelt_credential_is_refused(install: Install) -> None:
    """A credential that is almost identical to a declared one is a typo."""
    install("declared", DECLARED)
    with pytest.raises(
        InvalidOptionError,
        match="'tokn' in the credentials is an unknown key, did you mean 'token'",
    ):
        resolve("declared", {"tokn": "v3ry"}, GOOD)


def test_other_credentials_are_ignored(install: Install) -> None:
    """An entry of credentials.yml may serve other programs too."""
    install("declared", DECLARED)
    assert resolve("declared", {"account_name": "x", "token": "t"}, GOOD)


@pytest.mark.parametrize("key", ["token", "password", "client_secret", "apiKey", "SAS"])
def test_a_secret_among_the_options_is_refused(key: str, install: Install) -> None:
    """A secret under server.connection is refused without being shown, and the message names its proper place."""
    install("anything", returning("'http://h'"))
    with pytest.raises(InvalidOptionError, match="pass it with the credentials") as caught:
        resolve("anything", None, {key: "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"region": "asia"},
            "'region' in the connection options must be one of eu, us.",
        ),
        ({"timeout": "soon"}, "'timeout' in the connection options must be a number."),
        ({"verify": "perhaps"}, "must be true or false."),
        ({"workspace": ["a"]}, "must be text"),
        (
            {"workspace": ""},
            "'workspace' in the connection options is empty: write a value, or leave the option out.",
        ),
        ({"timeout": "\t"}, "'timeout' in the connection options is empty"),
    ],
)
def test_an_invalid_value_is_named(options: dict[str, Any], said: str, install: Install) -> None:
    """An invalid value is reported with its place, and not repeated: it may be a secret."""
    install("declared", DECLARED)
    with pytest.raises(InvalidOptionError) as caught:
        resolve("declared", None, {**GOOD, **options})
    assert said in str(caught.value)
    assert not [v for v in options.values() if v and str(v) in str(caught.value)]


def test_an_invalid_secret_is_not_shown(install: Install) -> None:
    """Not even a secret of a wrong type is shown."""
    install("declared", DECLARED)
    with pytest.raises(InvalidOptionError) as caught:
        resolve("declared", {"token": ["hunter2"]}, GOOD)
    assert "hunter2" not in str(caught.value)


def test_values_of_the_environment_are_converted(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IDs that YAML reads as numbers are text again."""
    install("declared", DECLARED)
    assert (
        resolve(
            "declared", None, {"workspace": 42, "region": "eu", "timeout": "2", "verify": "off"}
        ).tracking_uri
        == "http://42.eu?timeout=2.0&verify=False"
    )


def test_options_without_a_keyword_are_refused() -> None:
    """Options that nothing would read are an error."""
    with pytest.raises(InvalidOptionError, match=r"'workspace'.*is a URI or path"):
        resolve("http://user:hunter2@h", None, {"workspace": "x"})


@pytest.mark.parametrize(
    ("what", "said"),
    [("None", "NoneType"), ("7", "int"), ("''", "an empty string"), ("' '", "an empty string")],
)
def test_a_plugin_that_returns_no_uri_is_named(what: str, said: str, install: Install) -> None:
    """The error for None, a number or an empty string blames the plugin."""
    install("odd", returning(what))
    with pytest.raises(PluginTypeError, match=rf"Odd\.tracking_uri\(\) returned {said}"):
        resolve("odd")


@pytest.mark.parametrize("what", ["['a']", "{'A': 1}", "{1: 'a'}", "None"])
def test_a_plugin_with_an_invalid_environment_is_named(what: str, install: Install) -> None:
    """An environment maps text to text."""
    install(
        "odd",
        returning("'http://h'")
        + f"\n    def environment(credentials, options): return {what}\n    connection.environment = environment",
    )
    with pytest.raises(PluginTypeError, match="environment"):
        resolve("odd")


@pytest.mark.parametrize("value", ["", "  ", None, 5, ["databricks"]])
def test_a_value_that_is_not_text_is_refused(value: Any) -> None:
    """A URI must be text."""
    with pytest.raises(InvalidOptionError, match="must be a keyword, a URI or a path"):
        resolve(value)


def test_a_value_that_is_not_text_is_not_shown() -> None:
    """A mapping in place of the URI may contain a secret, so only its type is shown."""
    with pytest.raises(InvalidOptionError, match="not dict") as caught:
        resolve({"token": "hunter2"})  # type: ignore[arg-type]  # what is tested
    assert "hunter2" not in str(caught.value)


def test_a_connection_prepares_once_for_all_of_its_methods(install: Install) -> None:
    """Its methods see one lookup, and the next resolve looks up again."""
    install(
        "preparing",
        """
        from mlflow_connections import Connection

        class Preparing(Connection):
            count = 0

            def prepared(self, credentials, options):
                found = Preparing()
                Preparing.count += 1
                found.number = Preparing.count
                return found

            def tracking_uri(self, credentials, options):
                return f"http://{self.number}"

            def environment(self, credentials, options):
                return {"TEST_NUMBER": str(self.number)}

        connection = Preparing()
        """,
    )
    for number in ("1", "2"):
        found = resolve("preparing", registry="preparing")
        assert found.tracking_uri == found.registry_uri == f"http://{number}"
        assert found.environment == {"TEST_NUMBER": number}
    assert resolve("file:///m", registry="preparing").registry_uri == "http://3"


def test_a_connection_need_not_be_hashable(install: Install) -> None:
    """An object that compares by value works for tracking and registry."""
    install("mine", returning("'http://h'") + "\n    connection.__class__.__hash__ = None\n")
    assert resolve("mine", registry="mine").registry_uri == "http://h"


def test_every_error_has_one_base_class() -> None:
    """Users catch one class, or the fitting builtin."""
    with pytest.raises(ConnectionsError) as caught:
        resolve("no_such_keyword")
    assert isinstance(caught.value, LookupError)
