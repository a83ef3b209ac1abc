"""A session on the server's side."""

from dataclasses import dataclass

from mlflow_connections_sandbox._snowflake.tasks._task_run import TaskExecution

from ._errors import Name, SqlError, compilation


@dataclass
class SqlSession:
    """A server-side session: user, role, warehouse, database and schema.

    Attributes:
        token: The token that authenticates each request of the client.
        user: The user.
        role: The current role.
        database: The current database, if any.
        schema: The current schema, if any.
        warehouse: The current warehouse, if any; it counts only while the role may use it.
        rights: OWNER or CALLER inside a procedure, and OWNER in a Streamlit app; None for a client.
        is_restricted: Whether it was opened with a token that is restricted to one role.
        is_managed: Whether Snowflake provides the warehouse, as for a serverless task.
        task: The task run that this session executes, or None.
    """

    token: str
    user: str
    role: str
    database: str | None = None
    schema: str | None = None
    warehouse: str | None = None
    rights: str | None = None
    is_restricted: bool = False
    is_managed: bool = False
    task: TaskExecution | None = None

    def in_schema(self, name: Name) -> Name:
        """Return the full name of an object that belongs to a schema.

        Raises:
            SqlError: There is no current database or schema to complete it with.
        """
        if len(name) == 3:
            return name
        if self.database is None:
            raise _no_current("database", 90105)
        if len(name) == 2:
            return (self.database, *name)
        if self.schema is None:
            raise _no_current("schema", 90106)
        return (self.database, self.schema, *name)

    def in_database(self, name: Name) -> Name:
        """Return the full name of a schema.

        Raises:
            SqlError: There is no current database.
        """
        if len(name) == 3:
            raise compilation(f"Invalid schema name: {'.'.join(name)}")
        if len(name) == 2:
            return name
        if self.database is None:
            raise _no_current("database", 90105)
        return (self.database, *name)


def _no_current(what: str, number: int) -> SqlError:
    return SqlError(
        number,
        "22000",
        f"Cannot perform operation. This session does not have a current {what}. "
        f"Call 'USE {what.upper()}', or use a qualified name.",
    )
