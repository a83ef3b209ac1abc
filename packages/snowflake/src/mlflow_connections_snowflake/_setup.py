"""What the bridge is to be: the `mlflow:` section of `snowflake.yml`, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_connections import InvalidOptionError, MissingOptionError

from ._external_access import ExternalAccess, read_external_access
from ._functions import BY_KEY, FUNCTIONS
from ._gateway_setup import Gateway, read_gateway
from ._names import Name, name, stage
from ._section import Section
from ._storage_setup import Storage, read_storage

SECTION = "mlflow"


@dataclass(frozen=True)
class Roles:
    """Who does what.

    Attributes:
        admin: Creates integrations: ACCOUNTADMIN, or a role with CREATE INTEGRATION.
        owner: Owns the functions and stages.
        caller: May call the functions and use the stages.
    """

    admin: Name
    owner: Name
    caller: Name


@dataclass(frozen=True)
class Setup:
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
    functions: Mapping[str, Name]
    stage: Name
    database: str | None
    schema: str | None
    roles: Roles
    gateway: Gateway | None = None
    storage: Storage | None = None
    external_access: ExternalAccess | None = None
    where: str = field(default="snowflake.yml", compare=False)

    @property
    def response_translator(self) -> Name:
        """The one response translator, beside the first function."""
        return self.functions["run_create"].beside("MLFLOW_RESPONSE")

    def request_translator(self, key: str) -> Name:
        """The request translator of a function, beside it."""
        function = self.functions[key]
        return function.beside(f"{function.object}_REQUEST")

    def generating(self) -> "tuple[Gateway, str, str]":
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


def load(path: Path) -> Setup:
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


def read(content: object, where: str = "snowflake.yml") -> Setup:
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
    return Setup(
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


def _functions(section: Section) -> dict[str, Name]:
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
    names: dict[str, Name] = {}
    for function in FUNCTIONS:
        written = specified.get(function.key) or given.text(function.key, "")
        names[function.key] = (
            name(written, given.place(function.key))
            if written
            # A site that keeps its functions together finds the others there too.
            else first.beside(function.default_name)
        )
    by_name: dict[Name, str] = {}
    for key, function_name in names.items():
        if (other := by_name.setdefault(function_name, key)) != key:
            raise given.invalid(key, f"is {function_name}, which {other} is called already")
    return names


def _home(section: Section, functions: Mapping[str, Name]) -> tuple[str | None, str | None]:
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
