"""All SQL of the bridge: what is created, by whom, and why in this order.

It can be run again at any time. Integrations are never replaced: a new one has a new external id,
which breaks the trust that the cloud's administrator has set up. Functions are replaced, which
drops their grants, so each is granted again right after.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ._functions import BY_KEY, FUNCTIONS, Function
from ._gateway_setup import PROVIDERS, Gateway
from ._names import Name, literal, literals, quoted
from ._setup import Setup
from ._storage_setup import Storage
from ._translators import RESPONSE, source

ADMIN, OWNER = "admin", "owner"


class Statement(NamedTuple):
    """One statement, without a semicolon.

    Attributes:
        part: Who runs it: `ADMIN` or `OWNER`.
        purpose: What it is for, in some words.
        sql: Its text.
    """

    part: str
    purpose: str
    sql: str


def statements(setup: Setup) -> list[Statement]:
    """Give every statement that sets the bridge up, in order.

    Raises:
        MissingOptionError: The setup lacks what only the generator needs.
    """
    setup.generating()
    return [
        *(Statement(ADMIN, *rest) for rest in _admin(setup)),
        *(Statement(OWNER, *rest) for rest in _owner(setup)),
    ]


def drops(
    setup: Setup, *, stages: bool = False, integrations: bool = False
) -> list[Statement]:
    """Give the statements that take the bridge away again, in order.

    Args:
        setup: The setup.
        stages: Also the stages; what lies on an internal one is then lost.
        integrations: Also the integrations; what the cloud's administrator set up is then void.
    """
    gateway, _, _ = setup.generating()
    owner = [
        ("become the owner", _use_role(setup.roles.owner)),
        *(
            (f"drop {key}", f"DROP FUNCTION IF EXISTS {name.sql}({_types(arguments)})")
            for key, name in setup.functions.items()
            for arguments in BY_KEY[key].signatures
        ),
        *(
            (f"drop the translator {name.object}", f"DROP FUNCTION IF EXISTS {name.sql}(OBJECT)")
            for name in (
                *(setup.request_translator(function.key) for function in FUNCTIONS),
                setup.response_translator,
            )
        ),
    ]
    if stages:
        owner.append(("drop the stage", f"DROP STAGE IF EXISTS {setup.stage.sql}"))
        if setup.storage:
            stage = setup.storage.internal_stage.sql
            owner.append(("drop the stage of uploads", f"DROP STAGE IF EXISTS {stage}"))
    admin: list[tuple[str, str]] = []
    if integrations:
        admin.append(("become the administrator", _use_role(setup.roles.admin)))
        names = [gateway.integration]
        if setup.storage:
            names.append(setup.storage.integration)
        admin += [(f"drop {n.object}", f"DROP INTEGRATION IF EXISTS {n.sql}") for n in names]
    return [
        *(Statement(OWNER, *rest) for rest in owner),
        *(Statement(ADMIN, *rest) for rest in admin),
    ]


def script(written: list[Statement]) -> str:
    """Give statements as a file for people to read and for Snowflake to run."""
    lines: list[str] = []
    part = ""
    for statement in written:
        if statement.part != part:
            part = statement.part
            lines.append(f"-- The {part}'s part.\n")
        lines.append(f"-- {statement.purpose}\n{statement.sql};\n")
    return "\n".join(lines)


def _admin(setup: Setup) -> Iterator[tuple[str, str]]:
    gateway, database, schema = setup.generating()
    owner, caller = setup.roles.owner, setup.roles.caller
    yield "become the administrator", _use_role(setup.roles.admin)
    for role in (owner, caller):
        yield f"the role {role}", f"CREATE ROLE IF NOT EXISTS {role.sql}"
    yield (
        "the administrator may act as owner",
        f"GRANT ROLE {owner.sql} TO ROLE {setup.roles.admin.sql}",
    )
    yield "the owner may do what callers may", f"GRANT ROLE {caller.sql} TO ROLE {owner.sql}"
    yield from _api_integration(gateway)
    yield "the owner may use it", _grant("USAGE", f"INTEGRATION {gateway.integration.sql}", owner)
    if setup.storage:
        yield from _storage_integration(setup.storage)
        storage = f"INTEGRATION {setup.storage.integration.sql}"
        yield "the owner may use it", _grant("USAGE", storage, owner)
    yield "the database", f"CREATE DATABASE IF NOT EXISTS {quoted(database)}"
    yield "the schema", f"CREATE SCHEMA IF NOT EXISTS {quoted(database)}.{quoted(schema)}"
    for place in _schemas(setup):
        for role in (owner, caller):
            yield f"{role} may enter it", _grant("USAGE", f"DATABASE {quoted(place.parts[0])}", role)
            yield f"{role} may enter it", _grant("USAGE", f"SCHEMA {place.sql}", role)
        privileges = "CREATE FUNCTION, CREATE STAGE"
        yield "the owner may create here", _grant(privileges, f"SCHEMA {place.sql}", owner)


def _owner(setup: Setup) -> Iterator[tuple[str, str]]:
    yield "become the owner", _use_role(setup.roles.owner)
    yield from _translator(setup, setup.response_translator, RESPONSE)
    for function in FUNCTIONS:
        yield from _translator(setup, setup.request_translator(function.key), function.key)
        for arguments in function.signatures:
            yield function.comment, _external_function(setup, function, arguments)
            yield "callers may call it", grant_function(setup, function, arguments)
    yield from _stages(setup)


def _schemas(setup: Setup) -> list[Name]:
    """Every schema that something lies in, the main one first."""
    _, database, schema = setup.generating()
    names = [*setup.functions.values(), setup.stage]
    if setup.storage:
        names.append(setup.storage.internal_stage)
    return list(dict.fromkeys([Name((database, schema)), *(Name(n.parts[:-1]) for n in names)]))


def _use_role(role: Name) -> str:
    return f"USE ROLE {role.sql}"


def _grant(privileges: str, what: str, role: Name) -> str:
    return f"GRANT {privileges} ON {what} TO ROLE {role.sql}"


def _api_integration(gateway: Gateway) -> Iterator[tuple[str, str]]:
    integration, prefixes = gateway.integration.sql, literals((gateway.prefix,))
    trust = {
        "aws": f"API_AWS_ROLE_ARN = {literal(gateway.role_arn)}",
        "azure": f"AZURE_TENANT_ID = {literal(gateway.tenant_id)} "
        f"AZURE_AD_APPLICATION_ID = {literal(gateway.application_id)}",
        "google": f"GOOGLE_AUDIENCE = {literal(gateway.audience)}",
    }[gateway.cloud]
    yield (
        "the way to the gateway; never replaced, the cloud trusts this very one",
        f"CREATE API INTEGRATION IF NOT EXISTS {integration}\n"
        f"  API_PROVIDER = {PROVIDERS[gateway.provider]}\n"
        f"  {trust}\n"
        f"  API_ALLOWED_PREFIXES = {prefixes}\n"
        "  ENABLED = TRUE",
    )
    yield (
        "where it was there before, only what may change is changed",
        f"ALTER API INTEGRATION {integration} SET\n"
        f"  API_ALLOWED_PREFIXES = {prefixes}\n"
        "  ENABLED = TRUE",
    )


def _storage_integration(storage: Storage) -> Iterator[tuple[str, str]]:
    integration, locations = storage.integration.sql, literals((storage.location,))
    trust = {
        "S3": f"  STORAGE_AWS_ROLE_ARN = {literal(storage.role_arn)}\n",
        "S3GOV": f"  STORAGE_AWS_ROLE_ARN = {literal(storage.role_arn)}\n",
        "AZURE": f"  AZURE_TENANT_ID = {literal(storage.tenant_id)}\n",
    }.get(storage.provider, "")
    yield (
        "the way to MLflow's artifacts; never replaced, the cloud trusts this very one",
        f"CREATE STORAGE INTEGRATION IF NOT EXISTS {integration}\n"
        "  TYPE = EXTERNAL_STAGE\n"
        f"  STORAGE_PROVIDER = {literal(storage.provider)}\n"
        f"{trust}"
        "  ENABLED = TRUE\n"
        f"  STORAGE_ALLOWED_LOCATIONS = {locations}",
    )
    yield (
        "where it was there before, only what may change is changed",
        f"ALTER STORAGE INTEGRATION {integration} SET\n"
        f"{trust}"
        "  ENABLED = TRUE\n"
        f"  STORAGE_ALLOWED_LOCATIONS = {locations}",
    )


def _translator(setup: Setup, name: Name, key: str) -> Iterator[tuple[str, str]]:
    yield (
        f"the translator {key}.js",
        f"CREATE OR REPLACE FUNCTION {name.sql}(EVENT OBJECT)\n"
        "  RETURNS OBJECT\n"
        "  LANGUAGE JAVASCRIPT\n"
        "  VOLATILE\n"
        f"  AS $$\n{source(key)}$$",
    )
    yield (
        "callers may have it run",
        _grant("USAGE", f"FUNCTION {name.sql}(OBJECT)", setup.roles.caller),
    )


def _external_function(
    setup: Setup, function: Function, arguments: tuple[tuple[str, str], ...]
) -> str:
    gateway, _, _ = setup.generating()
    declared = ", ".join(f"{name} {kind}" for name, kind in arguments)
    return (
        f"CREATE OR REPLACE EXTERNAL FUNCTION {setup.functions[function.key].sql}({declared})\n"
        "  RETURNS VARIANT\n"
        "  VOLATILE\n"
        f"  COMMENT = {literal(function.comment)}\n"
        f"  API_INTEGRATION = {gateway.integration.sql}\n"
        f"  MAX_BATCH_ROWS = {function.rows}\n"
        # MLflow answers 400 to a gzip body, which is what AUTO sends.
        "  COMPRESSION = NONE\n"
        f"  REQUEST_TRANSLATOR = {setup.request_translator(function.key).sql}\n"
        f"  RESPONSE_TRANSLATOR = {setup.response_translator.sql}\n"
        f"  AS {literal(gateway.prefix + function.endpoint)}"
    )


def grant_function(
    setup: Setup, function: Function, arguments: tuple[tuple[str, str], ...]
) -> str:
    """Give the statement that lets callers call one signature of a function."""
    signature = f"{setup.functions[function.key].sql}({_types(arguments)})"
    return _grant("USAGE", f"FUNCTION {signature}", setup.roles.caller)


def _types(arguments: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(kind for _, kind in arguments)


def _stages(setup: Setup) -> Iterator[tuple[str, str]]:
    caller = setup.roles.caller
    if setup.storage is None:
        yield "the stage for artifacts", f"CREATE STAGE IF NOT EXISTS {setup.stage.sql}"
        yield from _internal_grants(setup.stage, caller)
        return
    storage = setup.storage
    yield (
        "the stage on MLflow's artifact root",
        f"CREATE STAGE IF NOT EXISTS {setup.stage.sql}\n"
        f"  URL = {literal(storage.location)}\n"
        f"  STORAGE_INTEGRATION = {storage.integration.sql}",
    )
    yield "callers may use it", _grant("USAGE", f"STAGE {setup.stage.sql}", caller)
    internal = storage.internal_stage
    yield (
        "the stage that takes uploads, which are then copied to the other",
        f"CREATE STAGE IF NOT EXISTS {internal.sql}",
    )
    yield from _internal_grants(internal, caller)


def _internal_grants(stage: Name, caller: Name) -> Iterator[tuple[str, str]]:
    # Snowflake grants WRITE on a stage only to who has READ.
    yield "callers may read it", _grant("READ", f"STAGE {stage.sql}", caller)
    yield "callers may write to it", _grant("WRITE", f"STAGE {stage.sql}", caller)
