"""The stand-in of Snowflake: the server for the connector, and the three gateways."""

import asyncio
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlflow_connections_sandbox._snowflake.external._clouds import ACCOUNT, Clouds
from mlflow_connections_sandbox._snowflake.external._external_functions import (
    BatchDelivery,
    CallBehavior,
)
from mlflow_connections_sandbox._snowflake.external._gateway import BASES, ApiGateway
from mlflow_connections_sandbox._snowflake.external._mlflow_https import (
    MLFLOW_HOST,
    MLFLOW_PORT,
    PublicMlflow,
)
from mlflow_connections_sandbox._stand_in import StandIn
from mlflow_connections_sandbox._tables import Table

from ._account import DATABASE, SCHEMA, USER, WAREHOUSE, Forwarded, SnowflakeAccount, new_query
from ._assumptions import Assumptions
from ._contexts import OWNER
from ._journal import Statements
from ._local_testing import register_locally
from ._server import SnowflakeServer
from ._session import SqlSession
from ._tables import calls, statements
from ._users import Users
from .procedures._containers import PRIVILEGED, container_environment
from .sql._reader import SqlReader

if TYPE_CHECKING:
    from snowflake.snowpark import Session
    from starlette.types import ASGIApp


_BUCKETS = (
    "s3://mlflow-sandbox/",
    "gcs://mlflow-sandbox/",
    "azure://mlflowsandbox.blob.core.windows.net/mlflow/",
)
"""The locations at which a stage reaches MLflow's artifact root, one for each cloud."""


class Snowflake(StandIn):
    """An account with one database, one warehouse and one user, who is an account admin.

    Attributes:
        account: Its objects, and the privileges on them.
        gateways: The gateways in front of MLflow, by provider: aws, azure and google.
        public: MLflow itself at a public URL, for external access.
        statements: Every received statement.
        users: The users and their credentials.
        password: The password of the user SANDBOX.
    """

    name: ClassVar[str] = "snowflake"
    title: ClassVar[str] = "Snowflake"
    guide: ClassVar[str] = "sandbox-snowflake"
    options: ClassVar[Mapping[str, str]] = {"config": "snowflake.yml"}
    prefixes = ("SNOWFLAKE_",)

    def __init__(self, mlflow_url: str, folder: Path, artifacts: Path | None = None) -> None:
        """Prepare an account.

        Args:
            mlflow_url: The MLflow server behind the gateways.
            folder: The folder for the files of stages.
            artifacts: The folder of the MLflow server's artifacts; the sandbox's own by default.
        """
        super().__init__(mlflow_url, folder)
        clouds = Clouds()
        self.gateways = {
            provider: ApiGateway(mlflow_url, folder / f"gateway-{provider}", provider, clouds)
            for provider in BASES
        }
        self.account = SnowflakeAccount(folder, list(self.gateways.values()), clouds)
        self.public = PublicMlflow(mlflow_url, folder / "mlflow-https")
        self.account.procedures.servers = {f"{MLFLOW_HOST}:{MLFLOW_PORT}": self.public.port}
        self.account.procedures.bundle = self.public.bundle
        root = folder.parent / "mlflow" / "artifacts" if artifacts is None else artifacts
        self.account.stages.buckets = dict.fromkeys(_BUCKETS, root)
        self.account.procedures.connect = self._ticket
        self.account.tasks.connect = self._ticket
        self.statements = Statements()
        self.password = self.kept.get("password", lambda: secrets.token_urlsafe(12))
        self.users = Users({USER: self.password})
        self._sql: SnowflakeServer | None = None

    @property
    def policy(self) -> CallBehavior:
        """The time limits for a gateway, and the faults to inject."""
        return self.account.external_functions.remote.policy

    @property
    def assumptions(self) -> Assumptions:
        """The assumptions where real accounts differ, or where no source settles a rule."""
        return self.account.assumptions

    @property
    def deliveries(self) -> list[BatchDelivery]:
        """All HTTP requests to gateways so far."""
        return self.account.external_functions.remote.deliveries.all()

    def trust(self, integration: str) -> None:
        """Do the cloud administrator's part for an API or storage integration.

        After CREATE, and after each change of the integration's identity, its cloud trusts
        Snowflake only once the output of DESCRIBE INTEGRATION has been copied into its trust
        policy.

        Args:
            integration: Its name in SHOW INTEGRATIONS, in upper case unless it was quoted.
        """
        self.account.trust(integration)

    def administer(self) -> None:
        """Trust each integration in its cloud as soon as it is created."""
        self.account.clouds.trust_all = True

    def execute(self, statements: Iterable[str]) -> None:
        """Execute statements about objects as ACCOUNTADMIN, without a client.

        Args:
            statements: Statements that create functions, integrations and the like, but no queries.

        Raises:
            ValueError: A statement is a query.
        """
        session = SqlSession("", USER, "ACCOUNTADMIN", DATABASE, SCHEMA, WAREHOUSE)
        for sql in statements:
            outcome = self.account.execute(sql, session, new_query())
            if isinstance(outcome, Forwarded) and outcome.compiled is not None:
                raise ValueError(f"A query needs a client: {sql}")
            if isinstance(outcome, Forwarded) and outcome.then is not None:
                outcome.then()

    def register_locally(self, session: "Session") -> list[str]:
        """Register the external functions with a session of Snowpark's local testing.

        Args:
            session: `Session.builder.config("local_testing", True).create()`.

        Returns:
            The qualified names that `call_function` takes.
        """
        return register_locally(session, self.account)

    def connection(self, **changed: Any) -> dict[str, Any]:
        """Return the parameters for `snowflake.connector.connect` and `Session.builder.configs`.

        Args:
            changed: Values to change, such as `role`; None omits a parameter.
        """
        parameters = {
            "account": ACCOUNT.lower(),
            "user": USER,
            "password": self.password,
            "host": "127.0.0.1",
            "port": self.port,
            "protocol": "http",
            "database": DATABASE,
            "schema": SCHEMA,
            "warehouse": WAREHOUSE,
            "role": "ACCOUNTADMIN",
            **changed,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def token(self, role: str | None = None, kind: str = "PROGRAMMATIC_ACCESS_TOKEN") -> str:
        """Create a token for the user SANDBOX.

        Args:
            role: The only role of the token's sessions, in which USE ROLE is refused.
            kind: PROGRAMMATIC_ACCESS_TOKEN or OAUTH, as the connector's `authenticator` names it.

        Returns:
            The value of the connector's `token`; a programmatic access token is a password, too.
        """
        return self.users.add_token(kind, USER, role)

    def trust_key(self, public_key: str) -> None:
        """Register a public key of the user SANDBOX for key-pair authentication.

        Args:
            public_key: The key in PEM.
        """
        self.users.public_keys.setdefault(USER, []).append(public_key)

    def streamlit_connection(self, role: str = "ACCOUNTADMIN") -> dict[str, Any]:
        """Return the connection parameters for the session of a Streamlit app on a warehouse.

        Such an app runs as an owner's-rights procedure.

        Args:
            role: The role that owns the app.
        """
        ticket = secrets.token_urlsafe(16)
        own = SqlSession("", USER, role, DATABASE, SCHEMA, WAREHOUSE, rights=OWNER)
        self.account.procedures.tickets[ticket] = own
        return self._ticket(ticket, own)

    def container(
        self,
        folder: Path,
        role: str,
        integrations: Sequence[str] = (),
        secrets: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Return all variables of a process in a container: a service, an ML Job or a notebook.

        Start Python with these variables and no others. The process reaches its account, signed in
        with a token for one role, and the hosts that its integrations open.

        Args:
            folder: The container's folder.
            role: The role that owns the service.
            integrations: Its external access integrations, by their names in SHOW INTEGRATIONS.
            secrets: The qualified names of its secrets, by the name under which each is mounted.

        Raises:
            SqlError: An integration or a secret does not exist, or the role may not use it.
            ValueError: The role may not own a service.
        """
        if role in PRIVILEGED:
            raise ValueError(f"The role {role} may own no service.")
        access, session = self.account.access, SqlSession("", USER, role, DATABASE, SCHEMA)
        for name in integrations:
            access.require(session, "USAGE", ("INTEGRATION", (name,), None))
        named = {key: SqlReader(name).name() for key, name in (secrets or {}).items()}
        for key in named.values():
            access.require(session, "READ", ("SECRET", key, None))
        procedures, connection = self.account.procedures, self.connection()
        return container_environment(
            folder,
            self.token(role, "OAUTH"),
            connection,
            procedures.network_environment([(name,) for name in integrations], connection),
            procedures.secret_values(named),
        )

    def _ticket(self, ticket: str, session: SqlSession) -> dict[str, Any]:
        """Return the connection parameters for the session of a procedure or task."""
        return self.connection(
            user=session.user,
            password=ticket,
            role=session.role,
            database=session.database,
            schema=session.schema,
            warehouse=session.warehouse,
        )

    def environment(self) -> Mapping[str, str]:
        """Return the connector's own variables, with one connection named sandbox."""
        lines = [
            # JSON strings are valid TOML strings, and can be quoted in a shell.
            f"{name} = {json.dumps(value)}"
            for name, value in self.connection().items()
        ]
        return {
            "SNOWFLAKE_CONNECTIONS": "[sandbox]\n" + "\n".join(lines) + "\n",
            "SNOWFLAKE_DEFAULT_CONNECTION_NAME": "sandbox",
            # The connector would query metadata services of clouds at each sign-in.
            "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
            # The value of the secret for external access, which `mlflow-snowflake apply` sets.
            "MLFLOW_SNOWFLAKE_TOKEN": self.public.token,
        }

    def tables(self) -> Sequence[Table]:
        """Return the newest statements and calls of external functions."""
        return statements(self.statements), calls(self.account.external_functions.remote.deliveries)

    def keep(self, newest: int) -> None:
        """Keep only the newest entries of each journal, up to this number, from now on."""
        super().keep(newest)
        self.statements.keep(newest)
        self.account.external_functions.remote.deliveries.keep(newest)
        for server in (*self.gateways.values(), self.public):
            server.keep(newest)

    def app(self) -> "ASGIApp":
        """Return the application."""
        self._sql = SnowflakeServer(self.account, self.statements, self.users)
        asyncio.run(self._sql.prepare())
        return self._sql.app

    def start(self) -> None:
        """Start to respond, with the gateways and MLflow's public server."""
        for server in (*self.gateways.values(), self.public):
            server.start()
        super().start()

    def close(self) -> None:
        """Wait for running tasks, then stop responding."""
        self.account.tasks.close()
        # In parallel: each server polls for its end.
        with ThreadPoolExecutor() as pool:
            others = (*self.gateways.values(), self.public)
            closing = [pool.submit(server.close) for server in others]
            super().close()
            for one in closing:
                one.result()
        if self._sql is not None:
            self._sql.close()
            self._sql = None
