"""Access tokens: made by Entra ID, checked by everything else."""

import secrets
import time
from typing import TYPE_CHECKING

import jwt

from ._errors import AzureError

if TYPE_CHECKING:
    from starlette.requests import Request

    from ._account import Account

_HOUR = 3600


class Tokens:
    """Signs tokens with a key of its own, so that none but its own are accepted."""

    def __init__(self, account: "Account") -> None:
        self._account = account
        self._key = secrets.token_bytes(32)

    def issue(self, audience: str, subject: str, *, seconds: int = _HOUR) -> str:
        """Make an access token.

        Args:
            audience: The resource it is good for.
            subject: The client id, or the name of a person.
            seconds: How long it is good; negative for one that has expired.
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

    def check(self, request: "Request", audiences: tuple[str, ...]) -> None:
        """Let a request pass that carries a valid token for one of the audiences.

        Raises:
            AzureError: It does not: 401, in ARM's words.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not token:
            raise AzureError(401, "AuthenticationFailed", "The 'Authorization' header is missing.")
        accepted = [form for a in audiences for form in (a, f"{a}/")]
        try:
            jwt.decode(
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

    @property
    def _issuer(self) -> str:
        return f"https://{self._account.cloud.login}/{self._account.tenant_id}/"
