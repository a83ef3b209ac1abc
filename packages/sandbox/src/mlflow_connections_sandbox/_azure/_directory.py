"""Whom and what Entra ID knows, and how it refuses the rest.

The numbers are those of https://learn.microsoft.com/entra/identity-platform/reference-error-codes.
"""

import hmac
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ._account import Account

DEFAULT_SCOPE = "/.default"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Refusal(NamedTuple):
    """What Entra ID answers instead of a token."""

    status: int
    error: str
    number: int
    text: str

    def response(self) -> "Response":
        """Give it as OAuth 2.0 has it (RFC 6749, 5.2)."""
        return JSONResponse(
            {
                "error": self.error,
                "error_description": f"AADSTS{self.number}: {self.text}",
                "error_codes": [self.number],
            },
            self.status,
        )


class Directory:
    """The directory of the tenant. Each check gives a refusal, or None where all is well."""

    def __init__(self, account: "Account") -> None:
        self._account = account

    @property
    def resources(self) -> tuple[str, ...]:
        """What tokens may be asked for."""
        cloud = self._account.cloud
        return *cloud.arm_audiences, cloud.ml_portal

    def refuse_tenant(self, request: "Request") -> Refusal | None:
        """Refuse a tenant that this cloud does not have."""
        tenant = request.path_params["tenant"]
        # Each cloud has tenants of its own. People sign in by way of "organizations".
        is_this_cloud = request.url.hostname == self._account.cloud.login
        if is_this_cloud and tenant in {self._account.tenant_id, "organizations"}:
            return None
        return Refusal(
            400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found. Check the tenant id."
        )

    def refuse_application(self, form: dict[str, str]) -> Refusal | None:
        """Refuse an application that is unknown, or proves itself wrongly."""
        account = self._account
        client = form.get("client_id")
        if client != account.client_id:
            return Refusal(
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{client}' was not found in the directory.",
            )
        if form.get("client_assertion_type") == _ASSERTION:
            proof, expected = form.get("client_assertion"), account.federated_token
            number, text = 700213, "No matching federated identity record found."
        else:
            proof, expected = form.get("client_secret"), account.client_secret
            number, text = 7000215, "Invalid client secret provided."
        if not hmac.compare_digest(proof or "", expected):
            return Refusal(401, "invalid_client", number, text)
        return None

    def refuse_scopes(self, scopes: list[str]) -> Refusal | None:
        """Refuse all but one whole scope of a known resource."""
        if len(scopes) != 1 or not scopes[0].endswith(DEFAULT_SCOPE):
            return Refusal(
                400, "invalid_scope", 1002012, "Scopes must have the suffix /.default, and be one."
            )
        resource = resource_of(scopes[0])
        if resource not in self.resources:
            return Refusal(
                400,
                "invalid_resource",
                500011,
                f"The resource principal named {resource} was not found in the tenant.",
            )
        return None


def resource_of(scope: str) -> str:
    """Give the resource of a whole scope."""
    return scope.removesuffix(DEFAULT_SCOPE).rstrip("/")
