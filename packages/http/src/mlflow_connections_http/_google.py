"""Identity tokens of Google for an audience, fetched with google-auth.

google-auth's own `fetch_id_token` supports a service account's key and the metadata server, and
ignores a file of workload identity federation. For such a file, this module exchanges the federated
token at Google's token service, and uses the result to let the named service account issue the
identity token (IAM Credentials API, `generateIdToken`).
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow_connections import AccessError, MissingDependencyError

__all__ = ["fetch_identity_token"]

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_ACCOUNT = re.compile(r"/serviceAccounts/([^/:]+):generateAccessToken$")
_SHOWN = 300  # characters of another program's message


def fetch_identity_token(audience: str) -> str:
    """Fetch an identity token with the file in GOOGLE_APPLICATION_CREDENTIALS, or from the metadata server.

    Args:
        audience: The audience that the token is issued for.

    Raises:
        MissingDependencyError: google-auth is not installed.
        AccessError: There is no Google credential, or it cannot sign for the audience.
    """
    try:
        from google.auth import exceptions
        from google.auth.transport.requests import Request
        from google.oauth2 import id_token
    except ImportError:
        raise MissingDependencyError(
            "'google_audience' needs google-auth. Run: pip install 'mlflow-connections-http[google]'."
        ) from None
    try:
        request: Any = Request()
        if federation := _federation():
            return _fetch_federated(federation, audience, request)
        return str(id_token.fetch_id_token(request, audience))  # type: ignore[no-untyped-call,unused-ignore]
    except (exceptions.GoogleAuthError, ValueError, KeyError, OSError) as error:
        reason = str(error.args[0] if error.args else error)[:_SHOWN].rstrip(".")
        raise AccessError(
            f"Google issued no identity token for '{audience}': {reason}. Set "
            f"{_FILE}, or run where a service account is attached."
        ) from None


def _federation() -> dict[str, Any] | None:
    """Read the file of workload identity federation; None if there is none, or a file of another kind."""
    path = os.environ.get(_FILE)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError):
        return None  # google-auth reports the fault
    is_one = isinstance(content, dict) and content.get("type") == "external_account"
    return content if is_one else None


def _fetch_federated(content: dict[str, Any], audience: str, request: Any) -> str:
    from google.auth import impersonated_credentials

    found = _ACCOUNT.search(str(content.pop("service_account_impersonation_url", "")))
    if found is None:
        raise ValueError(
            f"the file of {_FILE} names no service account to impersonate, and only those have identity tokens"
        )
    account: Any = impersonated_credentials.Credentials(  # type: ignore[no-untyped-call,unused-ignore]
        source_credentials=_federated(content),
        target_principal=found[1],
        target_scopes=list(_SCOPES),
    )
    # IAP reads the account's address from the token.
    token: Any = impersonated_credentials.IDTokenCredentials(  # type: ignore[no-untyped-call,unused-ignore]
        account, target_audience=audience, include_email=True
    )
    token.refresh(request)
    return str(token.token)


def _federated(content: Mapping[str, Any]) -> Any:
    """Create the credentials of a file as google-auth does."""
    from google.auth import aws, identity_pool, pluggable

    source = content.get("credential_source") or {}
    kind: Any = identity_pool
    if str(source.get("environment_id", "")).startswith("aws"):
        kind = aws
    elif "executable" in source:
        kind = pluggable
    return kind.Credentials.from_info(content, scopes=list(_SCOPES))
