"""The bridge's configuration: the `mlflow:` section of `snowflake.yml`, checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_connections import InvalidOptionError, MissingOptionError

from ._functions import API_PATH, BY_KEY, FUNCTIONS
from ._names import Identifier, name, stage
from ._section import Section

DEFAULT_SECRET = "mlflow_token"  # noqa: S105 - a name
"""What the procedure's clause `SECRETS = ('mlflow_token' = …)` calls MLflow's secret."""

EXTERNAL_ACCESS_KEYS = ("url", "integration", "network_rule", "secret")


@dataclass(frozen=True)
class ExternalAccess:
    """What lets a procedure reach MLflow itself.

    Attributes:
        url: MLflow's address.
        integration: The external access integration.
        network_rule: What lets the traffic out.
        secret: MLflow's token, in Snowflake's secret store.
    """

    url: str
    integration: Identifier
    network_rule: Identifier
    secret: Identifier

    @property
    def host_and_port(self) -> str:
        """What the network rule allows."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 443}"


def read_external_access(
    section: Section, database: str | None, schema: str | None
) -> ExternalAccess | None:
    """Read `mlflow.external_access`; None where there is none.

    Raises:
        InvalidOptionError: Something in it cannot work.
        MissingOptionError: It has no `url`.
    """
    if section.content.get("external_access") is None:
        return None
    given = section.section("external_access")
    given.only(*EXTERNAL_ACCESS_KEYS)
    url = given.text("url")
    if not _is_address(url):
        raise given.invalid("url", f"is {url!r}, not https:// and a host's name")
    return ExternalAccess(
        url,
        name(given.text("integration", "MLFLOW_ACCESS"), given.place("integration"), 1),
        name(given.text("network_rule", "MLFLOW_EGRESS"), given.place("network_rule")).within(
            database, schema
        ),
        name(given.text("secret", "MLFLOW_TOKEN"), given.place("secret")).within(database, schema),
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
    integration: Identifier
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
    integration: Identifier
    internal_stage: Identifier
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


SECTION = "mlflow"


@dataclass(frozen=True)
class Roles:
    """Who does what.

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
    """Everything that the generator, the client and the check must know.

    Attributes:
        experiment_name: The experiment that runs go to.
        functions: The name of each external function, by its key.
        stage: Where artifacts go: on the storage, or an internal stage where there is none.
        database: Where the unqualified names lie; None leaves it to the session.
        schema: The same.
        roles: Who does what.
        gateway: What stands between Snowflake and MLflow; None where only the client is used.
        storage: Where MLflow keeps artifacts, if Snowflake is to reach it.
        external_access: What lets procedures reach MLflow itself, where that is wanted.
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
        """The one response translator, beside the first function."""
        return self.functions["run_create"].beside("MLFLOW_RESPONSE")

    def request_translator(self, key: str) -> Identifier:
        """The request translator of a function, beside it."""
        function = self.functions[key]
        return function.beside(f"{function.object}_REQUEST")

    def require_gateway(self) -> "tuple[Gateway, str, str]":
        """Give what only the generator needs, besides the rest: gateway, database and schema.

        Raises:
            MissingOptionError: One of them is missing; all of these are named.
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
                f"{self.where} lacks {', '.join(missing)}: without it no SQL can be written."
            )
        return self.gateway, self.database, self.schema


def load(path: Path) -> BridgeConfig:
    """Read `snowflake.yml`.

    Raises:
        InvalidOptionError: It is no YAML, or something in it cannot work.
        MissingOptionError: Something required is not in it.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingOptionError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidOptionError(f"{path} is no YAML: {error}") from error
    return read(content, str(path))


def read(content: object, where: str = "snowflake.yml") -> BridgeConfig:
    """Check the content of `snowflake.yml`: `snowflake: {mlflow: …}`, or `mlflow: …` alone.

    Args:
        content: As YAML gives it.
        where: Where it comes from, for messages.

    Raises:
        InvalidOptionError: Something in it cannot work.
        MissingOptionError: Something required is not in it.
    """
    whole = content if isinstance(content, Mapping) else {}
    inner = whole.get("snowflake")
    given = (inner if isinstance(inner, Mapping) else whole).get(SECTION)
    if given is None:
        raise MissingOptionError(f"{where} has no section '{SECTION}'.")
    section = Section(given, SECTION, where)
    section.only("experiment_name", "stage", "functions", "database", "schema", "roles", *_SECTIONS)
    experiment = section.text("experiment_name")
    if not experiment.strip() or "\x00" in experiment:
        raise section.invalid("experiment_name", "is empty, or holds a NUL character")
    functions = _functions(section)
    database, schema = _home(section, functions)
    return BridgeConfig(
        experiment,
        {key: function.within(database, schema) for key, function in functions.items()},
        stage(section.text("stage", "@MLFLOW_STAGE"), section.place("stage")).within(
            database, schema
        ),
        database,
        schema,
        _roles(section),
        read_gateway(section),
        read_storage(section, database, schema),
        read_external_access(section, database, schema),
        where,
    )


_SECTIONS = ("gateway", "storage", "external_access")


def _functions(section: Section) -> dict[str, Identifier]:
    given = section.section("functions")
    given.only(*BY_KEY)
    # With external access alone nobody calls them, so nobody has to think of names.
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
            # A site that keeps its functions together finds the others there too.
            else first.beside(function.default_name)
        )
    by_name: dict[Identifier, str] = {}
    for key, function_name in names.items():
        if (other := by_name.setdefault(function_name, key)) != key:
            raise given.invalid(key, f"is {function_name}, which {other} is called already")
    return names


def _home(section: Section, functions: Mapping[str, Identifier]) -> tuple[str | None, str | None]:
    """Where unqualified names lie: as configured, else where the function run_create lies."""
    parts = functions["run_create"].parts
    database = parts[0] if len(parts) == 3 else None
    schema = parts[-2] if len(parts) >= 2 else None
    if given := section.text("database", ""):
        database = name(given, section.place("database"), 1).object
    if given := section.text("schema", ""):
        schema = name(given, section.place("schema"), 1).object
    return database, schema


def _roles(section: Section) -> Roles:
    roles = section.section("roles")
    roles.only("admin", "owner", "caller")
    defaults = {"admin": "ACCOUNTADMIN", "owner": "MLFLOW_OWNER", "caller": "MLFLOW_CALLER"}
    return Roles(
        **{key: name(roles.text(key, text), roles.place(key), 1) for key, text in defaults.items()}
    )
