"""The bridge's configuration: the `mlflow:` section of `snowflake.yml`, checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections.secrets import masked

from ._functions import API_PATH, BY_KEY, FUNCTIONS
from ._names import Identifier, name, stage
from ._section import Section

SECTION = "mlflow"
TRANSFERS = "mlflow"
"""The folder of the internal stage through which files pass to and from the external one."""

DEFAULT_SECRET = "mlflow_token"  # noqa: S105 - a name
"""The name of MLflow's secret in a procedure's clause `SECRETS = ('mlflow_token' = …)`."""

# https://docs.snowflake.com/en/sql-reference/sql/create-api-integration
PROVIDERS = {
    "aws": "aws_api_gateway",
    "aws_private": "aws_private_api_gateway",
    "aws_gov": "aws_gov_api_gateway",
    "aws_gov_private": "aws_gov_private_api_gateway",
    "azure": "azure_api_management",
    "google": "google_api_gateway",
}
"""The API_PROVIDER in Snowflake of each value of `gateway.provider`."""

# https://docs.snowflake.com/en/sql-reference/sql/create-storage-integration
_STORAGE_PROVIDERS = {"s3": "S3", "s3gov": "S3GOV", "gcs": "GCS", "azure": "AZURE"}

_TRUST = {
    "aws": ("role_arn",),
    "azure": ("tenant_id", "application_id"),
    "google": ("audience",),
}
_TRUST_KEYS = ("role_arn", "tenant_id", "application_id", "audience")
_GATEWAY_KEYS = ("provider", "url", "integration", "vpc_link", "api_key_from_env", *_TRUST_KEYS)
_STORAGE_KEYS = ("location", "integration", "role_arn", "tenant_id", "internal_stage")
_EXTERNAL_ACCESS_KEYS = ("url", "integration", "network_rule", "secret", "token_from_env")
_SECTIONS = ("gateway", "storage", "external_access")

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
    "vpc_link": (r"[\w-]{1,64}", "a1b2c3"),
    "api_key_from_env": (r"[A-Za-z_]\w*", "GATEWAY_API_KEY"),
    "token_from_env": (r"[A-Za-z_]\w*", "MLFLOW_SNOWFLAKE_TOKEN"),
}


@dataclass(frozen=True)
class ExternalAccess:
    """Direct HTTPS from procedures to MLflow.

    Attributes:
        url: MLflow's URL.
        integration: The external access integration.
        network_rule: The rule that allows the traffic.
        secret: MLflow's token, in Snowflake's secret store.
        token_from_env: The environment variable with the token, for `apply`; empty for none.
    """

    url: str
    integration: Identifier
    network_rule: Identifier
    secret: Identifier
    token_from_env: str = ""

    @property
    def host_and_port(self) -> str:
        """The destination that the network rule allows."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 443}"


@dataclass(frozen=True)
class Gateway:
    """The cloud's gateway between Snowflake and MLflow.

    Attributes:
        provider: A key of `PROVIDERS`.
        url: The URL of MLflow's root at the gateway, without a trailing slash.
        integration: The name of the API integration.
        role_arn: AWS: the role that Snowflake assumes.
        tenant_id: Azure: the tenant.
        application_id: Azure: the AD application that protects the gateway.
        audience: Google: the audience of the gateway's configuration.
        vpc_link: AWS: the VPC link to a private MLflow server; empty for a public one.
        api_key_from_env: The environment variable with the gateway's API key; empty for none.
    """

    provider: str
    url: str
    integration: Identifier
    role_arn: str = ""
    tenant_id: str = ""
    application_id: str = ""
    audience: str = ""
    vpc_link: str = ""
    api_key_from_env: str = ""

    @property
    def cloud(self) -> str:
        """`aws`, `azure` or `google`."""
        return self.provider.partition("_")[0]

    @property
    def prefix(self) -> str:
        """The only URLs that Snowflake may call."""
        return self.url + API_PATH


@dataclass(frozen=True)
class Storage:
    """The cloud storage on which MLflow keeps artifacts.

    Attributes:
        location: The URL of MLflow's artifact root, with a slash at its end.
        provider: Its name in Snowflake: S3, S3GOV, GCS or AZURE.
        integration: The name of the storage integration.
        internal_stage: The stage that receives uploads, which are then copied to the external one:
            PUT to an external stage is refused.
        role_arn: S3: the role that Snowflake assumes.
        tenant_id: Azure: the tenant.
    """

    location: str
    provider: str
    integration: Identifier
    internal_stage: Identifier
    role_arn: str = ""
    tenant_id: str = ""


@dataclass(frozen=True)
class Roles:
    """The roles of a bridge.

    Attributes:
        admin: Creates integrations: ACCOUNTADMIN, or a role with CREATE INTEGRATION.
        owner: Owns the functions and stages.
        caller: May call the functions and use the stages.
    """

    admin: Identifier
    owner: Identifier
    caller: Identifier


@dataclass(frozen=True)
class BridgeConfig:
    """The configuration that the generator, the client and the check share.

    Attributes:
        experiment_name: The experiment of the runs.
        functions: The name of each external function by its key.
        stage: The stage for artifacts: on the storage, or an internal one if there is no storage.
        database: The database of unqualified names; None leaves it to the session.
        schema: The schema of unqualified names; None leaves it to the session.
        roles: The roles.
        gateway: The gateway between Snowflake and MLflow; None if only the client is used.
        storage: MLflow's artifact storage, if Snowflake is to reach it.
        external_access: Direct HTTPS to MLflow, if procedures are to use it.
        where: The source of the configuration, for messages.
    """

    experiment_name: str
    functions: Mapping[str, Identifier]
    stage: Identifier
    database: str | None
    schema: str | None
    roles: Roles
    gateway: Gateway | None = None
    storage: Storage | None = None
    external_access: ExternalAccess | None = None
    where: str = field(default="snowflake.yml", compare=False)

    @property
    def response_translator(self) -> Identifier:
        """The one response translator, in the schema of the first function."""
        return self.functions["run_create"].sibling("MLFLOW_RESPONSE")

    def request_translator(self, key: str) -> Identifier:
        """Return the request translator of a function, which is in the same schema."""
        function = self.functions[key]
        return function.sibling(f"{function.object}_REQUEST")

    def require_gateway(self) -> "tuple[Gateway, str, str]":
        """Return the parts that only the generator needs: gateway, database and schema.

        Raises:
            MissingOptionError: Any of them is missing; the message names all of them.
        """
        missing = [
            f"{SECTION}.{key}"
            for key, value in (
                ("gateway", self.gateway),
                ("database", self.database),
                ("schema", self.schema),
            )
            if value is None
        ]
        if self.gateway is None or self.database is None or self.schema is None:
            raise MissingOptionError(
                f"{self.where} lacks {', '.join(missing)}, which the SQL needs. Add it there."
            )
        return self.gateway, self.database, self.schema


def load(path: Path) -> BridgeConfig:
    """Read `snowflake.yml`.

    Raises:
        InvalidOptionError: It is not YAML, or a value is invalid.
        MissingOptionError: A required key is missing.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingOptionError(f"{path} cannot be read: {error.strerror}.") from masked(error)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidOptionError(f"{path} is not YAML: {error}") from masked(error)
    return read(content, str(path))


def read(content: object, where: str = "snowflake.yml") -> BridgeConfig:
    """Return the checked configuration from the content of `snowflake.yml`.

    The section `mlflow` may be at the top or under `snowflake`. Unqualified names belong to
    `mlflow.database` and `mlflow.schema`, else to those of the function `run_create`, else to those
    next to the section or in a section `connection`, as in kedro-snowflake.

    Args:
        content: The parsed YAML.
        where: Its source, for messages.

    Raises:
        InvalidOptionError: A value is invalid.
        MissingOptionError: A required key is missing.
    """
    whole = content if isinstance(content, Mapping) else {}
    inner = whole.get("snowflake")
    outer = inner if isinstance(inner, Mapping) else whole
    given = outer.get(SECTION)
    if given is None:
        raise MissingOptionError(f"{where} has no section '{SECTION}'.")
    section = Section(given, SECTION, where)
    section.only("experiment_name", "stage", "functions", "database", "schema", "roles", *_SECTIONS)
    experiment = section.text("experiment_name")
    if not experiment.strip() or "\x00" in experiment:
        raise section.invalid("experiment_name", "is empty or contains a NUL character")
    functions = _functions(section)
    database, schema = _home(section, functions, outer)
    return BridgeConfig(
        experiment,
        {key: function.within(database, schema) for key, function in functions.items()},
        stage(section.text("stage", "@MLFLOW_STAGE"), section.place("stage")).within(
            database, schema
        ),
        database,
        schema,
        _roles(section),
        _gateway(section),
        _storage(section, database, schema),
        _external_access(section, database, schema),
        where,
    )


def _functions(section: Section) -> dict[str, Identifier]:
    given = section.section("functions")
    given.only(*BY_KEY)
    # With only external access nothing calls the functions, so they need no names.
    alone = section.content.get("external_access") is not None and not section.content.get(
        "gateway"
    )
    specified = {
        f.key: given.text(f.key, f.default_name if alone else None)
        for f in FUNCTIONS
        if f.specified
    }
    first = name(specified["run_create"], given.place("run_create"))
    names: dict[str, Identifier] = {}
    for function in FUNCTIONS:
        written = specified.get(function.key) or given.text(function.key, "")
        names[function.key] = (
            name(written, given.place(function.key))
            if written
            else first.sibling(function.default_name)
        )
    by_name: dict[Identifier, str] = {}
    for key, function_name in names.items():
        if (other := by_name.setdefault(function_name, key)) != key:
            raise given.invalid(key, f"is {function_name}, which is already the name of {other}")
    return names


def _home(
    section: Section, functions: Mapping[str, Identifier], outer: Mapping[object, object]
) -> tuple[str | None, str | None]:
    """Return the database and schema of unqualified names."""
    parts = functions["run_create"].parts
    found = {
        "database": parts[0] if len(parts) == 3 else None,
        "schema": parts[-2] if len(parts) >= 2 else None,
    }
    connection = outer.get("connection")
    places = [section]
    places += (
        [Section(connection, "connection", section.where)]
        if isinstance(connection, Mapping)
        else []
    )
    # Pipelines of this package have both keys next to the section; they check values other than
    # text themselves.
    plain = {key: outer.get(key) for key in found if isinstance(outer.get(key), str)}
    places.append(Section(plain, "snowflake", section.where))
    for key, part in found.items():
        for number, place in enumerate(places):
            if (given := place.text(key, "")) and (number == 0 or part is None):
                found[key] = name(given, place.place(key), 1).object
                break
    return found["database"], found["schema"]


def _roles(section: Section) -> Roles:
    roles = section.section("roles")
    roles.only("admin", "owner", "caller")
    defaults = {"admin": "ACCOUNTADMIN", "owner": "MLFLOW_OWNER", "caller": "MLFLOW_CALLER"}
    return Roles(
        **{key: name(roles.text(key, text), roles.place(key), 1) for key, text in defaults.items()}
    )


def _gateway(section: Section) -> Gateway | None:
    if section.content.get("gateway") is None:
        return None
    gateway = section.section("gateway")
    gateway.only(*_GATEWAY_KEYS)
    provider = gateway.text("provider")
    if provider not in PROVIDERS:
        raise gateway.invalid("provider", f"is {provider!r}, not one of {', '.join(PROVIDERS)}")
    cloud = provider.partition("_")[0]
    trust = _TRUST[cloud]
    for key in (*_TRUST_KEYS, "vpc_link"):
        if gateway.content.get(key) is None or key in trust or (key, cloud) == ("vpc_link", "aws"):
            continue
        raise gateway.invalid(key, f"is not used with the provider {provider}")
    url = _url(gateway, "url")
    if cloud == "aws" and ".execute-api." not in url:
        # https://docs.snowflake.com/en/sql-reference/external-functions-introduction
        raise gateway.invalid(
            "url",
            "is not https://<id>.execute-api.<region>.amazonaws.com/<stage>: Snowflake calls no custom "
            "domain of Amazon's gateway",
        )
    optional = [k for k in ("vpc_link", "api_key_from_env") if gateway.content.get(k) is not None]
    return Gateway(
        provider,
        url,
        name(gateway.text("integration", "MLFLOW_API"), gateway.place("integration"), 1),
        **{key: _formed(gateway, key) for key in (*trust, *optional)},
    )


def _storage(section: Section, database: str | None, schema: str | None) -> Storage | None:
    if section.content.get("storage") is None:
        return None
    storage = section.section("storage")
    storage.only(*_STORAGE_KEYS)
    location = _filled(storage, "location")
    scheme = location.partition("://")[0]
    if not re.fullmatch(r"(s3|s3gov|gcs|azure)://[^\s/'\"\\]+(/[^\s'\"\\]*)?", location):
        raise storage.invalid(
            "location", f"is {location!r}, not s3://…, s3gov://…, gcs://… or azure://…"
        )
    provider = _STORAGE_PROVIDERS[scheme]
    trust = {"S3": "role_arn", "S3GOV": "role_arn", "AZURE": "tenant_id"}.get(provider)
    return Storage(
        location if location.endswith("/") else location + "/",
        provider,
        name(storage.text("integration", "MLFLOW_STORAGE"), storage.place("integration"), 1),
        stage(
            storage.text("internal_stage", "@MLFLOW_UPLOADS"), storage.place("internal_stage")
        ).within(database, schema),
        **({trust: _formed(storage, trust)} if trust else {}),
    )


def _external_access(
    section: Section, database: str | None, schema: str | None
) -> ExternalAccess | None:
    if section.content.get("external_access") is None:
        return None
    given = section.section("external_access")
    given.only(*_EXTERNAL_ACCESS_KEYS)
    url = given.text("url")
    if not _is_address(url):
        raise given.invalid("url", f"is {url!r}, not https:// and a host name")
    return ExternalAccess(
        url,
        name(given.text("integration", "MLFLOW_ACCESS"), given.place("integration"), 1),
        name(given.text("network_rule", "MLFLOW_EGRESS"), given.place("network_rule")).within(
            database, schema
        ),
        name(given.text("secret", "MLFLOW_TOKEN"), given.place("secret")).within(database, schema),
        _formed(given, "token_from_env") if given.content.get("token_from_env") is not None else "",
    )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    plain = host.replace("-", "").replace(".", "").isalnum() and host.isascii()
    return parts.scheme == "https" and plain and port != 0 and "@" not in parts.netloc


def _formed(section: Section, key: str) -> str:
    """Return a value that must have the form that the cloud displays."""
    text = _filled(section, key)
    pattern, form = _FORMS.get(key, (r".*", ""))
    if not re.fullmatch(pattern, text, re.ASCII):
        raise section.invalid(key, f"is {text!r}, not of the form {form}")
    return text


def _filled(section: Section, key: str) -> str:
    """Return a text that is not empty and has no control characters."""
    text = section.text(key)
    if not text or re.search(r"[\x00-\x1f\x7f]", text):
        raise section.invalid(key, f"is {text!r}, which is empty or has control characters")
    return text


def _url(section: Section, key: str) -> str:
    """Return an https URL without query, fragment, userinfo and slashes at its end."""
    text = _filled(section, key)
    if re.search(r"\s", text) or not re.fullmatch(
        r"https://[A-Za-z0-9.-]+(:\d+)?(/[\w.~%/-]*)?", text, re.ASCII
    ):
        raise section.invalid(
            key, "must be an https URL with only a host and a path; Snowflake calls no other"
        )
    if urlsplit(text).path.rstrip("/").endswith(API_PATH.rstrip("/")):
        raise section.invalid(key, f"must end before {API_PATH}, which is added")
    return text.rstrip("/")
