"""The cloud's gateway between Snowflake and MLflow, as configured."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ._functions import API_PATH
from ._names import Name, name
from ._section import Section

# https://docs.snowflake.com/en/sql-reference/sql/create-api-integration
PROVIDERS = {
    "aws": "aws_api_gateway",
    "aws_private": "aws_private_api_gateway",
    "aws_gov": "aws_gov_api_gateway",
    "azure": "azure_api_management",
    "google": "google_api_gateway",
}
"""What a person writes, and the API_PROVIDER that Snowflake knows."""

_TRUST = {
    "aws": ("role_arn",),
    "azure": ("tenant_id", "application_id"),
    "google": ("audience",),
}
GATEWAY_KEYS = (
    "provider",
    "url",
    "integration",
    "role_arn",
    "tenant_id",
    "application_id",
    "audience",
)


_GUID = (
    r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "01234567-89ab-cdef-0123-456789abcdef",
)
_FORMS = {
    "role_arn": (
        r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+",
        "arn:aws:iam::123456789012:role/name",
    ),
    "tenant_id": _GUID,
    "application_id": _GUID,
}


@dataclass(frozen=True)
class Gateway:
    """What Snowflake must know of the gateway.

    Attributes:
        provider: A key of `PROVIDERS`.
        url: Where MLflow's root appears at the gateway, without a slash at its end.
        integration: The name of the API integration.
        role_arn: AWS: the role that Snowflake takes on.
        tenant_id: Azure: the tenant.
        application_id: Azure: the AD application that guards the gateway.
        audience: Google: the audience of the gateway's configuration.
    """

    provider: str
    url: str
    integration: Name
    role_arn: str = ""
    tenant_id: str = ""
    application_id: str = ""
    audience: str = ""

    @property
    def cloud(self) -> str:
        """`aws`, `azure` or `google`."""
        return self.provider.partition("_")[0]

    @property
    def prefix(self) -> str:
        """The only URLs that Snowflake may call."""
        return self.url + API_PATH


def read_gateway(section: Section) -> Gateway | None:
    """Read `mlflow.gateway`; None where there is none.

    Raises:
        InvalidOptionError: Something in it cannot work.
        MissingOptionError: Something that the provider needs is not in it.
    """
    if section.content.get("gateway") is None:
        return None
    gateway = section.section("gateway")
    gateway.only(*GATEWAY_KEYS)
    provider = gateway.text("provider")
    if provider not in PROVIDERS:
        raise gateway.invalid("provider", f"is {provider!r}, not one of {', '.join(PROVIDERS)}")
    trust = _TRUST[provider.partition("_")[0]]
    for key in GATEWAY_KEYS[3:]:
        if key not in trust and gateway.content.get(key) is not None:
            raise gateway.invalid(key, f"is of no use with the provider {provider}")
    return Gateway(
        provider,
        url(gateway, "url"),
        name(gateway.text("integration", "MLFLOW_API"), gateway.place("integration"), 1),
        **{key: trusted(gateway, key) for key in trust},
    )


def trusted(section: Section, key: str) -> str:
    """Give a value that says whom the cloud trusts, in the form that the cloud gives it.

    Raises:
        InvalidOptionError: It has another form.
    """
    text = filled(section, key)
    pattern, form = _FORMS.get(key, (r".*", ""))
    if not re.fullmatch(pattern, text, re.ASCII):
        raise section.invalid(key, f"is {text!r}, not of the form {form}")
    return text


def filled(section: Section, key: str) -> str:
    """Give a text that is not empty and holds no control characters."""
    text = section.text(key)
    if not text or re.search(r"[\x00-\x1f\x7f]", text):
        raise section.invalid(key, f"is {text!r}, which is empty or holds control characters")
    return text


def url(section: Section, key: str) -> str:
    """Give an https URL without query, fragment, userinfo and the slashes at its end."""
    text = filled(section, key)
    if re.search(r"\s", text) or not re.fullmatch(
        r"https://[A-Za-z0-9.-]+(:\d+)?(/[\w.~%/-]*)?", text, re.ASCII
    ):
        raise section.invalid(
            key, "must be an https URL of host and path alone; Snowflake calls no other"
        )
    if urlsplit(text).path.rstrip("/").endswith(API_PATH.rstrip("/")):
        raise section.invalid(key, f"must end before {API_PATH}, which is added")
    return text.rstrip("/")
