"""Microsoft Entra ID: the endpoints that give tokens.

Protocol: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow and
v2-oauth2-device-code.
"""

import base64
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse
from starlette.routing import Route

from ._directory import DEFAULT_SCOPE, Directory, Refusal, resource_of
from ._errors import AzureError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from ._account import Account
    from ._tokens import Tokens

_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_PERSON = "66666666-6666-4666-8666-666666666666"


class Entra:
    """Entra ID of the workspace's cloud, and the managed identity's endpoint beside the workload."""

    def __init__(self, account: "Account", tokens: "Tokens") -> None:
        self._account = account
        self._tokens = tokens
        self._directory = Directory(account)
        self._scopes_of_device_codes: dict[str, list[str]] = {}

    def routes(self) -> "list[BaseRoute]":
        """What the login host answers."""
        return [
            Route("/common/discovery/instance", self._instance),
            Route("/{tenant}/v2.0/.well-known/openid-configuration", self._configuration),
            Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route("/{tenant}/oauth2/v2.0/devicecode", self._device_code, methods=["POST"]),
        ]

    def managed_identity(self, request: "Request") -> "Response":
        """Answer as the endpoint of App Service, api-version 2019-08-01."""
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
        # Beside the resource's own scope people's clients ask for some of OpenID's.
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
        token = self._tokens.issue(resource_of(scopes[0]), self._account.client_id)
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
