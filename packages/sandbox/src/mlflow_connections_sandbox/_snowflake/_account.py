"""An account: executes the statements that the stand-in knows, and forwards the others."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_connections_sandbox._snowflake.external._clouds import (
    Clouds,
    api_identity,
    storage_identity,
)
from mlflow_connections_sandbox._snowflake.external._external_functions import (
    ExternalFunctions,
    Remote,
)
from mlflow_connections_sandbox._snowflake.external._gateway import ApiGateway
from mlflow_connections_sandbox._snowflake.objects._catalog import Catalog, CatalogEntry, Key
from mlflow_connections_sandbox._snowflake.objects._ddl import Checks, Objects
from mlflow_connections_sandbox._snowflake.objects._privileges import Grants, Privileges
from mlflow_connections_sandbox._snowflake.objects._show import Shows
from mlflow_connections_sandbox._snowflake.objects._stages import Stages
from mlflow_connections_sandbox._snowflake.procedures._procedures import Procedures
from mlflow_connections_sandbox._snowflake.sql._file_commands import (
    FileCommand,
    parse_file_command,
    parse_stage,
)
from mlflow_connections_sandbox._snowflake.sql._parser import parse
from mlflow_connections_sandbox._snowflake.sql._reader import SqlReader, quoted
from mlflow_connections_sandbox._snowflake.sql._statements import (
    Alter,
    Create,
    Describe,
    Drop,
    Grant,
    GrantRole,
    Show,
    ShowGrants,
    Statement,
    Target,
    Use,
)
from mlflow_connections_sandbox._snowflake.tasks._task_graphs import TaskGraphs

from ._assumptions import Assumptions
from ._calls import Calls, Compiled
from ._contexts import Contexts
from ._errors import SqlError, compilation, no_such_object
from ._results import Rows, status
from ._session import SqlSession

USER = "SANDBOX"
DATABASE = "DEMO"
SCHEMA = "DEMO"
WAREHOUSE = "COMPUTE_WH"


@dataclass(frozen=True)
class Forwarded:
    """A statement that fakesnow executes.

    Attributes:
        sql: The statement.
        compiled: The calls in it, which are answered while it runs.
        then: A function to call once it has succeeded.
        convert: A function that converts the rows of a query into the statement's result.
    """

    sql: str
    compiled: Compiled | None = None
    then: Callable[[], None] | None = None
    convert: Callable[[Sequence[Sequence[Any]]], Rows] | None = None


@dataclass(frozen=True)
class Transfer:
    """The data that a client needs to copy files itself."""

    data: Mapping[str, Any] = field(default_factory=dict)


Outcome = Rows | Forwarded | Transfer


class SnowflakeAccount:
    """Executes statements.

    Attributes:
        assumptions: The assumptions where real accounts differ.
        catalog: The objects.
        access: The privileges.
        clouds: The trust policies of the clouds.
        stages: The files of stages.
        external_functions: The caller of external functions.
        procedures: The caller of procedures.
        tasks: The runner of task graphs.
        calls: The compiler of queries with functions.
        checks: The checks of created and changed objects.
        objects: The executor of DDL.
    """

    def __init__(self, folder: Path, gateways: list[ApiGateway], clouds: Clouds) -> None:
        self.assumptions = Assumptions()
        self.catalog = Catalog()
        self.access = Privileges(self.catalog)
        self.clouds = clouds
        self.stages = Stages(folder / "stages", self.catalog, self.access, clouds)
        self.external_functions = ExternalFunctions(Remote(gateways, clouds))
        self.procedures = Procedures(self.catalog, self.access, self.stages)
        self.calls = Calls(self.catalog, self.access, self.external_functions, self.procedures)
        self.checks = Checks(self.catalog, self.access, self.stages, self.assumptions)
        self.tasks = TaskGraphs(
            *(self.catalog, self.access, self.checks.tasks, self.procedures, self.assumptions)
        )
        self.calls.history = self.tasks.history
        self.objects = Objects(self.catalog, self.access, self.stages, self.checks)
        self._contexts = Contexts(self.access, self.assumptions)
        self._shows = Shows(self.catalog, self.access)
        self._grants = Grants(self.catalog, self.access)
        self._begin()

    def execute(
        self,
        sql: str,
        session: SqlSession,
        query: str,
        bound: str | None = None,
        *,
        is_file_operation: bool = False,
        is_described: bool = False,
    ) -> Outcome:
        """Execute a statement, or return the part that fakesnow must execute.

        Args:
            sql: The statement.
            session: The session that sent it.
            query: Its ID.
            bound: The first bound value, which may name a stage.
            is_file_operation: Whether it was sent for `session.file` or SnowflakeFile in a
                procedure.
            is_described: Whether only the columns of the result are requested.

        Raises:
            SqlError: It is refused.
        """
        reader = SqlReader(sql)
        self._contexts.check(SqlReader(sql), session, is_file_operation=is_file_operation)
        if not is_described:
            self._contexts.check_warehouse(reader, session)
        if bound is not None and reader.has(frozenset(("IDENTIFIER",))):
            # fakesnow would treat the quotes of a bound name as part of it.
            sql = reader.inlined(SqlReader(bound).name())
            reader = SqlReader(sql)
        if reader.accept("SELECT", "SYSTEM$CANCEL_ALL_QUERIES"):
            # Snowpark sends this when it closes a session; no statement runs any more.
            return status("0 queries cancelled.")
        if is_file_operation and reader.word() in {"READ_FILE", "READ_STREAM"}:
            read = self.stages.read if reader.accept("READ_FILE") else self.stages.stream
            return Transfer(read(parse_stage(bound or ""), session))
        if reader.accept("ALTER", "SESSION"):
            # Session parameters have no effect in the stand-in.
            return status("Statement executed successfully.")
        files = parse_file_command(SqlReader(sql), bound)
        if files is not None:
            return self._files(files, sql, session)
        if reader.accept("EXECUTE", "TASK"):
            return self._execute_task(reader, session)
        if reader.word() == "CALL":
            return self._call(reader, session, query, bound)
        statement = parse(reader)
        if statement is not None:
            return self._run(statement, sql, session)
        sql = reader.without_scoped()
        compiled = self.calls.compile(SqlReader(sql), session, query)
        return Forwarded(sql) if compiled is None else Forwarded(compiled.sql, compiled)

    def _call(
        self, reader: SqlReader, session: SqlSession, query: str, bound: str | None
    ) -> Outcome:
        if reader.accept("CALL", "SYSTEM$SET_RETURN_VALUE"):
            return _set_return_value(reader, session, bound)
        compiled = self.calls.compile_procedure(reader, session, query)
        return Forwarded(compiled.sql, compiled)

    def _execute_task(self, reader: SqlReader, session: SqlSession) -> Rows:
        name = reader.name()
        retry = reader.accept("RETRY", "LAST")
        reader.end()
        return self.tasks.execute(name, session, retry=retry)

    def trust(self, integration: str) -> None:
        """Trust the identity that DESCRIBE INTEGRATION shows, as a cloud administrator does.

        Args:
            integration: Its name as SHOW INTEGRATIONS shows it.

        Raises:
            SqlError: The integration does not exist.
        """
        entry = self.catalog.get(("INTEGRATION", (integration,), None))
        if entry.kind == "API INTEGRATION":
            self.clouds.trust(api_identity(entry.properties))
        elif entry.kind == "STORAGE INTEGRATION":
            self.clouds.trust(storage_identity(entry.properties))

    def _begin(self) -> None:
        """Create the user, database, schemas and warehouse of a new account."""
        self.access.users[USER] = {"ACCOUNTADMIN"}
        self._own("DATABASE", (DATABASE,))
        for schema in (SCHEMA, "PUBLIC"):
            self._own("SCHEMA", (DATABASE, schema))
        self._own("WAREHOUSE", (WAREHOUSE,))

    def _own(self, kind: str, name: tuple[str, ...], role: str = "SYSADMIN") -> None:
        self.catalog.add(CatalogEntry(kind, (kind, name, None), role))

    def _files(self, command: FileCommand, sql: str, session: SqlSession) -> Outcome:
        if command.query:
            self._contexts.check_warehouse(SqlReader(command.query), session)
            return Forwarded(
                command.query,
                convert=lambda rows: self.stages.copy_rows(command.stage, rows, session),
            )
        if not self.stages.is_known(command, session):
            return Forwarded(sql)
        done = self.stages.execute(command, session)
        return done if isinstance(done, Rows) else Transfer(done)

    def _run(self, statement: Statement, sql: str, session: SqlSession) -> Outcome:
        if isinstance(statement, Create | Drop) and statement.kind in {"DATABASE", "SCHEMA"}:
            return self._container(statement, sql, session)
        if isinstance(statement, Use):
            return self._use(statement, session)
        if isinstance(statement, Create):
            return self.objects.create(statement, session)
        if isinstance(statement, Alter):
            return self.objects.alter(statement, session)
        if isinstance(statement, Drop):
            return self.objects.drop(statement, session)
        return self._tell(statement, session)

    def _tell(
        self, statement: Describe | Show | ShowGrants | Grant | GrantRole, session: SqlSession
    ) -> Rows:
        if isinstance(statement, Describe):
            return self._shows.describe(statement, session)
        if isinstance(statement, Show):
            return self._shows.show(statement, session)
        if isinstance(statement, ShowGrants):
            return self._shows.grants(statement, session)
        if isinstance(statement, Grant):
            return self._grants.privileges(statement, session)
        return self._grants.role(statement, session)

    def _container(self, statement: Create | Drop, sql: str, session: SqlSession) -> Outcome:
        """Forward a database or schema to fakesnow, and record its owner and grants."""
        kind = statement.kind
        if isinstance(statement, Drop):
            key = self.catalog.key(statement.target, session)
            there = self.catalog.find(key)
            if there is None and statement.if_exists:
                return status("Drop statement executed successfully.")
            self.access.own(session, key)
            return Forwarded(sql, then=lambda: self.catalog.drop(key))
        key = self.objects.may_create(kind, statement.target, session)
        if self.catalog.find(key) is not None and statement.if_not_exists:
            return status(f"{key[1][-1]} already exists, statement succeeded.")
        role = session.role

        def keep() -> None:
            self.catalog.add(CatalogEntry(kind, key, role), replace=statement.replace)

        return Forwarded(sql, then=keep)

    def _use(self, statement: Use, session: SqlSession) -> Outcome:
        kind, name = statement.kind, statement.name
        if kind == "SECONDARY ROLES":
            if name[0] != "NONE":
                raise compilation("The stand-in has no secondary roles.")
        elif kind == "ROLE":
            self._use_role(name[0], session)
        elif kind == "WAREHOUSE":
            self._require_usage(session, ("WAREHOUSE", name, None))
            session.warehouse = name[0]
        elif kind == "DATABASE":
            self._require_usage(session, ("DATABASE", name, None))
            public = (name[0], "PUBLIC")
            if self.catalog.find(("SCHEMA", public, None)) is not None:
                return Forwarded(f"USE SCHEMA {quoted(public)}")
            return Forwarded(f"USE DATABASE {quoted(name)}")
        else:
            key = self.catalog.key(Target("SCHEMA", name), session)
            self._require_usage(session, key)
            return Forwarded(f"USE SCHEMA {quoted(key[1])}")
        return status("Statement executed successfully.")

    def _use_role(self, role: str, session: SqlSession) -> None:
        if session.is_restricted:
            text = "Current session is restricted. USE ROLE not allowed."
            raise SqlError(3107, "42501", f"SQL access control error:\n{text}")
        if role not in self.access.roles:
            raise no_such_object()
        if not self.access.may_use_role(session.user, role):
            raise SqlError(
                3013,
                "42501",
                f"SQL access control error:\nRequested role '{role}' is not assigned to the executing "
                "user. Specify another role to activate.",
            )
        session.role = role

    def _require_usage(self, session: SqlSession, key: Key) -> None:
        try:
            self.access.require(session, "USAGE", key)
        except SqlError:
            raise no_such_object() from None


def _set_return_value(reader: SqlReader, session: SqlSession, bound: str | None) -> Rows:
    if session.task is None:
        raise compilation("SYSTEM$SET_RETURN_VALUE must be called from within a task.", 91100)
    reader.expect("(")
    if bound is not None and reader.accept("?"):
        session.task.value = bound
    else:
        session.task.value = reader.string()
    reader.expect(")")
    reader.end()
    return Rows(("SYSTEM$SET_RETURN_VALUE",), [["Return value set."]])


def new_query() -> str:
    """Return a new statement ID."""
    return str(uuid.uuid4())
