"""The one credential that both SDKs and azureml-mlflow use: azure-identity's, without surprises."""

from typing import TYPE_CHECKING, Any

from mlflow_connections import InvalidOptionError

from ._clouds import CLOUDS, Cloud
from ._failures import explain_token_error

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

# azure-identity's default of ten retries takes minutes where a host refuses the connection.
_HTTP = {"retry_total": 3, "connection_timeout": 10}


class Credential:
    """A credential of azure-identity whose errors are one sentence.

    Attributes:
        cloud: The cloud whose tokens it gives.
        identity: How messages call who signs in; never a secret.
    """

    def __init__(self, credential: "TokenCredential", identity: str, cloud: Cloud) -> None:
        self.cloud = cloud
        self.identity = identity
        self._credential = credential

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        """Give a token, a cached one while it is valid, as azure-core's protocol says.

        Raises:
            AccessError: The identity was refused, or there is none.
            InvalidOptionError: There is no such tenant or application.
            UnreachableError: Microsoft Entra ID did not answer.
        """
        try:
            return self._credential.get_token(*scopes, **options)
        except Exception as error:
            raise explain_token_error(error, self.identity, self.cloud) from error

    def __deepcopy__(self, memo: dict[int, Any]) -> "Credential":
        # azureml-core copies its authentication objects; the locks within cannot be copied.
        return self

    def __repr__(self) -> str:
        return f"Credential({self.identity})"


def credential_for(values: dict[str, Any]) -> Credential:
    """Make the credential that the connection's values ask for. Sends nothing yet."""
    from azure.identity import ManagedIdentityCredential

    cloud = CLOUDS[values["cloud"]]
    made: TokenCredential
    if values["client_secret"] is not None:
        from azure.identity import ClientSecretCredential

        identity = f"the service principal '{values['client_id']}'"
        try:
            made = ClientSecretCredential(
                values["tenant_id"],
                values["client_id"],
                values["client_secret"],
                authority=cloud.login,
                **_HTTP,
            )
        except ValueError:
            raise InvalidOptionError(
                f"The tenant_id of {identity} is neither an id nor a domain."
            ) from None
    elif values["managed_identity_client_id"] is not None:
        identity = f"the managed identity '{values['managed_identity_client_id']}'"
        made = ManagedIdentityCredential(client_id=values["managed_identity_client_id"])
    else:
        identity = "the Azure login of this machine"
        made = _found_on_this_machine(values, cloud)
    return Credential(made, identity, cloud)


def _found_on_this_machine(values: dict[str, Any], cloud: Cloud) -> "TokenCredential":
    from azure.identity import (
        ChainedTokenCredential,
        DefaultAzureCredential,
        DeviceCodeCredential,
        InteractiveBrowserCredential,
    )

    chosen = {}
    if values["client_id"] is not None:
        chosen["workload_identity_client_id"] = values["client_id"]
    tenant = values["tenant_id"]
    if tenant is not None:
        chosen["workload_identity_tenant_id"] = tenant
    headless = DefaultAzureCredential(
        authority=cloud.login,
        exclude_interactive_browser_credential=True,
        # The broker may open a window of the operating system.
        exclude_broker_credential=True,
        **chosen,
        **_HTTP,
    )
    if not values["interactive"]:
        return headless
    asking = {"authority": cloud.login, **({"tenant_id": tenant} if tenant else {}), **_HTTP}
    return ChainedTokenCredential(
        *headless.credentials,
        InteractiveBrowserCredential(**asking),
        DeviceCodeCredential(**asking),
    )
