"""All SQL of the way to MLflow. It can be run again at any time.

The forms of statements, with every name quoted and every clause on its own line:

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

For external access, which the administrator sets up:

    CREATE OR REPLACE NETWORK RULE n MODE = EGRESS TYPE = HOST_PORT VALUE_LIST = ('host:443')
    CREATE SECRET IF NOT EXISTS n TYPE = GENERIC_STRING SECRET_STRING = ''
    ALTER SECRET n SET SECRET_STRING = '${NAME}'
    CREATE EXTERNAL ACCESS INTEGRATION IF NOT EXISTS n
        ALLOWED_NETWORK_RULES = (n) ALLOWED_AUTHENTICATION_SECRETS = (n) ENABLED = TRUE
    ALTER EXTERNAL ACCESS INTEGRATION n SET …
    GRANT USAGE | READ ON INTEGRATION n | SECRET n TO ROLE r

Integrations are never replaced: a new one has a new external ID, which breaks the trust that the
cloud's administrator has set up. Functions are replaced, so that a new version takes effect. That
drops their grants, and Snowflake has no future grants on external functions, so each is granted again.
"""

from collections.abc import Iterable, Iterator, Mapping

from mlflow_connections import MissingOptionError

from ._config import PROVIDERS, BridgeConfig, ExternalAccess, Gateway, Storage
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


def statements(config: BridgeConfig) -> list[Statement]:
    """Return every statement that sets up the way to MLflow, in order.

    Raises:
        MissingOptionError: The configuration lacks what the generator needs.
    """
    if _is_external_access_alone(config):
        return [*_external_access_alone(config), *_external_access_part(config)]
    return [*_admin_part(config), *_external_access_part(config), *_owner_part(config)]


def drops(
    config: BridgeConfig, *, with_stages: bool = False, with_integrations: bool = False
) -> list[Statement]:
    """Return the statements that drop what `statements` creates, in order.

    Args:
        config: The configuration.
        with_stages: Also drop the stages; files on an internal one are lost.
        with_integrations: Also drop the integrations; the cloud must then trust new ones.

    Raises:
        MissingOptionError: The configuration lacks what the generator needs.
    """
    dropped: list[Statement] = []
    if not _is_external_access_alone(config):
        config.require_gateway()
        # A function is dropped before the translators that it names.
        owned = [
            *_external_functions(config),
            *_translators(config),
            *(_stages(config) if with_stages else ()),
        ]
        dropped = [use_role(OWNER, config.roles.owner), *(drop(OWNER, one) for one in owned)]
    if with_integrations:
        dropped.append(use_role(ADMIN, config.roles.admin))
        dropped += [drop(ADMIN, one) for one in _integrations(config)]
    return dropped


def script(written: list[Statement]) -> str:
    """Return statements as a file for people to read and for Snowflake to run."""
    lines: list[str] = []
    run_as = ""
    for statement in written:
        if statement.run_as != run_as:
            run_as = statement.run_as
            lines.append(f"-- The {run_as}'s part.\n")
        # A name may contain a line break, which would end the comment.
        purpose = " ".join(statement.purpose.split())
        lines.append(f"-- {purpose}\n{statement.sql};\n")
    return "\n".join(lines)


def procedure_clauses(
    integrations: Iterable[Identifier], secrets: Mapping[str, Identifier]
) -> list[str]:
    """Return the clauses with which a procedure reaches servers by external access.

    Args:
        integrations: The external access integrations.
        secrets: The secrets by the names under which the procedure reads them.
    """
    names = ", ".join(dict.fromkeys(one.sql for one in integrations))
    pairs = ", ".join(f"{literal(key)} = {one.sql}" for key, one in secrets.items())
    return [f"EXTERNAL_ACCESS_INTEGRATIONS = ({names})", f"SECRETS = ({pairs})"]


def api_integration(gateway: Gateway) -> SqlObject:
    """Return the API integration."""
    return SqlObject("API INTEGRATION", gateway.integration)


def _is_external_access_alone(config: BridgeConfig) -> bool:
    return config.gateway is None and config.external_access is not None


def _integrations(config: BridgeConfig) -> list[SqlObject]:
    found: list[SqlObject] = []
    if not _is_external_access_alone(config):
        gateway, _, _ = config.require_gateway()
        found.append(api_integration(gateway))
        if config.storage:
            found.append(_storage_object(config.storage))
    if config.external_access:
        # An integration is dropped before the rule and the secret that it names.
        found += reversed(_external_access_objects(config.external_access))
    return found


# External access


def _external_access_part(config: BridgeConfig) -> Iterator[Statement]:
    """Yield the statements of external access for a session in the administrator's role."""
    access = config.external_access
    if access is None:
        return
    rule, secret, integration = _external_access_objects(access)
    yield Statement(
        ADMIN,
        f"{rule}: allow MLflow's host only",
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
        purpose=f"{secret}: MLflow's token, empty at first"
        if access.token_from_env
        else f"{secret}: MLflow's token, empty until you run ALTER SECRET … SET SECRET_STRING = '…'",
    )
    if access.token_from_env:
        yield Statement(
            ADMIN,
            f"{secret}: MLflow's token from the environment variable {access.token_from_env}",
            f"ALTER {secret.kind} {secret.sql} SET\n"
            f"  SECRET_STRING = '${{{access.token_from_env}}}'",
            secret,
            variables=(access.token_from_env,),
        )
    allowed = (
        f"ALLOWED_NETWORK_RULES = ({rule.sql})",
        f"ALLOWED_AUTHENTICATION_SECRETS = ({secret.sql})",
        "ENABLED = TRUE",
    )
    yield create(ADMIN, integration, *allowed, purpose=f"{integration}: access to MLflow's host")
    yield alter(ADMIN, integration, *allowed)
    # A procedure's owner needs both to name them in EXTERNAL_ACCESS_INTEGRATIONS and SECRETS.
    yield grant(ADMIN, "USAGE", integration, config.roles.owner)
    yield grant(ADMIN, "READ", secret, config.roles.owner)


def _external_access_alone(config: BridgeConfig) -> Iterator[Statement]:
    """Yield the statements that must come first if there are no external functions."""
    if config.database is None or config.schema is None:
        raise MissingOptionError(
            f"{config.where} lacks mlflow.database or mlflow.schema, which the SQL needs. Add it "
            "there."
        )
    owner = config.roles.owner
    schema = SqlObject("SCHEMA", Identifier((config.database, config.schema)))
    database = SqlObject("DATABASE", Identifier((config.database,)))
    yield use_role(ADMIN, config.roles.admin)
    yield create(ADMIN, SqlObject("ROLE", owner))
    yield grant_role(ADMIN, owner, config.roles.admin)
    yield create(ADMIN, database)
    yield create(ADMIN, schema)
    yield grant(ADMIN, "USAGE", database, owner)
    yield grant(ADMIN, "USAGE", schema, owner)


def _external_access_objects(access: ExternalAccess) -> tuple[SqlObject, SqlObject, SqlObject]:
    """Return the network rule, the secret and the integration."""
    return (
        SqlObject("NETWORK RULE", access.network_rule),
        SqlObject("SECRET", access.secret),
        SqlObject("EXTERNAL ACCESS INTEGRATION", access.integration),
    )


# The administrator's part: roles, integrations, database and schemas


def _admin_part(config: BridgeConfig) -> Iterator[Statement]:
    gateway, database, schema = config.require_gateway()
    owner, caller = config.roles.owner, config.roles.caller
    yield use_role(ADMIN, config.roles.admin)
    for role in (owner, caller):
        yield create(ADMIN, SqlObject("ROLE", role))
    yield grant_role(ADMIN, owner, config.roles.admin)
    yield grant_role(ADMIN, caller, owner)
    yield from _api_integration(gateway)
    yield grant(ADMIN, "USAGE", api_integration(gateway), owner)
    if config.storage:
        yield from _storage_integration(config.storage)
        yield grant(ADMIN, "USAGE", _storage_object(config.storage), owner)
    yield create(ADMIN, SqlObject("DATABASE", Identifier((database,))))
    yield create(ADMIN, SqlObject("SCHEMA", Identifier((database, schema))))
    for place in _schemas(config):
        inside = SqlObject("SCHEMA", place)
        for role in (owner, caller):
            yield grant(ADMIN, "USAGE", SqlObject("DATABASE", Identifier(place.parts[:1])), role)
            yield grant(ADMIN, "USAGE", inside, role)
        for privilege in ("CREATE FUNCTION", "CREATE STAGE"):
            yield grant(ADMIN, privilege, inside, owner)


def _storage_object(storage: Storage) -> SqlObject:
    return SqlObject("STORAGE INTEGRATION", storage.integration)


def _schemas(config: BridgeConfig) -> list[Identifier]:
    """Return every schema with an object of the bridge, the main one first."""
    _, database, schema = config.require_gateway()
    names = [*config.functions.values(), config.stage]
    if config.storage:
        names.append(config.storage.internal_stage)
    schemas = (Identifier(n.parts[:-1]) for n in names)
    return list(dict.fromkeys([Identifier((database, schema)), *schemas]))


def _api_integration(gateway: Gateway) -> Iterator[Statement]:
    trust = {
        "aws": (f"API_AWS_ROLE_ARN = {literal(gateway.role_arn)}",),
        "azure": (
            f"AZURE_TENANT_ID = {literal(gateway.tenant_id)}",
            f"AZURE_AD_APPLICATION_ID = {literal(gateway.application_id)}",
        ),
        "google": (f"GOOGLE_AUDIENCE = {literal(gateway.audience)}",),
    }[gateway.cloud]
    variables = (gateway.api_key_from_env,) if gateway.api_key_from_env else ()
    key = tuple(f"API_KEY = '${{{variable}}}'" for variable in variables)
    allowed = (f"API_ALLOWED_PREFIXES = {literals((gateway.prefix,))}", "ENABLED = TRUE")
    provider = f"API_PROVIDER = {PROVIDERS[gateway.provider]}"
    target = api_integration(gateway)
    created = create(
        ADMIN,
        target,
        provider,
        *trust,
        *key,
        *allowed,
        purpose=f"{target}: access to the gateway; never replaced, because the cloud trusts it",
    )
    yield created._replace(variables=variables)
    yield alter(ADMIN, target, *key, *allowed)._replace(variables=variables)


def _storage_integration(storage: Storage) -> Iterator[Statement]:
    trust = {
        "S3": (f"STORAGE_AWS_ROLE_ARN = {literal(storage.role_arn)}",),
        "S3GOV": (f"STORAGE_AWS_ROLE_ARN = {literal(storage.role_arn)}",),
        "AZURE": (f"AZURE_TENANT_ID = {literal(storage.tenant_id)}",),
        "GCS": (),
    }[storage.provider]
    allowed = (f"STORAGE_ALLOWED_LOCATIONS = {literals((storage.location,))}",)
    target = _storage_object(storage)
    yield create(
        ADMIN,
        target,
        "TYPE = EXTERNAL_STAGE",
        f"STORAGE_PROVIDER = {literal(storage.provider)}",
        *trust,
        "ENABLED = TRUE",
        *allowed,
        purpose=f"{target}: access to MLflow's artifacts; never replaced, because the cloud trusts it",
    )
    yield alter(ADMIN, target, *trust, "ENABLED = TRUE", *allowed)


# The owner's part: translators, external functions, stages, and their grants


def _owner_part(config: BridgeConfig) -> Iterator[Statement]:
    """Yield the owner's statements: each translator before the functions that name it."""
    yield use_role(OWNER, config.roles.owner)
    yield from _translator(config, config.response_translator, RESPONSE)
    for function in FUNCTIONS:
        yield from _translator(config, config.request_translator(function.key), function.key)
        for arguments in function.signatures:
            yield from _external_function(config, function, arguments)
    yield from _stage_statements(config)


def _translators(config: BridgeConfig) -> list[SqlObject]:
    names = [config.request_translator(function.key) for function in FUNCTIONS]
    return [_translator_object(name) for name in (*names, config.response_translator)]


def _external_functions(config: BridgeConfig) -> list[SqlObject]:
    """Return all external functions, one object for each signature."""
    return [
        _function_object(name, arguments)
        for key, name in config.functions.items()
        for arguments in BY_KEY[key].signatures
    ]


def _stages(config: BridgeConfig) -> list[SqlObject]:
    names = [config.stage, *([config.storage.internal_stage] if config.storage else [])]
    return [SqlObject("STAGE", name) for name in names]


def _translator_object(name: Identifier) -> SqlObject:
    return SqlObject("FUNCTION", name, ("OBJECT",))


def _function_object(name: Identifier, arguments: tuple[tuple[str, str], ...]) -> SqlObject:
    return SqlObject("EXTERNAL FUNCTION", name, tuple(kind for _, kind in arguments))


def _translator(config: BridgeConfig, name: Identifier, key: str) -> Iterator[Statement]:
    target = _translator_object(name)
    yield Statement(
        OWNER,
        f"translator {key}.js",
        f"CREATE OR REPLACE FUNCTION {name.sql}(EVENT OBJECT)\n"
        "  RETURNS OBJECT\n"
        "  LANGUAGE JAVASCRIPT\n"
        "  VOLATILE\n"
        f"  AS $$\n{source(key)}$$",
        target,
    )
    yield grant(OWNER, "USAGE", target, config.roles.caller)


def _external_function(
    config: BridgeConfig, function: Function, arguments: tuple[tuple[str, str], ...]
) -> Iterator[Statement]:
    gateway, _, _ = config.require_gateway()
    name = config.functions[function.key]
    target = _function_object(name, arguments)
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
        # AUTO would compress on AWS, and MLflow responds 400 to a gzip body.
        "  COMPRESSION = NONE\n"
        f"  REQUEST_TRANSLATOR = {config.request_translator(function.key).sql}\n"
        f"  RESPONSE_TRANSLATOR = {config.response_translator.sql}\n"
        f"  AS {literal(gateway.prefix + function.endpoint)}",
        target,
    )
    yield grant(OWNER, "USAGE", target, config.roles.caller)


def _stage_statements(config: BridgeConfig) -> Iterator[Statement]:
    caller = config.roles.caller
    # Uploads go to an internal stage: a client's PUT to an external one is refused (091003).
    *external, internal = _stages(config)
    if config.storage and external:
        yield create(
            OWNER,
            external[0],
            f"URL = {literal(config.storage.location)}",
            f"STORAGE_INTEGRATION = {config.storage.integration.sql}",
            purpose=f"{external[0]}: MLflow's artifact root",
        )
        yield grant(OWNER, "USAGE", external[0], caller)
    yield create(OWNER, internal, purpose=f"{internal}: receives uploads")
    # Snowflake grants WRITE on a stage only to roles with READ.
    yield grant(OWNER, "READ", internal, caller)
    yield grant(OWNER, "WRITE", internal, caller)
