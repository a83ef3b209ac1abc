"""All SQL of the bridge. It can be run again at any time.

The forms of statements, each name in double quotes and each clause on a line of its own:

    USE ROLE r
    CREATE ROLE | DATABASE | SCHEMA | STAGE IF NOT EXISTS n
    CREATE API INTEGRATION | STORAGE INTEGRATION IF NOT EXISTS n …
    ALTER API INTEGRATION | STORAGE INTEGRATION n SET …
    CREATE STAGE IF NOT EXISTS n URL = '…' STORAGE_INTEGRATION = n
    CREATE OR REPLACE FUNCTION n(EVENT OBJECT) RETURNS OBJECT LANGUAGE JAVASCRIPT VOLATILE AS $$…$$
    CREATE OR REPLACE EXTERNAL FUNCTION n(a type, …) RETURNS VARIANT VOLATILE COMMENT = '…'
        API_INTEGRATION = n MAX_BATCH_ROWS = i COMPRESSION = NONE
        REQUEST_TRANSLATOR = n RESPONSE_TRANSLATOR = n AS 'https://…'
    GRANT ROLE r TO ROLE r
    GRANT USAGE | READ | WRITE | CREATE FUNCTION | CREATE STAGE
        ON INTEGRATION n | DATABASE n | SCHEMA n | FUNCTION n(type, …) | STAGE n TO ROLE r
    DROP FUNCTION IF EXISTS n(type, …);  DROP STAGE | INTEGRATION IF EXISTS n

Those of external access stand in `_external_access`.
"""

from collections.abc import Iterator

from mlflow_connections import MissingOptionError

from ._config import DEFAULT_SECRET, PROVIDERS, BridgeConfig, ExternalAccess, Gateway, Storage
from ._functions import BY_KEY, FUNCTIONS, RESPONSE, Function, source
from ._names import Identifier, literal, literals
from ._statement import (
    ADMIN,
    OWNER,
    SqlObject,
    Statement,
    alter,
    create,
    drop,
    grant,
    grant_role,
    use_role,
)


def statements(setup: BridgeConfig) -> list[Statement]:
    """Give every statement that sets the bridge up, in order.

    Raises:
        MissingOptionError: The setup lacks what only the generator needs.
    """
    if _is_external_access_alone(setup):
        return [*external_access_alone(setup), *external_access_part(setup)]
    return [*admin_part(setup), *external_access_part(setup), *owner_part(setup)]


def drops(
    setup: BridgeConfig, *, with_stages: bool = False, with_integrations: bool = False
) -> list[Statement]:
    """Give the statements that take the bridge away again, in order.

    Args:
        setup: The setup.
        with_stages: Also the stages; what lies on an internal one is then lost.
        with_integrations: Also the integrations; what the cloud's administrator set up is then void.

    Raises:
        MissingOptionError: The setup lacks what only the generator needs.
    """
    dropped: list[Statement] = []
    if not _is_external_access_alone(setup):
        setup.require_gateway()
        # A function before the translators that it names.
        mine = [
            *external_functions(setup),
            *translators(setup),
            *(stages(setup) if with_stages else ()),
        ]
        dropped = [use_role(OWNER, setup.roles.owner), *(drop(OWNER, thing) for thing in mine)]
    if with_integrations:
        dropped.append(use_role(ADMIN, setup.roles.admin))
        dropped += [drop(ADMIN, thing) for thing in _integrations(setup)]
    return dropped


def _is_external_access_alone(setup: BridgeConfig) -> bool:
    return setup.gateway is None and setup.external_access is not None


def _integrations(setup: BridgeConfig) -> list[SqlObject]:
    found: list[SqlObject] = []
    if not _is_external_access_alone(setup):
        gateway, _, _ = setup.require_gateway()
        found.append(api_integration(gateway))
        if setup.storage:
            found.append(storage_integration(setup.storage))
    if setup.external_access:
        # An integration before the rule and the secret that it names.
        found += reversed(things(setup.external_access))
    return found


def script(written: list[Statement]) -> str:
    """Give statements as a file for people to read and for Snowflake to run."""
    lines: list[str] = []
    part = ""
    for statement in written:
        if statement.run_as != part:
            part = statement.run_as
            lines.append(f"-- The {part}'s part.\n")
        # A name may hold a line break, which would end the comment.
        purpose = " ".join(statement.purpose.split())
        lines.append(f"-- {purpose}\n{statement.sql};\n")
    return "\n".join(lines)


def external_access_part(setup: "BridgeConfig") -> Iterator[Statement]:
    """Give the statements, in order, for a session that is the administrator's already."""
    access = setup.external_access
    if access is None:
        return
    rule, secret, integration = things(access)
    yield Statement(
        ADMIN,
        "what procedures may reach: MLflow, and nothing else",
        f"CREATE OR REPLACE {rule.kind} {rule.sql}\n"
        "  MODE = EGRESS\n"
        "  TYPE = HOST_PORT\n"
        f"  VALUE_LIST = {literals((access.host_and_port,))}",
        rule,
    )
    yield create(
        ADMIN,
        secret,
        "TYPE = GENERIC_STRING",
        "SECRET_STRING = ''",
        purpose="MLflow's token, empty: fill it in by ALTER SECRET … SET SECRET_STRING = '…'",
    )
    allowed = (
        f"ALLOWED_NETWORK_RULES = ({rule.sql})",
        f"ALLOWED_AUTHENTICATION_SECRETS = ({secret.sql})",
        "ENABLED = TRUE",
    )
    yield create(ADMIN, integration, *allowed, purpose="the way out for procedures that name it")
    yield alter(ADMIN, integration, *allowed)
    # A procedure's owner needs both to name them in EXTERNAL_ACCESS_INTEGRATIONS and SECRETS.
    yield grant(ADMIN, "USAGE", integration, setup.roles.owner)
    yield grant(ADMIN, "READ", secret, setup.roles.owner)


def external_access_alone(setup: "BridgeConfig") -> Iterator[Statement]:
    """Give what has to be there first, where no external functions are set up before.

    Raises:
        MissingOptionError: The setup does not say in which database and schema things lie.
    """
    if setup.database is None or setup.schema is None:
        raise MissingOptionError(
            f"{setup.where} lacks mlflow.database or mlflow.schema: without it no SQL can be "
            "written."
        )
    owner = setup.roles.owner
    schema = SqlObject("SCHEMA", Identifier((setup.database, setup.schema)))
    database = SqlObject("DATABASE", Identifier((setup.database,)))
    yield use_role(ADMIN, setup.roles.admin)
    yield create(ADMIN, SqlObject("ROLE", owner))
    yield grant_role(ADMIN, owner, setup.roles.admin)
    yield create(ADMIN, database)
    yield create(ADMIN, schema)
    yield grant(ADMIN, "USAGE", database, owner)
    yield grant(ADMIN, "USAGE", schema, owner)


def things(access: ExternalAccess) -> tuple[SqlObject, SqlObject, SqlObject]:
    """Give the network rule, the secret and the integration."""
    return (
        SqlObject("NETWORK RULE", access.network_rule),
        SqlObject("SECRET", access.secret),
        SqlObject("EXTERNAL ACCESS INTEGRATION", access.integration),
    )


def procedure_clauses(access: ExternalAccess) -> str:
    """Give the clauses that a procedure needs to reach MLflow itself."""
    return (
        f"EXTERNAL_ACCESS_INTEGRATIONS = ({access.integration.sql})\n"
        f"  SECRETS = ('{DEFAULT_SECRET}' = {access.secret.sql})"
    )


def admin_part(setup: BridgeConfig) -> Iterator[Statement]:
    """Give the administrator's statements, in order."""
    gateway, database, schema = setup.require_gateway()
    owner, caller = setup.roles.owner, setup.roles.caller
    yield use_role(ADMIN, setup.roles.admin)
    for role in (owner, caller):
        yield create(ADMIN, SqlObject("ROLE", role))
    yield grant_role(ADMIN, owner, setup.roles.admin)
    yield grant_role(ADMIN, caller, owner)
    yield from _api_integration(gateway)
    yield grant(ADMIN, "USAGE", api_integration(gateway), owner)
    if setup.storage:
        yield from _storage_integration(setup.storage)
        yield grant(ADMIN, "USAGE", storage_integration(setup.storage), owner)
    yield create(ADMIN, SqlObject("DATABASE", Identifier((database,))))
    yield create(ADMIN, SqlObject("SCHEMA", Identifier((database, schema))))
    for place in _schemas(setup):
        inside = SqlObject("SCHEMA", place)
        for role in (owner, caller):
            yield grant(ADMIN, "USAGE", SqlObject("DATABASE", Identifier(place.parts[:1])), role)
            yield grant(ADMIN, "USAGE", inside, role)
        for privilege in ("CREATE FUNCTION", "CREATE STAGE"):
            yield grant(ADMIN, privilege, inside, owner)


def api_integration(gateway: Gateway) -> SqlObject:
    """Give the API integration as a thing."""
    return SqlObject("API INTEGRATION", gateway.integration)


def storage_integration(storage: Storage) -> SqlObject:
    """Give the storage integration as a thing."""
    return SqlObject("STORAGE INTEGRATION", storage.integration)


def _schemas(setup: BridgeConfig) -> list[Identifier]:
    """Every schema that something lies in, the main one first."""
    _, database, schema = setup.require_gateway()
    names = [*setup.functions.values(), setup.stage]
    if setup.storage:
        names.append(setup.storage.internal_stage)
    return list(
        dict.fromkeys([Identifier((database, schema)), *(Identifier(n.parts[:-1]) for n in names)])
    )


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


def owner_part(setup: BridgeConfig) -> Iterator[Statement]:
    """Give the owner's statements, in order: a translator before the functions that name it."""
    yield use_role(OWNER, setup.roles.owner)
    yield from _translator(setup, setup.response_translator, RESPONSE)
    for function in FUNCTIONS:
        yield from _translator(setup, setup.request_translator(function.key), function.key)
        for arguments in function.signatures:
            yield from _external_function(setup, function, arguments)
    yield from _stages(setup)


def translators(setup: BridgeConfig) -> list[SqlObject]:
    """Give all translators."""
    names = [setup.request_translator(function.key) for function in FUNCTIONS]
    return [_translator_thing(name) for name in (*names, setup.response_translator)]


def external_functions(setup: BridgeConfig) -> list[SqlObject]:
    """Give all external functions, each signature for itself."""
    return [
        _function_thing(name, arguments)
        for key, name in setup.functions.items()
        for arguments in BY_KEY[key].signatures
    ]


def stages(setup: BridgeConfig) -> list[SqlObject]:
    """Give all stages."""
    names = [setup.stage, *([setup.storage.internal_stage] if setup.storage else [])]
    return [SqlObject("STAGE", name) for name in names]


def _translator_thing(name: Identifier) -> SqlObject:
    return SqlObject("FUNCTION", name, ("OBJECT",))


def _function_thing(name: Identifier, arguments: tuple[tuple[str, str], ...]) -> SqlObject:
    return SqlObject("EXTERNAL FUNCTION", name, tuple(kind for _, kind in arguments))


def _translator(setup: BridgeConfig, name: Identifier, key: str) -> Iterator[Statement]:
    thing = _translator_thing(name)
    yield Statement(
        OWNER,
        f"the translator {key}.js",
        f"CREATE OR REPLACE FUNCTION {name.sql}(EVENT OBJECT)\n"
        "  RETURNS OBJECT\n"
        "  LANGUAGE JAVASCRIPT\n"
        "  VOLATILE\n"
        f"  AS $$\n{source(key)}$$",
        thing,
    )
    yield grant(OWNER, "USAGE", thing, setup.roles.caller)


def _external_function(
    setup: BridgeConfig, function: Function, arguments: tuple[tuple[str, str], ...]
) -> Iterator[Statement]:
    gateway, _, _ = setup.require_gateway()
    name = setup.functions[function.key]
    thing = _function_thing(name, arguments)
    declared = ", ".join(f"{argument} {kind}" for argument, kind in arguments)
    yield Statement(
        OWNER,
        function.comment,
        f"CREATE OR REPLACE EXTERNAL FUNCTION {name.sql}({declared})\n"
        "  RETURNS VARIANT\n"
        "  VOLATILE\n"
        f"  COMMENT = {literal(function.comment)}\n"
        f"  API_INTEGRATION = {gateway.integration.sql}\n"
        f"  MAX_BATCH_ROWS = {function.rows}\n"
        # MLflow answers 400 to a gzip body, which is what AUTO sends.
        "  COMPRESSION = NONE\n"
        f"  REQUEST_TRANSLATOR = {setup.request_translator(function.key).sql}\n"
        f"  RESPONSE_TRANSLATOR = {setup.response_translator.sql}\n"
        f"  AS {literal(gateway.prefix + function.endpoint)}",
        thing,
    )
    yield grant(OWNER, "USAGE", thing, setup.roles.caller)


def _stages(setup: BridgeConfig) -> Iterator[Statement]:
    caller = setup.roles.caller
    # Uploads go to an internal stage: a client's PUT to an external one is refused (091003).
    *external, internal = stages(setup)
    if setup.storage and external:
        yield create(
            OWNER,
            external[0],
            f"URL = {literal(setup.storage.location)}",
            f"STORAGE_INTEGRATION = {setup.storage.integration.sql}",
            purpose="the stage on MLflow's artifact root",
        )
        yield grant(OWNER, "USAGE", external[0], caller)
    yield create(OWNER, internal, purpose="the stage that takes uploads")
    # Snowflake grants WRITE on a stage only to who has READ.
    yield grant(OWNER, "READ", internal, caller)
    yield grant(OWNER, "WRITE", internal, caller)
