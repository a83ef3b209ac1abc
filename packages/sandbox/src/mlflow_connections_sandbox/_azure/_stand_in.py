"""The stand-in itself: its hosts, their applications, and the machines that reach it."""

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import trustme
from requests.utils import should_bypass_proxies
from starlette.applications import Starlette
from starlette.routing import Host, Route

from mlflow_connections_sandbox._stand_in import StandIn

from ._account import CLOUDS, AzureAccount
from ._arm import Arm
from ._entra import Entra, Tokens
from ._errors import AzureError, answer_error
from ._proxy import Proxy
from ._storage import ArtifactStorage, Blobs
from ._workspace import RUN_AUDIENCE, WorkspaceServer

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from mlflow_connections_sandbox._kept import KeptValues


SIGNED_OUT = "ERROR: Please run 'az login' to setup account."
EXPIRED_LOGIN = (
    "ERROR: AADSTS700082: The refresh token has expired due to inactivity. The token was issued on "
    "2026-08-01T08:00:00.0000000Z and was inactive for 90.00:00:00.\nInteractive authentication is "
    "needed. Please run:\naz login"
)
SECOND_FACTOR = (
    "ERROR: AADSTS50076: Due to a configuration change made by your administrator, or because you "
    "moved to a new location, you must use multi-factor authentication to access "
    "'797f4846-ba00-4fd7-ba43-dac1f8f63013'.\nInteractive authentication is needed. Please run:\n"
    "az login"
)
NO_NETWORK = (
    "ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded "
    "with url: /organizations/v2.0/.well-known/openid-configuration (Caused by NewConnectionError)"
)


class Azure(StandIn):
    """Entra ID, ARM, one AzureML workspace and its storage, for all of Azure's own clients.

    Attributes:
        account: The state of the account, which tests may change.
        tokens: Issues tokens, for a test that needs one without a sign-in.
        proxy: The proxy that clients use; it can make a host unreachable.
        cli: The Azure CLI of a machine on which a person signed in.
    """

    name = "azureml"
    title = "Azure Machine Learning"
    guide = "sandbox-azureml"
    prefixes = ("AZUREML_", "AZURE_", "ARM_", "IDENTITY_", "MSI_")

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        super().__init__(mlflow_url, folder)
        self.account = AzureAccount()
        secret = ("client_secret", "other_client_secret", "federated_token", "identity_header")
        self.kept.keep(self.account, *secret)
        self.tokens = Tokens(self.account, self.kept)
        self.proxy = Proxy(
            _hosts(), self.port, folder, self.kept.port("proxy_port"), _authority(self.kept)
        )
        self.cli = AzureCli(folder / "bin")

    def app(self) -> "ASGIApp":
        """Return the application, which contains one for each kind of host."""
        entra = Entra(self.account, self.tokens)
        arm = Arm(self.account, self.tokens)
        workspace = WorkspaceServer(self.account, self.tokens, self.mlflow)
        blobs = Blobs(self.account, self.mlflow, self.kept)
        artifacts = ArtifactStorage(workspace, blobs, self.mlflow)
        handlers = {AzureError: answer_error}
        login = Starlette(routes=entra.routes(), exception_handlers=handlers)
        manager = Starlette(routes=arm.routes(), exception_handlers=handlers)
        services = [*workspace.routes(), *artifacts.routes()]
        data_plane = Starlette(routes=services, exception_handlers=handlers)
        storage = Starlette(routes=blobs.routes(), exception_handlers=handlers)
        # Not through the proxy: the endpoint of a managed identity is on the machine itself.
        routes: list[BaseRoute] = [Route("/msi/token", entra.managed_identity)]
        # Every cloud responds, but only the account's own knows the account.
        for cloud in CLOUDS.values():
            routes += [
                Host(cloud.login, login),
                Host(cloud.arm, manager),
                Host(f"{{region}}.api.{cloud.ml}", data_plane),
                Host(f"{{workspace}}.workspace.{{region}}.api.{cloud.ml}", data_plane),
                Host(f"{{account}}.blob.{cloud.storage}", storage),
            ]
        return Starlette(routes=routes)

    def administer(self) -> None:
        """Let clients reach every other host as well, because a shell also needs hosts other than Azure's."""
        self.proxy.passes_others = True

    def start(self) -> None:
        """Start to respond.

        Raises:
            RuntimeError: Another program uses one of its ports.
        """
        super().start()
        self.proxy.start()
        self.kept.put("proxy_port", self.proxy.port)
        self.kept.write()

    def close(self) -> None:
        """Stop responding."""
        self.proxy.close()
        super().close()

    def environment(self) -> Mapping[str, str]:
        """Return the variables for a client with a service principal.

        They include a separate folder for Azure's own settings, in which nobody is signed in.
        """
        account = self.account
        return {
            **self.network(),
            "AZURE_CONFIG_DIR": str(self.folder / "azure-config"),
            "AZUREML_CURRENT_CLOUD": account.cloud_name,
            "AZUREML_SUBSCRIPTION_ID": account.subscription_id,
            "AZUREML_RESOURCE_GROUP": account.resource_group,
            "AZUREML_WORKSPACE_NAME": account.workspace_name,
            "AZUREML_SERVICE_PRINCIPAL_TENANT_ID": account.tenant_id,
            "AZUREML_SERVICE_PRINCIPAL_ID": account.client_id,
            "AZUREML_SERVICE_PRINCIPAL_PASSWORD": account.client_secret,
        }

    def network(self) -> Mapping[str, str]:
        """Return the variables that direct a client to this stand-in, without an identity.

        Hosts that this process reaches without a proxy, its clients reach without one as well.
        """
        known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
        direct = dict.fromkeys(["127.0.0.1", "localhost", *map(str.strip, known.split(","))])
        for each in list(direct):
            if not each or any(should_bypass_proxies(f"https://{host}", each) for host in _hosts()):
                del direct[each]
        return {
            # curl and Python prefer the lower-case variables, which the machine may have set.
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), self.proxy.url),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(direct)),
            "REQUESTS_CA_BUNDLE": str(self.proxy.bundle),
        }

    def managed_identity(self) -> Mapping[str, str]:
        """Return the variables of a machine with managed identities, as App Service sets them."""
        return {
            "IDENTITY_ENDPOINT": f"{self.url}/msi/token",
            "IDENTITY_HEADER": self.account.identity_header,
        }

    def workload_identity(self) -> Mapping[str, str]:
        """Return the variables of a pod with a workload identity, as its webhook sets them."""
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
        """Return the variables of a machine where a person ran `az login`."""
        audience = f"https://{self.account.cloud.arm}"
        self.cli.sign_in(self.tokens.issue(audience, "a person"), audience, self.account.tenant_id)
        return {"PATH": f"{self.cli.folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    def job(self, run_id: str, experiment_id: str) -> Mapping[str, str]:
        """Return the variables that AzureML sets in a job, with its tracking URI and token."""
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


class AzureCli:
    """An `az` for the PATH of a client: a command that returns a person's token and counts its calls.

    Attributes:
        folder: The folder of the command.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sign_in(self, token: str, resource: str, tenant: str, *, seconds: int = 3600) -> None:
        """Install the command, with the state that `az login` leaves behind.

        Args:
            token: The token that it returns.
            resource: The only resource of the token.
            tenant: The only tenant of the person.
            seconds: The reported validity of the token.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        az = self.folder / "az"
        az.write_text(
            _AZ.format(
                calls=shlex.quote(str(self._calls)),
                failure=shlex.quote(str(self._failure)),
                delay=shlex.quote(str(self._delay)),
                token=token,
                resource=resource,
                tenant=tenant,
                expires_on=int(time.time()) + seconds,
            )
        )
        az.chmod(0o700)
        self.recover()

    def fail(self, message: str = SIGNED_OUT) -> None:
        """Make each following call fail with an error message of the real command."""
        self._failure.write_text(message)

    def delay(self, seconds: float) -> None:
        """Delay each following call by this time."""
        self._delay.write_text(str(seconds))

    def recover(self) -> None:
        """Undo `fail` and `delay`, and forget the calls."""
        for file in (self._failure, self._delay, self._calls):
            file.unlink(missing_ok=True)

    @property
    def calls(self) -> list[str]:
        """The arguments of each call, oldest first."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    @property
    def _calls(self) -> Path:
        return self.folder / "calls"

    @property
    def _failure(self) -> Path:
        return self.folder / "failure"

    @property
    def _delay(self) -> Path:
        return self.folder / "delay"


# The messages are those of azure-cli 2.
_AZ = """#!/bin/sh
echo "$*" >> {calls}
[ ! -f {delay} ] || sleep "$(cat {delay})"
if [ -f {failure} ]; then cat {failure} >&2; exit 1; fi
if [ "$1 $2" != "account get-access-token" ]; then
  echo "ERROR: '$1' is misspelled or not recognized by the system." >&2; exit 2
fi
shift 2
resource= tenant={tenant}
while [ $# -gt 0 ]; do
  case "$1" in
    --output) [ "$2" = json ] || exit 2 ;;
    --resource) resource=$2 ;;
    --tenant) tenant=$2 ;;
    *) echo "ERROR: unrecognized arguments: $*" >&2; exit 2 ;;
  esac
  shift 2
done
if [ "$tenant" != "{tenant}" ]; then
  echo "ERROR: AADSTS90002: Tenant '$tenant' not found. Check to make sure you have the correct" \
    "tenant ID and are signing into the correct cloud." >&2
  exit 1
fi
if [ "$resource" != "{resource}" ]; then
  echo "ERROR: AADSTS500011: The resource principal named $resource was not found in the tenant" \
    "named Sandbox." >&2
  exit 1
fi
echo '{{"accessToken": "{token}", "expires_on": {expires_on}, "tokenType": "Bearer"}}'
"""


def _authority(kept: "KeptValues") -> trustme.CA:
    """Return the authority of the folder: running clients have loaded its certificate."""
    new = trustme.CA()
    pems = (new.cert_pem.bytes().decode, new.private_key_pem.bytes().decode)
    names = ("authority", "authority_key")
    return trustme.CA.from_pem(*(kept.get(n, p).encode() for n, p in zip(names, pems, strict=True)))


def _hosts() -> tuple[str, ...]:
    account = AzureAccount()
    found = []
    for cloud in CLOUDS.values():
        api = f"{account.region}.api.{cloud.ml}"
        found += [cloud.login, cloud.arm, api, f"{account.workspace_id}.workspace.{api}"]
        found.append(f"{account.storage_account}.blob.{cloud.storage}")
    return tuple(found)
