"""The cloud storage that MLflow keeps artifacts on, as configured."""

import re
from dataclasses import dataclass

from ._gateway_setup import filled, trusted
from ._names import Name, name, stage
from ._section import Section

# https://docs.snowflake.com/en/sql-reference/sql/create-storage-integration
_PROVIDERS = {"s3": "S3", "s3gov": "S3GOV", "gcs": "GCS", "azure": "AZURE"}
STORAGE_KEYS = ("location", "integration", "role_arn", "tenant_id", "internal_stage")


@dataclass(frozen=True)
class Storage:
    """Where artifacts go.

    Attributes:
        location: The URL of MLflow's artifact root, with a slash at its end.
        provider: As Snowflake calls it: S3, S3GOV, GCS or AZURE.
        integration: The name of the storage integration.
        internal_stage: Takes uploads, which are then copied to the external stage: a client's PUT
            to an external stage is refused.
        role_arn: S3: the role that Snowflake takes on.
        tenant_id: Azure: the tenant.
    """

    location: str
    provider: str
    integration: Name
    internal_stage: Name
    role_arn: str = ""
    tenant_id: str = ""


def read_storage(section: Section, database: str | None, schema: str | None) -> Storage | None:
    """Read `mlflow.storage`; None where there is none.

    Raises:
        InvalidOptionError: Something in it cannot work.
        MissingOptionError: Something that the provider needs is not in it.
    """
    if section.content.get("storage") is None:
        return None
    storage = section.section("storage")
    storage.only(*STORAGE_KEYS)
    location = filled(storage, "location")
    scheme = location.partition("://")[0]
    if not re.fullmatch(r"(s3|s3gov|gcs|azure)://[^\s/'\"\\]+(/[^\s'\"\\]*)?", location):
        raise storage.invalid(
            "location", f"is {location!r}, not s3://…, s3gov://…, gcs://… or azure://…"
        )
    provider = _PROVIDERS[scheme]
    trust = {"S3": "role_arn", "S3GOV": "role_arn", "AZURE": "tenant_id"}.get(provider)
    return Storage(
        location if location.endswith("/") else location + "/",
        provider,
        name(storage.text("integration", "MLFLOW_STORAGE"), storage.place("integration"), 1),
        stage(
            storage.text("internal_stage", "@MLFLOW_UPLOADS"), storage.place("internal_stage")
        ).within(database, schema),
        **({trust: trusted(storage, trust)} if trust else {}),
    )
