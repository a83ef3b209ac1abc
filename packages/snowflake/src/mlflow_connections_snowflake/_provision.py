"""Running the generated statements, one after the other, with progress."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_connections import AccessError

from ._config import BridgeConfig
from ._errors import BridgeError, explain
from ._names import Identifier
from ._sql import api_integration, statements
from ._statement import ADMIN, SqlObject, Statement, use_role

if TYPE_CHECKING:
    from snowflake.snowpark import Session


def apply(
    session: "Session",
    written: Sequence[Statement],
    progress: Callable[[int, Statement], None] = lambda _number, _statement: None,
) -> None:
    """Run statements in order, and stop at the first that fails.

    Args:
        session: A session that may take on the roles of the statements.
        written: What `statements` or `drops` gave, or a part of it.
        progress: Called before each statement, with its number from 1.

    Raises:
        BridgeError: A statement failed; the message names it and says what Snowflake said.
    """
    from snowflake.snowpark.exceptions import SnowparkSQLException

    for number, statement in enumerate(written, 1):
        progress(number, statement)
        try:
            session.sql(statement.sql).collect()
        except SnowparkSQLException as error:
            said = " ".join(str(error.message).split())
            first_line = statement.sql.partition("\n")[0]
            raise BridgeError(
                f"Statement {number} of {len(written)} ({first_line} …), which the "
                f"{statement.run_as} runs, failed: {said} "
                "What ran before stays; mend the cause and apply again."
            ) from error


SLOW_SECONDS = 5.0
"""An answer that takes longer is worth a word: every call of a pipeline waits as long."""


# https://docs.snowflake.com/en/sql-reference/external-functions-creating: one step on each cloud.
_IDENTITY = (
    "API_AWS_IAM_USER_ARN",
    "API_AWS_EXTERNAL_ID",
    "AZURE_CONSENT_URL",
    "AZURE_MULTI_TENANT_APP_NAME",
    "API_GCP_SERVICE_ACCOUNT",
)


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        ok: Whether all is well.
        what: The thing, or what is wrong with it.
        fix: The statements or the action that fix it; empty if nothing is wrong.
        fix_statements: Those statements, for `apply`.
    """

    ok: bool
    what: str
    fix: str = ""
    fix_statements: tuple[Statement, ...] = ()


def _to_mend(what: str, mends: list[Statement], setup: BridgeConfig) -> Finding:
    """Make the finding for what statements mend, which begin with who has to run them."""
    part = mends[0].run_as
    begin = use_role(part, setup.roles.admin if part == ADMIN else setup.roles.owner)
    cure = "\n".join(f"{statement.sql};" for statement in (begin, *mends))
    return Finding(False, what, cure, (begin, *mends))


def check(session: "Session", setup: BridgeConfig) -> Iterator[Finding]:
    """Check everything, the administrator's part first, a call to MLflow last.

    Args:
        session: A session whose role sees the integrations; it changes nothing.
        setup: What should be there.

    Raises:
        MissingOptionError: The setup lacks what only the generator needs.
    """
    queries = _CachedQueries(session)
    written = statements(setup)
    missing: set[SqlObject] = set()
    for statement in written:
        if statement.target is None or statement.target in missing:
            # What hangs on a thing that is not there is part of that thing's cure.
            continue
        if statement.verb == "CREATE":
            # Its grants too: a new thing has none.
            mends = [s for s in written if s.target == statement.target and s.verb != "ALTER"]
            finding = _present(queries, statement.target, mends, setup)
            if not finding.ok:
                missing.add(statement.target)
            yield finding
        elif statement.verb == "GRANT":
            yield _granted(queries, statement, setup)
        else:
            yield _altered(queries, statement, setup)
    if setup.gateway is not None:
        yield _call(session, queries, setup)


class _CachedQueries:
    """Asks Snowflake, each question once."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._seen: dict[str, list[dict[str, str]]] = {}

    def rows(self, sql: str) -> list[dict[str, str]]:
        """Give the rows of a SHOW; none where Snowflake does not let this role look."""
        if sql not in self._seen:
            from snowflake.snowpark.exceptions import SnowparkSQLException

            try:
                rows = self._session.sql(sql).collect()
            except SnowparkSQLException:
                # To Snowflake what is not there and what may not be seen are the same.
                rows = []
            self._seen[sql] = [
                {key.strip('"').lower(): str(value) for key, value in row.as_dict().items()}
                for row in rows
            ]
        return self._seen[sql]


def _present(
    queries: _CachedQueries, thing: SqlObject, mends: list[Statement], setup: BridgeConfig
) -> Finding:
    rows = queries.rows(_show(thing))
    found = [row for row in rows if row.get("name") == thing.name.object]
    if thing.types is not None:
        found = [row for row in found if _types(row) == thing.types]
        kind = "Y" if thing.kind == "EXTERNAL FUNCTION" else "N"
        found = [row for row in found if row.get("is_external_function", kind) == kind]
    if found:
        return Finding(True, str(thing))
    return _to_mend(f"{thing} is missing, or this role may not see it", mends, setup)


def _show(thing: SqlObject) -> str:
    within = Identifier(thing.name.parts[:-1])
    if thing.types is not None:
        return f"SHOW USER FUNCTIONS IN SCHEMA {within.sql}"
    if thing.kind in {"STAGE", "SECRET", "NETWORK RULE"}:
        return f"SHOW {thing.kind}S IN SCHEMA {within.sql}"
    if thing.kind == "SCHEMA":
        return f"SHOW SCHEMAS IN DATABASE {within.sql}"
    return f"SHOW {thing.word}S"


def _types(row: dict[str, str]) -> tuple[str, ...]:
    """Read the argument types out of `F(VARCHAR, NUMBER) RETURN VARIANT`."""
    before = row.get("arguments", "").rpartition(" RETURN ")[0]
    inner = before.rpartition("(")[2].rpartition(")")[0]
    return tuple(kind.strip() for kind in inner.split(",") if kind.strip())


def _granted(queries: _CachedQueries, statement: Statement, setup: BridgeConfig) -> Finding:
    thing, role = statement.target, statement.role
    assert thing is not None  # noqa: S101 - asked by check alone
    assert role is not None  # noqa: S101
    if thing.kind == "ROLE":
        rows = queries.rows(f"SHOW GRANTS OF ROLE {thing.sql}")
        granted = any(row.get("grantee_name") == role.object for row in rows)
    else:
        rows = queries.rows(f"SHOW GRANTS ON {thing.granted}")
        granted = any(
            row.get("grantee_name") == role.object
            and row.get("privilege") in {statement.privilege, "OWNERSHIP", "ALL"}
            for row in rows
        )
    if granted:
        return Finding(True, f"{statement.privilege} on {thing} for {role}")
    return _to_mend(f"{role} has no {statement.privilege} on {thing}", [statement], setup)


def _altered(queries: _CachedQueries, statement: Statement, setup: BridgeConfig) -> Finding:
    """Whether an integration that was there before is enabled, and allows what is needed."""
    thing = statement.target
    assert thing is not None  # noqa: S101 - asked by check alone
    if thing.kind == "EXTERNAL ACCESS INTEGRATION":
        return _enabled(queries, statement)
    gateway, _, _ = setup.require_gateway()
    if thing == api_integration(gateway):
        key, wanted = "API_ALLOWED_PREFIXES", gateway.prefix
    else:
        assert setup.storage is not None  # noqa: S101 - there is no other integration
        key, wanted = "STORAGE_ALLOWED_LOCATIONS", setup.storage.location
    rows = queries.rows(f"DESCRIBE INTEGRATION {thing.sql}")
    properties = {row.get("property", ""): row.get("property_value", "") for row in rows}
    allowed = [part.strip() for part in properties.get(key, "").split(",")]
    if properties.get("ENABLED", "").lower() != "true":
        return _to_mend(f"{thing} is not enabled", [statement], setup)
    if not any(part and wanted.startswith(part) for part in allowed):
        return _to_mend(f"{thing} does not allow {wanted}", [statement], setup)
    return Finding(True, f"{thing} allows {wanted}")


def _enabled(queries: _CachedQueries, statement: Statement) -> Finding:
    thing = statement.target
    assert thing is not None  # noqa: S101 - asked by check alone
    rows = queries.rows(_show(thing))
    found = [row for row in rows if row.get("name") == thing.name.object]
    if any(row.get("enabled", "").lower() == "true" for row in found):
        return Finding(True, f"{thing} is enabled")
    return Finding(False, f"{thing} is not enabled", f"{statement.sql};")


def _call(session: "Session", queries: _CachedQueries, setup: BridgeConfig) -> Finding:
    """Ask MLflow for the experiment, all the way through the bridge."""
    function: Any = setup.functions["experiment_get_by_name"]
    began = time.monotonic()
    try:
        session.sql(f"SELECT {function.sql}(?)", params=[setup.experiment_name]).collect()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        explained = explain(error, str(function))
        cure = str(explained)
        if isinstance(explained, AccessError):
            cure += _identity(queries, setup)
        return Finding(False, "MLflow cannot be reached", cure)
    seconds = time.monotonic() - began
    if seconds > SLOW_SECONDS:
        return Finding(
            False,
            f"MLflow answers slowly, in {seconds:.1f} s",
            "Every call of a pipeline waits as long: look at the gateway and at MLflow.",
        )
    return Finding(True, f"MLflow answers through {function}")


def _identity(queries: _CachedQueries, setup: BridgeConfig) -> str:
    """As whom Snowflake comes to the gateway: what the cloud's administrator must let in."""
    gateway, _, _ = setup.require_gateway()
    rows = queries.rows(f"DESCRIBE INTEGRATION {gateway.integration.sql}")
    shown = [
        f"{row['property']} = {row['property_value']}"
        for row in rows
        if row.get("property") in _IDENTITY
    ]
    return f" Snowflake comes as {', '.join(shown)}." if shown else ""
