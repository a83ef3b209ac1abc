"""The connection before its first request to Azure."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import mlflow_connections
from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections.headers import FromParent
from mlflow_connections_azureml import AzureMLAuthenticator, AzureMLConnection, connection
from mlflow_connections_azureml._options import OPTIONS, cloud_of, default_cloud, workspace_file
from mlflow_connections_azureml._tokens import session_of

WORKSPACE = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
PRINCIPAL = {"tenant_id": "t", "client_id": "c", "client_secret": "a-secret"}
VARIABLES = {
    "subscription_id": "AZUREML_SUBSCRIPTION_ID",
    "resource_group": "AZUREML_RESOURCE_GROUP",
    "workspace_name": "AZUREML_WORKSPACE_NAME",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the developer's own accounts, and any config.json."""
    import os

    monkeypatch.chdir(tmp_path)

    for name in [n for n in os.environ if n.startswith(("AZURE", "MLFLOW_"))]:
        monkeypatch.delenv(name)


def test_keyword_finds_the_connection() -> None:
    """`azureml` is the keyword."""
    assert mlflow_connections.discovery.find_connection("azureml") is connection


def test_import_is_cheap() -> None:
    """Importing the keyword's module imports neither Azure's packages nor MLflow nor requests."""
    code = (
        "import sys, mlflow_connections_azureml, mlflow_connections_azureml._connection;"
        "print([m for m in ('azure.core', 'azure.identity', 'azureml', 'mlflow', 'requests')"
        " if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_all_missing_options_are_named() -> None:
    """Without any configuration, one error names all three options and their variables."""
    with pytest.raises(MissingOptionError) as caught:
        mlflow_connections.resolve("azureml")

    for name, variable in VARIABLES.items():
        assert f"'{name}'" in str(caught.value)
        assert variable in str(caught.value)


@pytest.mark.parametrize("name", VARIABLES)
def test_each_option_overrides_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option overrides only its own variable; the others still come from theirs."""
    for option, variable in VARIABLES.items():
        monkeypatch.setenv(variable, f"{option} of the environment")

    values = connection.values({}, {name: "of the options"})

    expected = {option: f"{option} of the environment" for option in VARIABLES}
    assert {option: values[option] for option in VARIABLES} == {**expected, name: "of the options"}


def test_azureml_core_is_the_default() -> None:
    """By default the SDK is azureml-core, as the specification requires."""
    values = connection.values({}, WORKSPACE)

    assert values["sdk"] == "v1"
    assert values["cloud"] == "AzureCloud"
    assert values["interactive"] is False
    assert values["share_with_workers"] is False


@pytest.mark.parametrize(
    ("option", "value"),
    [("sdk", "v2"), ("cloud", "AzureGermanCloud"), ("timeout", "soon"), ("timeout", "0")],
)
def test_wrong_value_is_refused(option: str, value: str) -> None:
    """An invalid value is refused with the name of its option."""
    with pytest.raises(InvalidOptionError, match=f"'{option}'"):
        mlflow_connections.resolve("azureml", {}, {**WORKSPACE, "sdk": "arm", option: value})


def test_secret_among_the_options_is_refused() -> None:
    """A client secret among the options is an error that names its proper place without showing it."""
    with pytest.raises(InvalidOptionError, match="belongs in the credentials") as caught:
        mlflow_connections.resolve("azureml", {}, {**WORKSPACE, "client_secret": "a-secret"})

    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize("missing", PRINCIPAL)
def test_half_a_service_principal_is_refused(missing: str) -> None:
    """Two of a service principal's three parts are an error that names the third."""
    credentials = {name: value for name, value in PRINCIPAL.items() if name != missing}
    if missing == "client_id":
        credentials["client_secret"] = "a-secret"
    if missing == "client_secret":
        credentials.pop("tenant_id")

    with pytest.raises(MissingOptionError, match=f"'{missing}'") as caught:
        mlflow_connections.resolve("azureml", credentials, WORKSPACE)

    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize("share", [False, True])
def test_nothing_secret_is_exported(share: bool) -> None:
    """Only the cloud's name is exported; the identity belongs to the authenticator, even if it is shared."""
    environment = connection.environment(PRINCIPAL, {**WORKSPACE, "share_with_workers": share})

    assert environment == {"AZUREML_CURRENT_CLOUD": "AzureCloud"}


def test_registry_is_the_workspace_too() -> None:
    """The registry's URI is the tracking URI, and is not requested again."""
    asked: list[str] = []

    class Counting(AzureMLConnection):
        def tracking_uri(
            self, credentials: Mapping[str, object], options: Mapping[str, object]
        ) -> str:
            asked.append("once")
            session = session_of(self.values(credentials, options))
            self._resolved[session] = AzureMLAuthenticator("azureml://host/w", FromParent("", ""))
            return "azureml://host/w"

    counting = Counting()
    counting.tracking_uri({}, WORKSPACE)

    assert counting.registry_uri({}, WORKSPACE) == "azureml://host/w"
    assert asked == ["once"]
    counting.registry_uri({}, {**WORKSPACE, "workspace_name": "another"})
    assert asked == ["once", "once"]


@pytest.mark.parametrize(
    "place",
    [
        ".azureml/config.json",
        ".azureml/project.json",
        "aml_config/config.json",
        "config.json",
        "../config.json",
    ],
)
def test_config_json_names_the_workspace(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workspace's file is found as in `Workspace.from_config`, and fills in all names."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    file = project / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(WORKSPACE))

    values = connection.values({}, {})

    assert {name: values[name] for name in WORKSPACE} == WORKSPACE
    declared = {option.name: option for option in connection.declared}
    assert str(file.resolve()) in declared["workspace_name"].help


def test_old_config_json_has_a_scope(tmp_path: Path) -> None:
    """The older form, with a single resource ID, names the workspace too."""
    scope = (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    )
    (tmp_path / "config.json").write_text(json.dumps({"Id": "1", "Scope": scope}))

    values = connection.values({}, {})

    assert {name: values[name] for name in WORKSPACE} == WORKSPACE


@pytest.mark.parametrize(
    "text", ["", "not JSON", "[]", "{}", '{"subscription_id": 1}', '{"Scope": "/a/b"}', "{\xff"]
)
def test_foreign_config_json_is_skipped(text: str, tmp_path: Path) -> None:
    """A config.json of another program is not an error, and a file in a parent folder is still found."""
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))

    assert workspace_file() is None
    with pytest.raises(MissingOptionError, match="'workspace_name'"):
        mlflow_connections.resolve("azureml")


def test_option_overrides_config_json(tmp_path: Path) -> None:
    """An option replaces one of the file's three names."""
    (tmp_path / "config.json").write_text(json.dumps(WORKSPACE))

    values = connection.values({}, {"workspace_name": "another"})

    assert [values[name] for name in WORKSPACE] == ["s", "g", "another"]


def test_config_json_is_not_mixed_with_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one of the three variables is set, the file is not read."""
    (tmp_path / "config.json").write_text(json.dumps(WORKSPACE))
    monkeypatch.setenv("AZUREML_WORKSPACE_NAME", "of the environment")

    with pytest.raises(MissingOptionError, match="'subscription_id'"):
        mlflow_connections.resolve("azureml")


@pytest.mark.parametrize(
    ("authority", "cloud"),
    [
        ("https://login.microsoftonline.us/", "AzureUSGovernment"),
        ("login.chinacloudapi.cn", "AzureChinaCloud"),
        ("https://LOGIN.microsoftonline.com", "AzureCloud"),
        ("https://login.of.my.own.example", "AzureCloud"),
    ],
)
def test_authority_host_names_the_cloud(
    authority: str, cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the option, AZURE_AUTHORITY_HOST selects the cloud, as for azure-identity."""
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", authority)

    assert connection.values({}, WORKSPACE)["cloud"] == cloud
    assert connection.environment({}, WORKSPACE)["AZUREML_CURRENT_CLOUD"] == cloud


def test_authority_host_of_its_own_is_signed_in_to() -> None:
    """A sign-in host of no known cloud is used with the named cloud's ARM."""
    cloud = cloud_of("AzureCloud", {"AZURE_AUTHORITY_HOST": "https://login.my.own.example/"})

    assert (cloud.login, cloud.arm) == ("login.my.own.example", "management.azure.com")


def test_named_cloud_beats_the_authority_host() -> None:
    """A cloud in the options keeps its own sign-in host."""
    environ = {"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us/"}

    assert cloud_of("AzureChinaCloud", environ).login == "login.chinacloudapi.cn"


@pytest.mark.parametrize("text", ["http://login.microsoftonline.com", "https://", "https://u:p@h"])
def test_invalid_authority_host_is_refused(text: str) -> None:
    """A sign-in host without TLS, without a name or with a password is an error that does not show it."""
    with pytest.raises(InvalidOptionError, match="AZURE_AUTHORITY_HOST") as caught:
        default_cloud({"AZURE_AUTHORITY_HOST": text})

    assert "u:p" not in str(caught.value)


def test_white_space_around_a_value_is_stripped() -> None:
    """A secret from a file is used without its trailing newline."""
    values = connection.values(
        {**PRINCIPAL, "client_secret": "a-secret\n"}, {**WORKSPACE, "workspace_name": " w "}
    )

    assert values["client_secret"] == "a-secret"
    assert values["workspace_name"] == "w"
    assert len(values) == len(OPTIONS)


URI = (
    "azureml://westeurope.api.azureml.ms/mlflow/v2.0/subscriptions/s/resourceGroups/g"
    "/providers/Microsoft.MachineLearningServices/workspaces/w"
)


@pytest.mark.parametrize("uri", [URI, URI.replace("/v2.0", "/v1.0"), f" {URI}?\n"])
def test_a_given_uri_needs_no_request(uri: str) -> None:
    """With `workspace_uri` nothing of Azure is asked, and the credential is bound to the URI of every MLflow.

    Azure's own commands show an address of v1.0, which ARM returns as well.
    """
    endpoint = mlflow_connections.resolve(
        "azureml", PRINCIPAL, {**WORKSPACE, "workspace_uri": uri, "sdk": "arm"}
    )

    expected = uri.strip().replace("/v1.0", "/v2.0")
    assert endpoint.tracking_uri == expected
    assert isinstance(endpoint.authenticator, AzureMLAuthenticator)
    assert endpoint.authenticator.origin == expected.rstrip("?")


@pytest.mark.parametrize(
    "uri",
    [
        URI.replace("workspaces/w", "workspaces/other"),
        URI.replace("azureml", "https", 1),
        "w",
        "azureml://",
        URI.replace("//", "///", 1),
        URI.replace("//", "//user:a-password@", 1),
        URI.replace("//", "//a host.", 1),
        URI.replace("resourceGroups", "resourcegroups"),
        f"{URI.rstrip('?')}/more",
        f"{URI}#more",
        f"'{URI}'",
        URI.partition("/subscriptions")[0],
    ],
)
def test_the_uri_of_another_workspace_is_refused(uri: str) -> None:
    """`workspace_uri` must be a whole address, of the workspace of the options; the message does not show it."""
    with pytest.raises(InvalidOptionError) as caught:
        mlflow_connections.resolve("azureml", PRINCIPAL, {**WORKSPACE, "workspace_uri": uri})

    assert str(caught.value).startswith(
        "'workspace_uri' is not the tracking URI of the workspace 'w' of the options: copy "
    )
