"""Whether the bridge stands: each thing that the generator makes is asked for in Snowflake.

What is missing is answered with the very statement that makes it. Asked are:

    SHOW ROLES;  SHOW DATABASES;  SHOW SCHEMAS IN DATABASE n;  SHOW INTEGRATIONS
    SHOW USER FUNCTIONS IN SCHEMA n;  SHOW STAGES IN SCHEMA n;  DESCRIBE INTEGRATION n
    SHOW GRANTS OF ROLE n
    SHOW GRANTS ON INTEGRATION n | DATABASE n | SCHEMA n | FUNCTION n(type, …) | STAGE n
    SELECT n(?)

Of their answers these columns are read: name, enabled, arguments, is_external_function, privilege,
grantee_name, property, property_value.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_connections import AccessError

from ._errors import explain
from ._names import Name
from ._setup import Setup
from ._sql import statements
from ._sql_admin import api_integration
from ._statement import ADMIN, Statement, Thing, use_role

if TYPE_CHECKING:
    from snowflake.snowpark import Session

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
        cure: The statements or the deed that mend it; empty where nothing is wrong.
        mends: Those statements, for `apply`.
    """

    ok: bool
    what: str
    cure: str = ""
    mends: tuple[Statement, ...] = ()


def _to_mend(what: str, mends: list[Statement], setup: Setup) -> Finding:
    """Make the finding for what statements mend, which begin with who has to run them."""
    part = mends[0].part
    begin = use_role(part, setup.roles.admin if part == ADMIN else setup.roles.owner)
    cure = "\n".join(f"{statement.sql};" for statement in (begin, *mends))
    return Finding(False, what, cure, (begin, *mends))


def check(session: "Session", setup: Setup) -> Iterator[Finding]:
    """Check everything, the administrator's part first, a call to MLflow last.

    Args:
        session: A session whose role sees the integrations; it changes nothing.
        setup: What should be there.

    Raises:
        MissingOptionError: The setup lacks what only the generator needs.
    """
    eyes = _Eyes(session)
    written = statements(setup)
    missing: set[Thing] = set()
    for statement in written:
        if statement.thing is None or statement.thing in missing:
            # What hangs on a thing that is not there is part of that thing's cure.
            continue
        if statement.verb == "CREATE":
            # Its grants too: a new thing has none.
            mends = [s for s in written if s.thing == statement.thing and s.verb != "ALTER"]
            finding = _present(eyes, statement.thing, mends, setup)
            if not finding.ok:
                missing.add(statement.thing)
            yield finding
        elif statement.verb == "GRANT":
            yield _granted(eyes, statement, setup)
        else:
            yield _altered(eyes, statement, setup)
    if setup.gateway is not None:
        yield _call(session, eyes, setup)


class _Eyes:
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


def _present(eyes: _Eyes, thing: Thing, mends: list[Statement], setup: Setup) -> Finding:
    rows = eyes.rows(_show(thing))
    found = [row for row in rows if row.get("name") == thing.name.object]
    if thing.types is not None:
        found = [row for row in found if _types(row) == thing.types]
        kind = "Y" if thing.kind == "EXTERNAL FUNCTION" else "N"
        found = [row for row in found if row.get("is_external_function", kind) == kind]
    if found:
        return Finding(True, str(thing))
    return _to_mend(f"{thing} is missing, or this role may not see it", mends, setup)


def _show(thing: Thing) -> str:
    within = Name(thing.name.parts[:-1])
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


def _granted(eyes: _Eyes, statement: Statement, setup: Setup) -> Finding:
    thing, role = statement.thing, statement.role
    assert thing is not None  # noqa: S101 - asked by check alone
    assert role is not None  # noqa: S101
    if thing.kind == "ROLE":
        rows = eyes.rows(f"SHOW GRANTS OF ROLE {thing.sql}")
        granted = any(row.get("grantee_name") == role.object for row in rows)
    else:
        rows = eyes.rows(f"SHOW GRANTS ON {thing.granted}")
        granted = any(
            row.get("grantee_name") == role.object
            and row.get("privilege") in {statement.privilege, "OWNERSHIP", "ALL"}
            for row in rows
        )
    if granted:
        return Finding(True, f"{statement.privilege} on {thing} for {role}")
    return _to_mend(f"{role} has no {statement.privilege} on {thing}", [statement], setup)


def _altered(eyes: _Eyes, statement: Statement, setup: Setup) -> Finding:
    """Whether an integration that was there before is enabled, and allows what is needed."""
    thing = statement.thing
    assert thing is not None  # noqa: S101 - asked by check alone
    if thing.kind == "EXTERNAL ACCESS INTEGRATION":
        return _enabled(eyes, statement)
    gateway, _, _ = setup.generating()
    if thing == api_integration(gateway):
        key, wanted = "API_ALLOWED_PREFIXES", gateway.prefix
    else:
        assert setup.storage is not None  # noqa: S101 - there is no other integration
        key, wanted = "STORAGE_ALLOWED_LOCATIONS", setup.storage.location
    rows = eyes.rows(f"DESCRIBE INTEGRATION {thing.sql}")
    properties = {row.get("property", ""): row.get("property_value", "") for row in rows}
    allowed = [part.strip() for part in properties.get(key, "").split(",")]
    if properties.get("ENABLED", "").lower() != "true":
        return _to_mend(f"{thing} is not enabled", [statement], setup)
    if not any(part and wanted.startswith(part) for part in allowed):
        return _to_mend(f"{thing} does not allow {wanted}", [statement], setup)
    return Finding(True, f"{thing} allows {wanted}")


def _enabled(eyes: _Eyes, statement: Statement) -> Finding:
    thing = statement.thing
    assert thing is not None  # noqa: S101 - asked by check alone
    rows = eyes.rows(_show(thing))
    found = [row for row in rows if row.get("name") == thing.name.object]
    if any(row.get("enabled", "").lower() == "true" for row in found):
        return Finding(True, f"{thing} is enabled")
    return Finding(False, f"{thing} is not enabled", f"{statement.sql};")


def _call(session: "Session", eyes: _Eyes, setup: Setup) -> Finding:
    """Ask MLflow for the experiment, all the way through the bridge."""
    function: Any = setup.functions["experiment_get_by_name"]
    began = time.monotonic()
    try:
        session.sql(f"SELECT {function.sql}(?)", params=[setup.experiment_name]).collect()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        explained = explain(error, str(function))
        cure = str(explained)
        if isinstance(explained, AccessError):
            cure += _identity(eyes, setup)
        return Finding(False, "MLflow cannot be reached", cure)
    seconds = time.monotonic() - began
    if seconds > SLOW_SECONDS:
        return Finding(
            False,
            f"MLflow answers slowly, in {seconds:.1f} s",
            "Every call of a pipeline waits as long: look at the gateway and at MLflow.",
        )
    return Finding(True, f"MLflow answers through {function}")


def _identity(eyes: _Eyes, setup: Setup) -> str:
    """As whom Snowflake comes to the gateway: what the cloud's administrator must let in."""
    gateway, _, _ = setup.generating()
    rows = eyes.rows(f"DESCRIBE INTEGRATION {gateway.integration.sql}")
    shown = [
        f"{row['property']} = {row['property_value']}"
        for row in rows
        if row.get("property") in _IDENTITY
    ]
    return f" Snowflake comes as {', '.join(shown)}." if shown else ""
