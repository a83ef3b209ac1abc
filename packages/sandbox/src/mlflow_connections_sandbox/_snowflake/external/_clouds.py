"""The clouds' side of an integration: trust policies, proofs of identity, and required clauses.

Snowflake shows the administrator its identity (`DESCRIBE INTEGRATION`), and the administrator
copies it into the cloud's trust policy. Replacing an integration gives it a new identity, which the
cloud does not know. On Amazon the external ID is the reason; the stand-in is as strict for the
other clouds.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlflow_connections_sandbox._snowflake._errors import (
    invalid_property,
    invalid_value,
    missing_options,
)

ACCOUNT = "SANDBOX"
_AWS_USER = "arn:aws:iam::123456789001:user/sandbox"
_LIFETIME = 3600
"""The validity of a proof, in seconds."""


class Refused(Exception):  # noqa: N818 - the cloud's response, not an error of the program
    """The cloud does not know the caller."""


class CloudIdentity(NamedTuple):
    """The identity of Snowflake for one integration.

    Attributes:
        provider: aws, azure or google.
        resource: The requested role, application in a tenant, or audience.
        principal: The caller.
    """

    provider: str
    resource: str
    principal: str


def new_identity(domain: str) -> dict[str, str]:
    """Return the properties of a new identity, which DESCRIBE shows in addition to the clauses.

    Args:
        domain: aws, azure or google.
    """
    token = secrets.token_hex(8)
    if domain == "aws":
        return {"IAM_USER_ARN": _AWS_USER, "EXTERNAL_ID": f"{ACCOUNT}_SFCRole=2_{token}="}
    if domain == "azure":
        return {
            "AZURE_CONSENT_URL": f"https://login.microsoftonline.com/consent?client_id={token}",
            "AZURE_MULTI_TENANT_APP_NAME": f"snowflakeapp{token}_1700000000000",
        }
    return {"GCP_SERVICE_ACCOUNT": f"{token}@sandbox.iam.gserviceaccount.com"}


def api_identity(properties: Mapping[str, Any]) -> CloudIdentity:
    """Return the identity of an API integration."""
    provider = properties["API_PROVIDER"]
    if "AWS" in provider:
        principal = f"{properties['API_AWS_IAM_USER_ARN']} {properties['API_AWS_EXTERNAL_ID']}"
        return CloudIdentity("aws", properties["API_AWS_ROLE_ARN"], principal)
    if "AZURE" in provider:
        resource = f"{properties['AZURE_TENANT_ID']} {properties['AZURE_AD_APPLICATION_ID']}"
        return CloudIdentity("azure", resource, properties["AZURE_MULTI_TENANT_APP_NAME"])
    return CloudIdentity(
        "google", properties["GOOGLE_AUDIENCE"], properties["API_GCP_SERVICE_ACCOUNT"]
    )


def storage_identity(properties: Mapping[str, Any]) -> CloudIdentity:
    """Return the identity of a storage integration."""
    provider = properties["STORAGE_PROVIDER"]
    if provider == "AZURE":
        return CloudIdentity(
            "azure", properties["AZURE_TENANT_ID"], properties["AZURE_MULTI_TENANT_APP_NAME"]
        )
    if provider == "GCS":
        locations = " ".join(properties["STORAGE_ALLOWED_LOCATIONS"])
        return CloudIdentity("google", locations, properties["STORAGE_GCP_SERVICE_ACCOUNT"])
    principal = f"{properties['STORAGE_AWS_IAM_USER_ARN']} {properties['STORAGE_AWS_EXTERNAL_ID']}"
    return CloudIdentity("aws", properties["STORAGE_AWS_ROLE_ARN"], principal)


class Clouds:
    """The trust policies of the three clouds.

    Attributes:
        trust_all: Whether every identity is trusted.
    """

    def __init__(self) -> None:
        self.trust_all = False
        self._trusted: set[CloudIdentity] = set()
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(32)

    def trust(self, identity: CloudIdentity) -> None:
        """Trust an identity."""
        with self._lock:
            self._trusted.add(identity)

    def is_trusted(self, identity: CloudIdentity) -> bool:
        """Return whether the cloud trusts an identity."""
        with self._lock:
            return self.trust_all or identity in self._trusted

    def prove(self, identity: CloudIdentity, method: str, url: str, body: bytes) -> str:
        """Return the `Authorization` of a request: a signature for AWS, a token for the others.

        Raises:
            Refused: The cloud does not trust the identity.
        """
        if not self.is_trusted(identity):
            raise Refused(_REFUSALS[identity.provider])
        claims: dict[str, Any] = {**identity._asdict(), "exp": time.time() + _LIFETIME}
        if identity.provider == "aws":
            claims["request"] = _digest(method, url, body)
        text = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
        signature = hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
        return f"{_AUTH_SCHEMES[identity.provider]} {text}.{signature}"

    def check(self, provider: str, proof: str, method: str, url: str, body: bytes) -> None:
        """Check the `Authorization` of a received request.

        Raises:
            Refused: It is missing, forged, expired, for another request, or no longer trusted.
        """
        scheme, _, token = proof.partition(" ")
        text, _, signature = token.partition(".")
        expected = hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
        if scheme != _AUTH_SCHEMES[provider] or not hmac.compare_digest(expected, signature):
            raise Refused("no proof of identity")
        claims = json.loads(base64.urlsafe_b64decode(text))
        identity = CloudIdentity(claims["provider"], claims["resource"], claims["principal"])
        if identity.provider != provider or claims["exp"] < time.time():
            raise Refused("the proof is another cloud's, or too old")
        if not self.is_trusted(identity):
            raise Refused("the identity is not trusted")
        if provider == "aws" and claims["request"] != _digest(method, url, body):
            raise Refused("the signature is another request's")


_AUTH_SCHEMES = {"aws": "AWS4-HMAC-SHA256", "azure": "Bearer", "google": "Bearer"}
_REFUSALS = {
    "aws": "Error assuming AWS_ROLE. Please verify the role and externalId are configured correctly "
    "in your AWS policy.",
    "azure": "Failed to obtain an access token. Verify that the Snowflake service principal has "
    "access to your Azure AD tenant.",
    "google": "Failed to obtain an identity token. Verify that the Snowflake service account is "
    "allowed to call the gateway.",
}


def _digest(method: str, url: str, body: bytes) -> str:
    return hashlib.sha256(b"\n".join((method.encode(), url.encode(), body))).hexdigest()


def provider_of(properties: Mapping[str, Any]) -> str:
    """Return aws, azure or google for an API or storage integration."""
    provider = properties.get("API_PROVIDER") or properties["STORAGE_PROVIDER"]
    if "AZURE" in provider:
        return "azure"
    return "google" if provider.startswith(("GOOGLE", "GCS")) else "aws"


_API_NEEDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            *("AWS_API_GATEWAY", "AWS_PRIVATE_API_GATEWAY"),
            *("AWS_GOV_API_GATEWAY", "AWS_GOV_PRIVATE_API_GATEWAY"),
        ),
        ("API_AWS_ROLE_ARN",),
    ),
    "AZURE_API_MANAGEMENT": ("AZURE_TENANT_ID", "AZURE_AD_APPLICATION_ID"),
    "GOOGLE_API_GATEWAY": ("GOOGLE_AUDIENCE",),
}
_API_SPECIAL = frozenset(name for needs in _API_NEEDS.values() for name in needs)
_STORAGE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "S3": ("STORAGE_AWS_ROLE_ARN",),
    "S3GOV": ("STORAGE_AWS_ROLE_ARN",),
    "GCS": (),
    "AZURE": ("AZURE_TENANT_ID",),
}
_STORAGE_SPECIAL = frozenset(("STORAGE_AWS_ROLE_ARN", "AZURE_TENANT_ID"))
_URL_SCHEMES = {"S3": "s3://", "S3GOV": "s3gov://", "GCS": "gcs://", "AZURE": "azure://"}
_ROLE_ARN = re.compile(r"arn:aws(-us-gov)?:iam::\d{12}:role/[\w+=,.@/-]+")
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def check_integration(kind: str, properties: Mapping[str, Any]) -> None:
    """Check the clauses of an integration.

    Raises:
        SqlError: A clause is missing, belongs to another provider, or has an invalid value.
    """
    if kind == "API INTEGRATION":
        _check_api(properties)
    elif kind == "STORAGE INTEGRATION":
        _check_storage(properties)
    arn = properties.get("API_AWS_ROLE_ARN") or properties.get("STORAGE_AWS_ROLE_ARN")
    if arn is not None and not _ROLE_ARN.fullmatch(arn):
        raise invalid_value(arn, "AWS_ROLE_ARN", "it is not the ARN of a role")
    for name in ("AZURE_TENANT_ID", "AZURE_AD_APPLICATION_ID"):
        if name in properties and not _GUID.fullmatch(properties[name]):
            raise invalid_value(properties[name], name, "it is not a GUID")


def add_identity(kind: str, properties: dict[str, Any]) -> None:
    """Add the properties that identify a new integration to its cloud."""
    if kind not in {"API INTEGRATION", "STORAGE INTEGRATION"}:
        return
    prefix = "API" if kind == "API INTEGRATION" else "STORAGE"
    for name, value in new_identity(provider_of(properties)).items():
        key = name if name.startswith("AZURE") else f"{prefix}_{_aws(name)}{name}"
        properties.setdefault(key, value)


def _aws(name: str) -> str:
    return "AWS_" if name in {"IAM_USER_ARN", "EXTERNAL_ID"} else ""


def _check_api(properties: Mapping[str, Any]) -> None:
    provider = properties["API_PROVIDER"]
    if provider not in _API_NEEDS:
        raise invalid_value(provider, "API_PROVIDER")
    _check_special(properties, _API_NEEDS[provider], _API_SPECIAL, "API INTEGRATION")
    if not properties["API_ALLOWED_PREFIXES"]:
        raise invalid_value("", "API_ALLOWED_PREFIXES", "there has to be one")
    for name in ("API_ALLOWED_PREFIXES", "API_BLOCKED_PREFIXES"):
        for prefix in properties.get(name, ()):
            if not re.match(r"https://[^/]+", prefix):
                raise invalid_value(prefix, name, "it is not an https URL")


def _check_storage(properties: Mapping[str, Any]) -> None:
    if properties["TYPE"] != "EXTERNAL_STAGE":
        raise invalid_value(properties["TYPE"], "TYPE")
    provider = properties["STORAGE_PROVIDER"]
    if provider not in _STORAGE_NEEDS:
        raise invalid_value(provider, "STORAGE_PROVIDER")
    _check_special(properties, _STORAGE_NEEDS[provider], _STORAGE_SPECIAL, "STORAGE INTEGRATION")
    if not properties["STORAGE_ALLOWED_LOCATIONS"]:
        raise invalid_value("", "STORAGE_ALLOWED_LOCATIONS", "there has to be one")
    for name in ("STORAGE_ALLOWED_LOCATIONS", "STORAGE_BLOCKED_LOCATIONS"):
        for location in properties.get(name, ()):
            if location != "*" and not location.startswith(_URL_SCHEMES[provider]):
                raise invalid_value(
                    location, name, f"it does not begin with {_URL_SCHEMES[provider]}"
                )


def _check_special(
    properties: Mapping[str, Any], needed: tuple[str, ...], special: frozenset[str], what: str
) -> None:
    missing = [name for name in needed if name not in properties]
    if missing:
        raise missing_options(missing)
    for name in sorted(special - set(needed)):
        if name in properties:
            raise invalid_property(name, what)
