"""Microsoft Entra ID: its directory, its endpoints, and the tokens that it issues.

The numbers of its refusals are those of
https://learn.microsoft.com/entra/identity-platform/reference-error-codes. Protocol: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow and
v2-oauth2-device-code.
"""

import base64
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

import jwt
from starlette.responses import JSONResponse
from starlette.routing import Route

from ._errors import AzureError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from mlflow_connections_sandbox._kept import KeptValues

    from ._account import AzureAccount

DEFAULT_SCOPE = "/.default"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_HOUR = 3600
_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_PERSON = "66666666-6666-4666-8666-666666666666"


_KEY = "token_key"


def _new_key() -> str:
    return secrets.token_hex(32)


class Tokens:
    """Signs tokens with its own key, so that no others are accepted.

    Attributes:
        used_by: The subject of each token that was accepted, oldest first.
    """

    def __init__(self, account: "AzureAccount", kept: "KeptValues") -> None:
        self.used_by: list[str] = []
        self._account = account
        self._kept = kept
        self._key = kept.get(_KEY, _new_key)

    def issue(self, audience: str, subject: str, *, seconds: int = _HOUR) -> str:
        """Return a new access token.

        Args:
            audience: The resource that accepts it.
            subject: The client ID, or the name of a person.
            seconds: The validity in seconds; negative for an expired token.
        """
        now = int(time.time())
        claims = {
            "aud": audience,
            "iss": self._issuer,
            "iat": now - _HOUR,
            "nbf": now - _HOUR,
            "exp": now + seconds,
            "tid": self._account.tenant_id,
            "appid": subject,
            "oid": subject,
            "sub": subject,
            "preferred_username": subject,
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def revoke(self) -> None:
        """Refuse every token that was issued so far, as continuous access evaluation does."""
        self._key = _new_key()
        self._kept.put(_KEY, self._key)
        self._kept.write()

    def check(self, request: "Request", audiences: tuple[str, ...]) -> None:
        """Check that a request carries a valid token for one of the audiences.

        Raises:
            AzureError: 401, with ARM's own code.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not token:
            raise AzureError(401, "AuthenticationFailed", "The 'Authorization' header is missing.")
        accepted = [form for a in audiences for form in (a, f"{a}/")]
        try:
            claims = jwt.decode(
                token, self._key, algorithms=["HS256"], audience=accepted, issuer=self._issuer
            )
        except jwt.ExpiredSignatureError:
            raise AzureError(401, "ExpiredAuthenticationToken", "It has expired.") from None
        except jwt.InvalidAudienceError:
            raise AzureError(
                401, "InvalidAuthenticationTokenAudience", "Unsupported audience."
            ) from None
        except jwt.InvalidIssuerError:
            raise AzureError(
                401, "InvalidAuthenticationTokenTenant", "The token is of the wrong issuer."
            ) from None
        except jwt.InvalidTokenError:
            raise AzureError(401, "InvalidAuthenticationToken", "It is invalid.") from None
        self.used_by.append(claims["sub"])

    @property
    def _issuer(self) -> str:
        return f"https://{self._account.cloud.login}/{self._account.tenant_id}/"


class Refusal(NamedTuple):
    """A response of Entra ID without a token."""

    status: int
    error: str
    number: int
    text: str

    def response(self) -> "Response":
        """Return it in the form of OAuth 2.0 (RFC 6749, 5.2)."""
        return JSONResponse(
            {
                "error": self.error,
                "error_description": f"AADSTS{self.number}: {self.text}",
                "error_codes": [self.number],
            },
            self.status,
        )


class Directory:
    """The directory of the tenant. Each check returns a refusal, or None if there is none."""

    def __init__(self, account: "AzureAccount") -> None:
        self._account = account

    @property
    def resources(self) -> tuple[str, ...]:
        """The resources that tokens are issued for."""
        cloud = self._account.cloud
        return *cloud.arm_audiences, cloud.ml_portal

    @property
    def _secrets(self) -> dict[str, str]:
        account = self._account
        return {
            account.client_id: account.client_secret,
            account.other_client_id: account.other_client_secret,
        }

    def refuse_tenant(self, request: "Request") -> Refusal | None:
        """Refuse a tenant that this cloud does not have."""
        tenant = request.path_params["tenant"]
        # Each cloud has its own tenants. People sign in through "organizations".
        is_this_cloud = request.url.hostname == self._account.cloud.login
        if is_this_cloud and tenant in {self._account.tenant_id, "organizations"}:
            return None
        return Refusal(
            400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found. Check the tenant id."
        )

    def refuse_application(self, form: dict[str, str]) -> Refusal | None:
        """Refuse an unknown application, or one with a wrong proof."""
        account = self._account
        client = form.get("client_id", "")
        if client not in self._secrets:
            return Refusal(
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{client}' was not found in the directory.",
            )
        if form.get("client_assertion_type") == _ASSERTION and client == account.client_id:
            proof, expected = form.get("client_assertion"), account.federated_token
            number, text = 700213, "No matching federated identity record found."
        else:
            proof, expected = form.get("client_secret"), self._secrets[client]
            number, text = 7000215, "Invalid client secret provided."
        if not hmac.compare_digest(proof or "", expected):
            return Refusal(401, "invalid_client", number, text)
        return None

    def refuse_scopes(self, scopes: list[str]) -> Refusal | None:
        """Refuse anything but one whole scope of a known resource."""
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
    """Return the resource of a whole scope."""
    return scope.removesuffix(DEFAULT_SCOPE).rstrip("/")


class Entra:
    """Entra ID of the workspace's cloud, and the managed identity's endpoint next to the workload."""

    def __init__(self, account: "AzureAccount", tokens: "Tokens") -> None:
        self._account = account
        self._tokens = tokens
        self._directory = Directory(account)
        self._scopes_of_device_codes: dict[str, list[str]] = {}

    def routes(self) -> "list[BaseRoute]":
        """Return the routes of the sign-in host."""
        return [
            Route("/common/discovery/instance", self._instance),
            Route("/{tenant}/v2.0/.well-known/openid-configuration", self._configuration),
            Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route("/{tenant}/oauth2/v2.0/devicecode", self._device_code, methods=["POST"]),
        ]

    def managed_identity(self, request: "Request") -> "Response":
        """Respond as the endpoint of App Service, api-version 2019-08-01."""
        account = self._account
        if request.query_params.get("api-version") != "2019-08-01":
            return JSONResponse({"statusCode": 400, "message": "Unsupported api-version"}, 400)
        header = request.headers.get("x-identity-header", "")
        if not hmac.compare_digest(header, account.identity_header):
            return JSONResponse({"statusCode": 401, "message": "Wrong identity header"}, 401)
        resource = request.query_params.get("resource", "").rstrip("/")
        client_id = request.query_params.get("client_id", "system-assigned")
        if client_id not in {account.managed_identity_client_id, "system-assigned"}:
            return JSONResponse({"statusCode": 400, "message": "No such identity"}, 400)
        if resource not in self._directory.resources:
            return JSONResponse({"statusCode": 400, "message": "No such resource"}, 400)
        return JSONResponse(
            {
                "access_token": self._tokens.issue(resource, client_id),
                "expires_on": str(int(time.time()) + 3600),
                "resource": resource,
                "token_type": "Bearer",
            }
        )

    def _instance(self, request: "Request") -> "Response":
        host = self._account.cloud.login
        if request.query_params.get("api-version") not in {"1.0", "1.1"}:
            raise AzureError(400, "invalid_request", "The api-version is missing or unknown.")
        return JSONResponse(
            {
                "api-version": "1.1",
                "tenant_discovery_endpoint": (
                    f"https://{host}/{self._account.tenant_id}/v2.0/.well-known/openid-configuration"
                ),
                "metadata": [
                    {"preferred_network": host, "preferred_cache": host, "aliases": [host]}
                ],
            }
        )

    def _configuration(self, request: "Request") -> "Response":
        tenant = request.path_params["tenant"]
        if refusal := self._directory.refuse_tenant(request):
            return refusal.response()
        base = f"https://{self._account.cloud.login}/{tenant}"
        return JSONResponse(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            }
        )

    async def _device_code(self, request: "Request") -> "Response":
        if refusal := self._directory.refuse_tenant(request):
            return refusal.response()
        form = dict(parse_qsl((await request.body()).decode()))
        # In addition to the resource's own scope, people's clients request some of OpenID's.
        scopes = [s for s in form.get("scope", "").split() if s.endswith(DEFAULT_SCOPE)]
        if refusal := self._directory.refuse_scopes(scopes):
            return refusal.response()
        code = secrets.token_urlsafe(16)
        self._scopes_of_device_codes[code] = scopes
        return JSONResponse(
            {
                "device_code": code,
                "user_code": "SANDBOX",
                "verification_uri": "https://microsoft.com/devicelogin",
                "expires_in": 900,
                "interval": 1,
                "message": "To sign in, open https://microsoft.com/devicelogin and type SANDBOX.",
            }
        )

    async def _token(self, request: "Request") -> "Response":
        if refusal := self._directory.refuse_tenant(request):
            return refusal.response()
        form = dict(parse_qsl((await request.body()).decode()))
        grant = form.get("grant_type")
        if grant == "client_credentials":
            return self._for_application(form)
        if grant == _DEVICE_CODE:
            return self._for_person(form)
        return Refusal(
            400, "unsupported_grant_type", 70003, "The grant type is not supported."
        ).response()

    def _for_application(self, form: dict[str, str]) -> "Response":
        scopes = form.get("scope", "").split()
        refusal = self._directory.refuse_application(form) or self._directory.refuse_scopes(scopes)
        if refusal is not None:
            return refusal.response()
        token = self._tokens.issue(resource_of(scopes[0]), form["client_id"])
        return JSONResponse({"token_type": "Bearer", "expires_in": 3599, "access_token": token})

    def _for_person(self, form: dict[str, str]) -> "Response":
        scopes = self._scopes_of_device_codes.get(form.get("device_code", ""))
        if scopes is None:
            return Refusal(400, "invalid_grant", 70000, "The device code is not valid.").response()
        if not self._account.person_signs_in:
            return Refusal(
                400, "authorization_pending", 70016, "Authorization is pending."
            ).response()
        client = form.get("client_id", "")
        ids = {"uid": _PERSON, "utid": self._account.tenant_id}
        return JSONResponse(
            {
                "token_type": "Bearer",
                "expires_in": 3599,
                "scope": scopes[0],
                "access_token": self._tokens.issue(resource_of(scopes[0]), _PERSON),
                "refresh_token": secrets.token_urlsafe(16),
                "id_token": self._tokens.issue(client, _PERSON),
                "client_info": base64.urlsafe_b64encode(json.dumps(ids).encode()).decode(),
            }
        )
