"""The stand-in itself: hosts and the applications behind them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Host, Route

from mlflow_connections_sandbox._stand_in import StandIn

from ._account import Account
from ._arm import Arm
from ._artifacts import Artifacts
from ._blobs import Blobs
from ._clouds import CLOUDS
from ._entra import Entra
from ._errors import AzureError, answer_error
from ._proxy import Proxy
from ._tokens import Tokens
from ._workspace import RUN_AUDIENCE, Workspace

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp


class Azure(StandIn):
    """Entra ID, ARM, one AzureML workspace and its storage, for all of Azure's own clients.

    Attributes:
        account: Who and what there is; to be changed by tests.
        tokens: Makes tokens, for a test that needs one without signing in.
        proxy: The way in; it can make a host unreachable.
    """

    name = "azureml"
    title = "Azure Machine Learning"
    guide = "sandbox-azureml"

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        super().__init__(mlflow_url, folder)
        self.account = Account()
        self.tokens = Tokens(self.account)
        self.proxy = Proxy(_hosts(), self.port, folder)

    def app(self) -> "ASGIApp":
        """Make the application: one for each kind of host."""
        entra = Entra(self.account, self.tokens)
        arm = Arm(self.account, self.tokens)
        workspace = Workspace(self.account, self.tokens, self.mlflow)
        blobs = Blobs(self.account, self.mlflow)
        artifacts = Artifacts(workspace, blobs, self.mlflow)
        handlers = {AzureError: answer_error}
        login = Starlette(routes=entra.routes(), exception_handlers=handlers)
        manager = Starlette(routes=arm.routes(), exception_handlers=handlers)
        services = [*workspace.routes(), *artifacts.routes()]
        data_plane = Starlette(routes=services, exception_handlers=handlers)
        storage = Starlette(routes=blobs.routes(), exception_handlers=handlers)
        # Plain, without the proxy: the endpoint of a managed identity is on the machine.
        routes: list[BaseRoute] = [Route("/msi/token", entra.managed_identity)]
        # Every cloud answers, but all except the account's own know nothing.
        for cloud in CLOUDS.values():
            routes += [
                Host(cloud.login, login),
                Host(cloud.arm, manager),
                Host(f"{{region}}.api.{cloud.ml}", data_plane),
                Host(f"{{workspace}}.workspace.{{region}}.api.{cloud.ml}", data_plane),
                Host(f"{{account}}.blob.{cloud.storage}", storage),
            ]
        return Starlette(routes=routes)

    def start(self) -> None:
        """Answer from now on."""
        super().start()
        self.proxy.start()

    def close(self) -> None:
        """Stop answering."""
        self.proxy.close()
        super().close()

    def environment(self) -> Mapping[str, str]:
        """Give the variables for a client with a service principal, and a home of its own.

        azureml-core keeps what discovery said below the home folder, and finds it on its import.
        """
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        account = self.account
        return {
            **self.network(),
            "HOME": str(home),
            "AZURE_CONFIG_DIR": str(home / ".azure"),
            "AZUREML_CURRENT_CLOUD": account.cloud_name,
            "AZUREML_SUBSCRIPTION_ID": account.subscription_id,
            "AZUREML_RESOURCE_GROUP": account.resource_group,
            "AZUREML_WORKSPACE_NAME": account.workspace_name,
            "AZUREML_SERVICE_PRINCIPAL_TENANT_ID": account.tenant_id,
            "AZUREML_SERVICE_PRINCIPAL_ID": account.client_id,
            "AZUREML_SERVICE_PRINCIPAL_PASSWORD": account.client_secret,
        }

    def network(self) -> Mapping[str, str]:
        """Give the variables that lead a client here, and nobody who could sign in."""
        return {
            # curl and Python prefer the lower case, should the machine have it set.
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), self.proxy.url),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            "REQUESTS_CA_BUNDLE": str(self.proxy.bundle),
        }

    def managed_identity(self) -> Mapping[str, str]:
        """Give the variables of a machine with managed identities, as App Service sets them."""
        return {
            "IDENTITY_ENDPOINT": f"{self.url}/msi/token",
            "IDENTITY_HEADER": self.account.identity_header,
        }

    def workload_identity(self) -> Mapping[str, str]:
        """Give the variables of a pod with a workload identity, as its webhook sets them."""
        file = self.folder / "federated-token"
        file.touch(mode=0o600)
        file.write_text(self.account.federated_token)
        return {
            "AZURE_AUTHORITY_HOST": f"https://{self.account.cloud.login}/",
            "AZURE_TENANT_ID": self.account.tenant_id,
            "AZURE_CLIENT_ID": self.account.client_id,
            "AZURE_FEDERATED_TOKEN_FILE": str(file),
        }

    def azure_cli(self) -> Mapping[str, str]:
        """Give the variables of a machine where `az login` was done: a PATH with an `az` on it."""
        folder = self.folder / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        az = folder / "az"
        token = self.tokens.issue(f"https://{self.account.cloud.arm}", "a person")
        az.write_text(_AZ.format(token=token, resource=f"https://{self.account.cloud.arm}"))
        az.chmod(0o700)
        return {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    def job(self, run_id: str, experiment_id: str) -> Mapping[str, str]:
        """Give the variables that AzureML sets inside a job, its tracking URI and token with them."""
        account = self.account
        return {
            "AZUREML_RUN_ID": run_id,
            "MLFLOW_TRACKING_URI": (
                f"azureml://{account.workspace_host}/mlflow/v2.0{account.scope}?"
            ),
            "MLFLOW_TRACKING_TOKEN": self.tokens.issue(RUN_AUDIENCE, run_id),
            "MLFLOW_RUN_ID": run_id,
            "MLFLOW_EXPERIMENT_ID": experiment_id,
            "AZUREML_CURRENT_CLOUD": account.cloud_name,
        }


_AZ = """#!/bin/sh
case "$*" in
  *"account get-access-token"*"{resource}"*)
    echo '{{"accessToken": "{token}", "expires_on": 4102444800, "tokenType": "Bearer"}}' ;;
  *) echo "az: '$*' is not understood here" >&2; exit 2 ;;
esac
"""


def _hosts() -> tuple[str, ...]:
    account = Account()
    found = []
    for cloud in CLOUDS.values():
        api = f"{account.region}.api.{cloud.ml}"
        found += [cloud.login, cloud.arm, api, f"{account.workspace_id}.workspace.{api}"]
        found.append(f"{account.storage_account}.blob.{cloud.storage}")
    return tuple(found)
