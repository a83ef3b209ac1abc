"""The administrator's part: roles, integrations, and the place where everything lies.

Integrations are never replaced: a new one has a new external id, which breaks the trust that the
cloud's administrator has set up. They are created where there are none, and altered otherwise.
"""

from collections.abc import Iterator

from ._gateway_setup import PROVIDERS, Gateway
from ._names import Name, literal, literals
from ._setup import Setup
from ._statement import ADMIN, Statement, Thing, alter, create, grant, grant_role, use_role
from ._storage_setup import Storage


def admin_part(setup: Setup) -> Iterator[Statement]:
    """Give the administrator's statements, in order."""
    gateway, database, schema = setup.generating()
    owner, caller = setup.roles.owner, setup.roles.caller
    yield use_role(ADMIN, setup.roles.admin)
    for role in (owner, caller):
        yield create(ADMIN, Thing("ROLE", role))
    yield grant_role(ADMIN, owner, setup.roles.admin)
    yield grant_role(ADMIN, caller, owner)
    yield from _api_integration(gateway)
    yield grant(ADMIN, "USAGE", api_integration(gateway), owner)
    if setup.storage:
        yield from _storage_integration(setup.storage)
        yield grant(ADMIN, "USAGE", storage_integration(setup.storage), owner)
    yield create(ADMIN, Thing("DATABASE", Name((database,))))
    yield create(ADMIN, Thing("SCHEMA", Name((database, schema))))
    for place in _schemas(setup):
        inside = Thing("SCHEMA", place)
        for role in (owner, caller):
            yield grant(ADMIN, "USAGE", Thing("DATABASE", Name(place.parts[:1])), role)
            yield grant(ADMIN, "USAGE", inside, role)
        for privilege in ("CREATE FUNCTION", "CREATE STAGE"):
            yield grant(ADMIN, privilege, inside, owner)


def api_integration(gateway: Gateway) -> Thing:
    """Give the API integration as a thing."""
    return Thing("API INTEGRATION", gateway.integration)


def storage_integration(storage: Storage) -> Thing:
    """Give the storage integration as a thing."""
    return Thing("STORAGE INTEGRATION", storage.integration)


def _schemas(setup: Setup) -> list[Name]:
    """Every schema that something lies in, the main one first."""
    _, database, schema = setup.generating()
    names = [*setup.functions.values(), setup.stage]
    if setup.storage:
        names.append(setup.storage.internal_stage)
    return list(dict.fromkeys([Name((database, schema)), *(Name(n.parts[:-1]) for n in names)]))


def _api_integration(gateway: Gateway) -> Iterator[Statement]:
    trust = {
        "aws": (f"API_AWS_ROLE_ARN = {literal(gateway.role_arn)}",),
        "azure": (
            f"AZURE_TENANT_ID = {literal(gateway.tenant_id)}",
            f"AZURE_AD_APPLICATION_ID = {literal(gateway.application_id)}",
        ),
        "google": (f"GOOGLE_AUDIENCE = {literal(gateway.audience)}",),
    }[gateway.cloud]
    allowed = (f"API_ALLOWED_PREFIXES = {literals((gateway.prefix,))}", "ENABLED = TRUE")
    provider = f"API_PROVIDER = {PROVIDERS[gateway.provider]}"
    thing = api_integration(gateway)
    yield create(
        ADMIN,
        thing,
        provider,
        *trust,
        *allowed,
        purpose="the way to the gateway; never replaced, since the cloud trusts this very one",
    )
    yield alter(ADMIN, thing, *allowed)


def _storage_integration(storage: Storage) -> Iterator[Statement]:
    trust = {
        "S3": (f"STORAGE_AWS_ROLE_ARN = {literal(storage.role_arn)}",),
        "S3GOV": (f"STORAGE_AWS_ROLE_ARN = {literal(storage.role_arn)}",),
        "AZURE": (f"AZURE_TENANT_ID = {literal(storage.tenant_id)}",),
        "GCS": (),
    }[storage.provider]
    allowed = (f"STORAGE_ALLOWED_LOCATIONS = {literals((storage.location,))}",)
    thing = storage_integration(storage)
    yield create(
        ADMIN,
        thing,
        "TYPE = EXTERNAL_STAGE",
        f"STORAGE_PROVIDER = {literal(storage.provider)}",
        *trust,
        "ENABLED = TRUE",
        *allowed,
        purpose="the way to MLflow's artifacts; never replaced, since the cloud trusts this one",
    )
    yield alter(ADMIN, thing, *trust, "ENABLED = TRUE", *allowed)
