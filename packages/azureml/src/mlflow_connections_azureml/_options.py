"""The options of the connection, and the clouds and workspaces that they name."""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_connections import InvalidOptionError, Option

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60.0
SECONDS_INTERACTIVE = 300.0

CLOUD_VARIABLE = "AZUREML_CURRENT_CLOUD"
"""Read by azureml-core and azureml-mlflow. Without it azureml-mlflow requests a list of clouds from ARM."""

AUTHORITY_VARIABLE = "AZURE_AUTHORITY_HOST"
"""Read by azure-identity: the host of Microsoft Entra ID."""


class Cloud(NamedTuple):
    """The hosts of one Azure cloud.

    Attributes:
        name: The cloud's name in azureml and in the Azure CLI.
        login: The host of Microsoft Entra ID.
        arm: The host of Azure Resource Manager.
    """

    name: str
    login: str
    arm: str

    @property
    def scope(self) -> str:
        """The scope of the one token that both ARM and the workspace accept."""
        return f"https://{self.arm}/.default"


# https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure
# https://learn.microsoft.com/azure/china/resources-developer-guide
CLOUDS = {
    cloud.name: cloud
    for cloud in (
        Cloud("AzureCloud", "login.microsoftonline.com", "management.azure.com"),
        Cloud("AzureUSGovernment", "login.microsoftonline.us", "management.usgovcloudapi.net"),
        Cloud("AzureChinaCloud", "login.chinacloudapi.cn", "management.chinacloudapi.cn"),
    )
}


def default_cloud(environ: Mapping[str, str]) -> str:
    """Return the name of the cloud that AZURE_AUTHORITY_HOST belongs to, else `AzureCloud`."""
    host = _authority(environ)
    return next((name for name, cloud in CLOUDS.items() if cloud.login == host), "AzureCloud")


def cloud_of(name: str, environ: Mapping[str, str]) -> Cloud:
    """Return a cloud by its name, with the sign-in host of AZURE_AUTHORITY_HOST.

    If the variable names the sign-in host of another known cloud, it is ignored: the option is the
    more deliberate choice, and no cloud accepts another's tokens.

    Raises:
        InvalidOptionError: AZURE_AUTHORITY_HOST is not an https address.
    """
    cloud = CLOUDS[name]
    host = _authority(environ)
    if not host or any(host == known.login for known in CLOUDS.values()):
        return cloud
    return cloud._replace(login=host)


def _authority(environ: Mapping[str, str]) -> str:
    """Return the host that AZURE_AUTHORITY_HOST names; the empty string if it is not set."""
    from urllib.parse import urlsplit

    text = environ.get(AUTHORITY_VARIABLE, "").strip()
    if not text:
        return ""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.scheme != "https" or not parts.netloc or "@" in parts.netloc:
        raise InvalidOptionError(
            f"The variable {AUTHORITY_VARIABLE} is not an https address. Set it to a host such as "
            "https://login.microsoftonline.com, or unset it."
        )
    return parts.netloc.lower()


class Workspace(NamedTuple):
    """A workspace, identified by the three names that Azure needs."""

    subscription_id: str
    resource_group: str
    name: str

    @property
    def resource_id(self) -> str:
        """The path of the workspace below Azure Resource Manager, and within its tracking URI."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Workspace":
        """Return the workspace named by the connection's values."""
        return cls(values["subscription_id"], values["resource_group"], values["workspace_name"])


_PATH = (
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/([^/?#]+)"
)


def workspace_of(uri: str) -> Workspace | None:
    """Return the workspace of a tracking URI, or None if it names none."""
    import re

    found = re.search(_PATH, uri)
    return None if found is None else Workspace(*found.groups())


def given_uri(values: Mapping[str, Any]) -> str | None:
    """Return the workspace's tracking URI that the options give, or None.

    Raises:
        InvalidOptionError: It is not the URI of the workspace that the other options name.
    """
    uri: str | None = values["workspace_uri"]
    if uri is None:
        return None
    workspace = Workspace.of(values)
    if not is_uri_of(workspace, uri):
        raise InvalidOptionError(
            f"'workspace_uri' is not the tracking URI of the workspace '{workspace.name}' of the options: copy "
            "it from `mlflow-connections run azureml -- printenv MLFLOW_TRACKING_URI`, or remove the option."
        )
    return for_every_mlflow(uri)


def is_uri_of(workspace: Workspace, uri: str) -> bool:
    """Return whether a text is the tracking URI of a workspace: its scheme, a host, and its path."""
    import re

    # azureml-core's ends in a question mark.
    whole = rf"azureml://[\w.-]+(?::\d+)?/mlflow/v\d+\.\d+{_PATH}(?:\?[^#\s]*)?"
    found = re.fullmatch(whole, uri)
    return found is not None and (
        Workspace(*found.groups()).resource_id.lower() == workspace.resource_id.lower()
    )


def for_every_mlflow(uri: str) -> str:
    """Return the address that both MLflow 2 and 3 accept, as azureml-mlflow derives it; Azure itself names v1.0."""
    return uri.replace("/mlflow/v1.0", "/mlflow/v2.0")


class WorkspaceFile(NamedTuple):
    """A config.json that names a workspace, as written by `Workspace.write_config` or the studio."""

    path: "Path"
    workspace: Workspace


# The folders and file names of `Workspace.from_config` in azureml-core 1.61, in the same order.
_FOLDERS = (".azureml", "aml_config", "")
_NAMES = ("config.json", "project.json")


def workspace_file(folder: "Path | None" = None) -> WorkspaceFile | None:
    """Read the file that `Workspace.from_config` finds from a folder upwards, or return None.

    A config.json that names no workspace belongs to another program and is skipped.

    Args:
        folder: The first folder to search; None is the working directory.
    """
    from pathlib import Path

    start = Path.cwd() if folder is None else folder
    for inner in _FOLDERS:
        for name in _NAMES:
            for parent in (start, *start.parents):
                path = parent / inner / name
                if path.is_file() and (workspace := _read_workspace(path)) is not None:
                    return WorkspaceFile(path, workspace)
    return None


def _read_workspace(path: "Path") -> Workspace | None:
    import json

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    found: list[Any]
    if isinstance(scope := content.get("Scope"), str):
        # /subscriptions/S/resourceGroups/G/providers/Microsoft.MachineLearningServices/workspaces/W
        pieces = scope.split("/")
        found = [pieces[2], pieces[4], pieces[8]] if len(pieces) > 8 else []
    else:
        found = [content.get(key) for key in _WORKSPACE_KEYS]
    names = [name.strip() for name in found if isinstance(name, str) and name.strip()]
    return Workspace(*names) if len(names) == len(_WORKSPACE_KEYS) else None


_WORKSPACE_KEYS = ("subscription_id", "resource_group", "workspace_name")
_WORKSPACE_VARIABLES = (
    "AZUREML_SUBSCRIPTION_ID",
    "AZUREML_RESOURCE_GROUP",
    "AZUREML_WORKSPACE_NAME",
)

OPTIONS = (
    Option(
        "subscription_id",
        "The id of the Azure subscription that holds the workspace.",
        env="AZUREML_SUBSCRIPTION_ID",
        required=True,
    ),
    Option(
        "resource_group",
        "The resource group of the workspace.",
        env="AZUREML_RESOURCE_GROUP",
        required=True,
    ),
    Option(
        "workspace_name",
        "The name of the workspace.",
        env="AZUREML_WORKSPACE_NAME",
        required=True,
    ),
    Option(
        "sdk",
        "Where the URI comes from: `v1` asks azureml-core's Workspace, `arm` sends one request to "
        "Azure Resource Manager and never imports azureml-core.",
        default="v1",
        choices=("v1", "arm"),
    ),
    Option(
        "workspace_uri",
        "The workspace's tracking URI, which Azure Resource Manager is not asked for then: print it once with "
        "`mlflow-connections run azureml -- printenv MLFLOW_TRACKING_URI`.",
        env="MLFLOW_CONNECTIONS_AZUREML_WORKSPACE_URI",
    ),
    Option(
        "cloud",
        "The Azure cloud of the workspace; by default the one that AZURE_AUTHORITY_HOST signs in "
        "to, or AzureCloud.",
        env=CLOUD_VARIABLE,
        default="AzureCloud",
        choices=tuple(CLOUDS),
    ),
    Option(
        "managed_identity_client_id",
        "The client id of a user-assigned managed identity. No other credential is tried then.",
    ),
    Option(
        "interactive",
        "Whether a person may be asked to sign in, in a browser or with a device code.",
        type=bool,
        default=False,
    ),
    Option(
        "timeout",
        f"Seconds for all requests to Azure together ({SECONDS:.0f}, or {SECONDS_INTERACTIVE:.0f} "
        "if `interactive` is true).",
        type=float,
    ),
    Option(
        "share_with_workers",
        "Whether to put the secret of the service principal into the environment of child processes, for those "
        "that outlive this one.",
        type=bool,
        default=False,
    ),
    # azureml-core itself reads these variables.
    Option(
        "tenant_id",
        "The tenant of the service principal; without one, the tenant to sign in to.",
        env="AZUREML_SERVICE_PRINCIPAL_TENANT_ID",
        credential=True,
    ),
    Option(
        "client_id",
        "The application (client) id of the service principal.",
        env="AZUREML_SERVICE_PRINCIPAL_ID",
        credential=True,
    ),
    Option(
        "client_secret",
        "The client secret of the service principal.",
        env="AZUREML_SERVICE_PRINCIPAL_PASSWORD",
        secret=True,
    ),
)


def options_here(environ: Mapping[str, str] | None = None) -> tuple[Option, ...]:
    """Return the options with the defaults of this process: its cloud and its config.json.

    config.json and the variables are not mixed: if one of the three variables is set, the file is
    not read.
    """
    environ = os.environ if environ is None else environ
    defaults: dict[str, Any] = {"cloud": default_cloud(environ)}
    notes: dict[str, str] = {}
    in_variables = any(environ.get(variable) for variable in _WORKSPACE_VARIABLES)
    if not in_variables and (found := workspace_file()) is not None:
        defaults |= dict(zip(_WORKSPACE_KEYS, found.workspace, strict=True))
        notes = dict.fromkeys(_WORKSPACE_KEYS, f" Read from {found.path}.")
    return tuple(_with_defaults(defaults, notes))


def _with_defaults(defaults: Mapping[str, Any], notes: Mapping[str, str]) -> Iterator[Option]:
    for option in OPTIONS:
        if option.name in defaults:
            yield option._replace(
                default=defaults[option.name],
                required=False,
                help=option.help + notes.get(option.name, ""),
            )
        else:
            yield option


def seconds_for(values: Mapping[str, Any]) -> float:
    """Return the time limit of requests to Azure, in seconds.

    Raises:
        InvalidOptionError: `timeout` is 0 or less.
    """
    seconds: float | None = values["timeout"]
    if seconds is None:
        return SECONDS_INTERACTIVE if values["interactive"] else SECONDS
    if seconds <= 0:
        raise InvalidOptionError(f"'timeout' must be more than 0 seconds, not {seconds:g}.")
    return seconds


TIMEOUT_REMEDY = (
    "Check the network, HTTPS_PROXY and the firewall, or raise 'timeout' in the connection options."
)
"""The remedy if Azure does not respond in time."""

NETWORK_REMEDY = "Check the network, HTTPS_PROXY and the firewall."
"""The same if no option sets the time limit."""
