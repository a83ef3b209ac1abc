"""Apply the generated SQL, check an account against it, and remove transferred files.

A check changes nothing. Each object that the generator creates is looked up, and a missing one is
reported with the statements that create it. These statements run:

    SHOW ROLES;  SHOW DATABASES;  SHOW SCHEMAS IN DATABASE n;  SHOW INTEGRATIONS
    SHOW USER FUNCTIONS [IN SCHEMA n];  SHOW STAGES IN SCHEMA n;  DESCRIBE INTEGRATION n
    SHOW SECRETS | NETWORK RULES IN SCHEMA n;  SHOW GRANTS OF ROLE n
    SHOW GRANTS ON INTEGRATION n | DATABASE n | SCHEMA n | FUNCTION n(type, …) | STAGE n
    SELECT n(?)

Of their results these columns are read: name, enabled, arguments, is_external_function, privilege,
grantee_name, property, property_value.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_connections import AccessError, MissingOptionError
from mlflow_connections.secrets import masked

from ._config import TRANSFERS, BridgeConfig
from ._errors import BridgeError, explain, message_of
from ._functions import BY_KEY, FUNCTIONS
from ._names import Identifier, literal, quoted
from ._sql import api_integration, statements
from ._statement import ADMIN, SqlObject, Statement, use_role

if TYPE_CHECKING:
    from snowflake.snowpark import Session

SLOW_SECONDS = 5.0
"""A slower call is reported: every call of a pipeline waits as long."""

# The identities that the cloud's administrator has to trust, one kind on each cloud:
# https://docs.snowflake.com/en/sql-reference/external-functions-creating
_IDENTITY = (
    "API_AWS_IAM_USER_ARN",
    "API_AWS_EXTERNAL_ID",
    "AZURE_CONSENT_URL",
    "AZURE_MULTI_TENANT_APP_NAME",
    "API_GCP_SERVICE_ACCOUNT",
)
_AGAIN = "Fix the cause and run apply again."


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        ok: Whether the check passed.
        what: The object, or the fault.
        fix: The statements or the action that fix it; empty if the check passed.
        fix_statements: Those statements, for `apply`.
    """

    ok: bool
    what: str
    fix: str = ""
    fix_statements: tuple[Statement, ...] = ()


class Way(NamedTuple):
    """One way from Snowflake to MLflow.

    Attributes:
        name: `external access`, `external functions` or `artifacts on a stage`.
        ready: Whether the account has it.
        detail: The parts that the account has, or the missing ones.
    """

    name: str
    ready: bool
    detail: str


def apply(
    session: "Session",
    written: Sequence[Statement],
    progress: Callable[[int, Statement], None] = lambda _number, _statement: None,
    *,
    again: str = _AGAIN,
) -> None:
    """Run statements in order, and stop at the first that fails.

    Args:
        session: A session that can switch to the statements' roles.
        written: The statements, from `statements` or `drops`.
        progress: Called before each statement, with its number from 1.
        again: The remedy to name if a statement fails.

    Raises:
        BridgeError: A statement failed. The message names it and quotes Snowflake.
        MissingOptionError: An environment variable is not set; no statement ran.
    """
    from snowflake.snowpark.exceptions import SnowparkSQLException

    # An unset variable is reported before anything runs.
    texts = [_filled(statement) for statement in written]
    for number, (statement, text) in enumerate(zip(written, texts, strict=True), 1):
        progress(number, statement)
        try:
            session.sql(text).collect()
        except SnowparkSQLException as error:
            if statement.verb == "USE" and _has_role(session, statement, error):
                continue
            first_line = statement.sql.partition("\n")[0]
            raise BridgeError(
                f"Statement {number} of {len(written)} ({first_line} …), run as "
                f"{statement.run_as}, failed: {message_of(error).rstrip('.')}. "
                f"Earlier statements took effect. {again}"
            ) from masked(error)


def _has_role(session: "Session", statement: Statement, error: Exception) -> bool:
    """Return whether a session restricted to one role (003107) has exactly that role."""
    if "restricted" not in message_of(error).lower():
        return False
    role = session.sql("SELECT CURRENT_ROLE()").collect()[0][0]
    return statement.sql == f"USE ROLE {quoted(str(role))}"


def _filled(statement: Statement) -> str:
    """Return a statement's text with the values of its environment variables."""
    sql = statement.sql
    for variable in statement.variables:
        value = os.environ.get(variable)
        if not value:
            raise MissingOptionError(
                f"The environment variable {variable}, which snowflake.yml names, is not set."
            )
        sql = sql.replace(f"${{{variable}}}", literal(value)[1:-1])
    return sql


def clean(session: "Session", config: BridgeConfig, older_than: timedelta) -> int:
    """Remove files that transfers left on the internal stage.

    Args:
        session: A session that may remove files; an owner's-rights procedure may not.
        config: Names the internal stage.
        older_than: Only folders whose files are all older are removed.

    Returns:
        The number of transfers whose files were removed.

    Raises:
        MissingOptionError: The configuration has no storage, so nothing passes through a stage.
    """
    if config.storage is None:
        raise MissingOptionError(
            f"{config.where} has no mlflow.storage: files go straight to the stage, and none are "
            "left behind."
        )
    stage = config.storage.internal_stage
    newest: dict[str, datetime] = {}
    for row in session.file.list(f"@{stage}/{TRANSFERS}/"):
        parts = str(row.name).split("/")
        folder = parts[parts.index(TRANSFERS) + 1]
        changed = parsedate_to_datetime(str(row.last_modified))
        newest[folder] = max(changed, newest.get(folder, changed))
    limit = datetime.now(timezone.utc) - older_than
    stale = [folder for folder, changed in newest.items() if changed <= limit]
    for folder in stale:
        session.file.remove(f"@{stage}/{TRANSFERS}/{folder}/")
    return len(stale)


def check(session: "Session", config: BridgeConfig) -> Iterator[Finding]:
    """Check an account: the administrator's part first, a call to MLflow last.

    Without a gateway in the configuration, only the functions are checked: an account may have
    functions that were created by hand.

    Args:
        session: A session whose role sees the integrations. The check changes nothing.
        config: The expected objects.

    Raises:
        MissingOptionError: The configuration lacks what the generator needs.
    """
    queries = _CachedQueries(session)
    if config.gateway is None and config.external_access is None:
        yield from _check_functions(session, queries, config)
        return
    written = statements(config)
    missing: set[SqlObject] = set()
    for statement in written:
        if statement.target is None or statement.target in missing:
            # The fix of a missing object includes everything that depends on it.
            continue
        if statement.verb == "ALTER" and statement.target.kind == "SECRET":
            # A secret's value cannot be read.
            continue
        if statement.verb == "CREATE":
            # Includes the grants: a new object has none. A new secret has no value either.
            fixes = [
                s
                for s in written
                if s.target == statement.target
                and (s.verb != "ALTER" or statement.target.kind == "SECRET")
            ]
            finding = _present(queries, statement.target, fixes, config)
            if not finding.ok:
                missing.add(statement.target)
            yield finding
        elif statement.verb == "GRANT":
            yield _granted(queries, statement, config)
        else:
            yield _altered(queries, statement, config)
    if config.gateway is not None:
        yield _call(session, queries, config)


def ways(session: "Session", config: BridgeConfig) -> list[Way]:
    """Return the ways in which this account reaches MLflow, the simplest first."""
    queries = _CachedQueries(session)
    has = {key for key in config.functions if _has_function(queries, config, key)}
    required = {function.key for function in FUNCTIONS if function.specified}
    if len(has) == len(FUNCTIONS):
        functions = f"all {len(has)}"
    elif required <= has:
        functions = f"the five required ones; without {', '.join(sorted(set(BY_KEY) - has))}"
    else:
        functions = f"without {', '.join(sorted(required - has))}"
    rows = queries.rows("SHOW EXTERNAL ACCESS INTEGRATIONS")
    enabled = [row["name"] for row in rows if row.get("enabled", "true").lower() == "true"]
    wanted = config.external_access
    if wanted is not None:
        found = wanted.integration.object in enabled
        access = f"{wanted.integration}" if found else f"{wanted.integration} is not set up"
    else:
        found = False
        access = "not in the configuration (key external_access); trial accounts refuse it"
    storage = config.storage
    return [
        Way("external access", found, access),
        Way("external functions", required <= has, functions),
        Way(
            "artifacts",
            storage is not None,
            f"through {storage.internal_stage} to {storage.location}"
            if storage is not None
            else f"on the internal stage {config.stage}, which MLflow's pages do not show",
        ),
    ]


class _CachedQueries:
    """Runs each query once."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._seen: dict[str, list[dict[str, str]]] = {}

    def rows(self, sql: str) -> list[dict[str, str]]:
        """Fetch the rows of a SHOW; none if Snowflake does not let this role look."""
        if sql not in self._seen:
            from snowflake.snowpark.exceptions import SnowparkSQLException

            try:
                rows = self._session.sql(sql).collect()
            except SnowparkSQLException:
                # Snowflake does not tell a missing object from an invisible one.
                rows = []
            self._seen[sql] = [
                {key.strip('"').lower(): str(value) for key, value in row.as_dict().items()}
                for row in rows
            ]
        return self._seen[sql]


def _to_fix(what: str, fixes: list[Statement], config: BridgeConfig) -> Finding:
    """Return a finding whose fix begins with the role that has to run it."""
    run_as = fixes[0].run_as
    begin = use_role(run_as, config.roles.admin if run_as == ADMIN else config.roles.owner)
    fix = "\n".join(f"{statement.sql};" for statement in (begin, *fixes))
    return Finding(False, what, fix, (begin, *fixes))


def _check_functions(
    session: "Session", queries: _CachedQueries, config: BridgeConfig
) -> Iterator[Finding]:
    for function in FUNCTIONS:
        name = config.functions[function.key]
        if _has_function(queries, config, function.key):
            yield Finding(True, f"function {name}")
        elif function.specified:
            yield Finding(
                False,
                f"function {name} is missing, or this role may not see it",
                "Add `gateway` to the section mlflow and run `mlflow-snowflake apply`, or create "
                "the function by hand.",
            )
        else:
            yield Finding(True, f"function {name} is not there; plain tracking does not need it")
    yield _call(session, queries, config)


def _has_function(queries: _CachedQueries, config: BridgeConfig, key: str) -> bool:
    name = config.functions[key]
    rows = queries.rows(_show(SqlObject("EXTERNAL FUNCTION", name, ())))
    return any(row.get("name") == name.object for row in rows)


def _present(
    queries: _CachedQueries, target: SqlObject, fixes: list[Statement], config: BridgeConfig
) -> Finding:
    rows = queries.rows(_show(target))
    found = [row for row in rows if row.get("name") == target.name.object]
    if target.types is not None:
        found = [row for row in found if _types(row) == target.types]
        kind = "Y" if target.kind == "EXTERNAL FUNCTION" else "N"
        found = [row for row in found if row.get("is_external_function", kind) == kind]
    if found:
        return Finding(True, str(target))
    return _to_fix(f"{target} is missing, or this role may not see it", fixes, config)


def _show(target: SqlObject) -> str:
    within = Identifier(target.name.parts[:-1])
    if target.types is not None:
        place = f" IN SCHEMA {within.sql}" if within.parts else ""
        return f"SHOW USER FUNCTIONS{place}"
    if target.kind in {"STAGE", "SECRET", "NETWORK RULE"}:
        return f"SHOW {target.kind}S IN SCHEMA {within.sql}"
    if target.kind == "SCHEMA":
        return f"SHOW SCHEMAS IN DATABASE {within.sql}"
    return f"SHOW {target.word}S"


def _types(row: dict[str, str]) -> tuple[str, ...]:
    """Return the argument types in `F(VARCHAR, NUMBER) RETURN VARIANT`."""
    before = row.get("arguments", "").rpartition(" RETURN ")[0]
    inner = before.rpartition("(")[2].rpartition(")")[0]
    return tuple(kind.strip() for kind in inner.split(",") if kind.strip())


def _granted(queries: _CachedQueries, statement: Statement, config: BridgeConfig) -> Finding:
    target, role = statement.target, statement.role
    assert target is not None  # noqa: S101 - checked by the caller
    assert role is not None  # noqa: S101
    if target.kind == "ROLE":
        rows = queries.rows(f"SHOW GRANTS OF ROLE {target.sql}")
        granted = any(row.get("grantee_name") == role.object for row in rows)
    else:
        rows = queries.rows(f"SHOW GRANTS ON {target.granted}")
        granted = any(
            row.get("grantee_name") == role.object
            and row.get("privilege") in {statement.privilege, "OWNERSHIP", "ALL"}
            for row in rows
        )
    if granted:
        return Finding(True, f"{statement.privilege} on {target} for {role}")
    return _to_fix(f"{role} has no {statement.privilege} on {target}", [statement], config)


def _altered(queries: _CachedQueries, statement: Statement, config: BridgeConfig) -> Finding:
    """Check that an existing integration is enabled, and allows what is needed."""
    target = statement.target
    assert target is not None  # noqa: S101 - checked by the caller
    if target.kind == "EXTERNAL ACCESS INTEGRATION":
        return _enabled(queries, statement)
    gateway, _, _ = config.require_gateway()
    if target == api_integration(gateway):
        key, wanted = "API_ALLOWED_PREFIXES", gateway.prefix
    else:
        assert config.storage is not None  # noqa: S101 - there is no other integration
        key, wanted = "STORAGE_ALLOWED_LOCATIONS", config.storage.location
    rows = queries.rows(f"DESCRIBE INTEGRATION {target.sql}")
    properties = {row.get("property", ""): row.get("property_value", "") for row in rows}
    allowed = [part.strip() for part in properties.get(key, "").split(",")]
    if properties.get("ENABLED", "").lower() != "true":
        return _to_fix(f"{target} is not enabled", [statement], config)
    if not any(part and wanted.startswith(part) for part in allowed):
        return _to_fix(f"{target} does not allow {wanted}", [statement], config)
    return Finding(True, f"{target} allows {wanted}")


def _enabled(queries: _CachedQueries, statement: Statement) -> Finding:
    target = statement.target
    assert target is not None  # noqa: S101 - checked by the caller
    rows = queries.rows(_show(target))
    found = [row for row in rows if row.get("name") == target.name.object]
    if any(row.get("enabled", "").lower() == "true" for row in found):
        return Finding(True, f"{target} is enabled")
    return Finding(False, f"{target} is not enabled", f"{statement.sql};")


def _call(session: "Session", queries: _CachedQueries, config: BridgeConfig) -> Finding:
    """Ask MLflow for the experiment, all the way through the bridge."""
    function: Any = config.functions["experiment_get_by_name"]
    began = time.monotonic()
    try:
        session.sql(f"SELECT {function.sql}(?)", params=[config.experiment_name]).collect()
    except Exception as error:  # noqa: BLE001 - any failure is the finding
        explained = explain(error, str(function), check="")
        fix = str(explained)
        if isinstance(explained, AccessError) and config.gateway is not None:
            fix += _identity(queries, config)
        return Finding(False, "MLflow cannot be reached", fix)
    seconds = time.monotonic() - began
    if seconds > SLOW_SECONDS:
        return Finding(
            False,
            f"MLflow responds slowly, in {seconds:.1f} s",
            "Every call of a pipeline waits as long. Check the gateway and MLflow.",
        )
    return Finding(True, f"MLflow responds through {function}")


def _identity(queries: _CachedQueries, config: BridgeConfig) -> str:
    """Return the identity that Snowflake has at the gateway, for the cloud's administrator."""
    gateway, _, _ = config.require_gateway()
    rows = queries.rows(f"DESCRIBE INTEGRATION {gateway.integration.sql}")
    shown = [
        f"{row['property']} = {row['property_value']}"
        for row in rows
        if row.get("property") in _IDENTITY
    ]
    return f" Snowflake identifies itself as {', '.join(shown)}." if shown else ""
