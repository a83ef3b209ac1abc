"""What an integration's clauses must be, and what the server adds to them."""

import re
from collections.abc import Mapping
from typing import Any

from ._clouds import new_identity, provider_of
from ._errors import invalid_property, invalid_value, missing_options

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
_SCHEMES = {"S3": "s3://", "S3GOV": "s3gov://", "GCS": "gcs://", "AZURE": "azure://"}
_ROLE_ARN = re.compile(r"arn:aws(-us-gov)?:iam::\d{12}:role/[\w+=,.@/-]+")
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def check_integration(kind: str, properties: Mapping[str, Any]) -> None:
    """Look at the clauses of an integration.

    Raises:
        SqlError: One is missing, does not belong to its provider, or has no possible value.
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
    """Add what makes a new integration somebody to its cloud."""
    if kind == "EXTERNAL ACCESS INTEGRATION":
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
            if location != "*" and not location.startswith(_SCHEMES[provider]):
                raise invalid_value(location, name, f"it does not begin with {_SCHEMES[provider]}")


def _check_special(
    properties: Mapping[str, Any], needed: tuple[str, ...], special: frozenset[str], what: str
) -> None:
    missing = [name for name in needed if name not in properties]
    if missing:
        raise missing_options(missing)
    for name in sorted(special - set(needed)):
        if name in properties:
            raise invalid_property(name, what)
