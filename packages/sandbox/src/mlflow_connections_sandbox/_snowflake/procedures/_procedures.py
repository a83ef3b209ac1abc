"""Python procedures: each call in a separate process that reaches only the account.

The process sees all Python packages of this environment, whatever PACKAGES lists.
"""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow_connections_sandbox._snowflake._errors import Name, SqlError
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.objects._catalog import Catalog, CatalogEntry
from mlflow_connections_sandbox._snowflake.objects._privileges import Privileges
from mlflow_connections_sandbox._snowflake.objects._stages import Stages
from mlflow_connections_sandbox._snowflake.sql._file_commands import parse_stage

from ._workers import RunningProcess, copy_support, kept_environment, start

_LINES = 40
"""The number of output lines that an error shows if the process ended without a response."""


class Procedures:
    """Calls procedures.

    Attributes:
        tickets: The login data of each procedure's own session, and the session itself.
        connect: Returns connection parameters for a ticket.
        access_tokens: The OAuth access token that Snowflake would fetch, by the name of the secret.
        running: The processes of running calls, by the session of each.
        servers: The local port that serves a public `host:port`.
        bundle: The certificates that processes inside the account trust.
    """

    def __init__(self, catalog: Catalog, access: Privileges, stages: Stages) -> None:
        self._catalog = catalog
        self._access = access
        self._stages = stages
        self.tickets: dict[str, SqlSession] = {}
        self.connect: Callable[[str, SqlSession], dict[str, Any]] | None = None
        self.access_tokens: dict[str, str] = {}
        self.running: dict[str, tuple[SqlSession, RunningProcess]] = {}
        self.servers: dict[str, int] = {}
        self.bundle: Path | None = None

    def call(self, entry: CatalogEntry, arguments: Sequence[Any], session: SqlSession) -> Any:
        """Call a procedure and return what its handler returned.

        Raises:
            SqlError: It failed; the message ends with the handler's traceback.
        """
        assert self.connect is not None  # noqa: S101 - set before anything runs
        self._access.require_repository(session.role, entry.properties["ARTIFACT_REPOSITORY"])
        rights = entry.properties.get("EXECUTE", "OWNER")
        own = replace(session, token="", rights=rights)
        if rights == "OWNER":
            own.role = entry.owner
            own.database, own.schema = entry.name[:2]
        else:
            own.database = session.database or entry.name[0]
            own.schema = session.schema or entry.name[1]
            if session.rights == "OWNER":
                # Within an owner's-rights procedure, a caller's-rights one has no more rights.
                own.rights = "OWNER"
        ticket = secrets.token_urlsafe(16)
        self.tickets[ticket] = own
        folder = Path(tempfile.mkdtemp(prefix="procedure-"))
        try:
            return self._run(entry, arguments, own, folder, self.connect(ticket, own))
        finally:
            self.tickets.pop(ticket, None)
            shutil.rmtree(folder, ignore_errors=True)

    def cancel(self, task: object) -> None:
        """Kill the processes of a task's calls."""
        for session, process in list(self.running.values()):
            if session.task is task:
                process.kill()

    def _run(
        self,
        entry: CatalogEntry,
        arguments: Sequence[Any],
        session: SqlSession,
        folder: Path,
        connection: Mapping[str, Any],
    ) -> Any:
        imports = folder / "imports"
        imports.mkdir()
        copy_support(folder)
        if "AS" in entry.properties:
            (folder / "_handler.py").write_text(entry.properties["AS"], encoding="utf-8")
        paths = [str(folder), *self._import(entry, session, imports), str(imports)]
        job = {
            "handler": entry.properties["HANDLER"],
            "arguments": list(arguments),
            "connection": dict(connection),
            "paths": paths,
            "imports": f"{imports}{os.sep}",
            "environment": self._environment(entry, folder, connection),
            "answer": str(folder / "answer.json"),
            "output": str(folder / "output.txt"),
        }
        (folder / "job.json").write_text(json.dumps(job))
        process = start(folder / "job.json")
        self.running[str(folder)] = session, process
        try:
            code = process.code.result()
        finally:
            del self.running[str(folder)]
        try:
            answer = json.loads((folder / "answer.json").read_text())
        except FileNotFoundError:
            printed = (folder / "output.txt").read_text(errors="replace").splitlines()[-_LINES:]
            answer = {"error": "\n".join([*printed, f"The process ended with {code}."])}
        if "error" in answer:
            raise SqlError(
                100357,
                "P0000",
                f"Python Interpreter Error:\n{answer['error'].rstrip()}\n in function "
                f"{entry.name[-1]} with handler {entry.properties['HANDLER']}",
            )
        return answer["value"]

    def _import(self, entry: CatalogEntry, session: SqlSession, folder: Path) -> list[str]:
        """Copy the files in IMPORTS, and return those that belong on the module path."""
        found = []
        # The owner reads the imports, as at its creation.
        owner = replace(session, role=entry.owner, database=entry.name[0], schema=entry.name[1])
        for reference in entry.properties.get("IMPORTS", ()):
            source = self._stages.file(parse_stage(reference), owner)
            shutil.copyfile(source, folder / source.name)
            if source.suffix in {".zip", ".whl"}:
                found.append(str(folder / source.name))
        return found

    def _environment(
        self, entry: CatalogEntry, folder: Path, connection: Mapping[str, Any]
    ) -> dict[str, str]:
        temporary = folder / "tmp"
        temporary.mkdir()
        integrations = entry.properties.get("EXTERNAL_ACCESS_INTEGRATIONS", ())
        return {
            **kept_environment(),
            **self.network_environment(integrations, connection),
            "HOME": str(folder),
            "TMPDIR": str(temporary),
            "PYTHONPATH": str(folder),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
            "GIT_PYTHON_REFRESH": "quiet",
            # Otherwise each sign-in queries the metadata services of three clouds, in vain.
            "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
            # The connector itself writes to stages, which are folders of this machine.
            "SANDBOX_WRITABLE": json.dumps(
                [str(path) for path in (temporary, folder / "answer.json", self._stages.root)]
            ),
            "SANDBOX_SECRETS": json.dumps(self.secret_values(entry.properties.get("SECRETS", {}))),
        }

    def network_environment(
        self, integrations: Iterable[Name], connection: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the variables that the guard reads, and those with which clients trust public servers.

        Args:
            integrations: The external access integrations of the process.
            connection: The parameters with which it reaches its account.
        """
        network = [f"{connection['host']}:{connection['port']}", *self._network(integrations)]
        found = {
            "SANDBOX_NETWORK": ",".join(network),
            "SANDBOX_SERVERS": json.dumps(self.servers),
        }
        if self.bundle is not None:
            trusted = str(self.bundle)
            found |= {"REQUESTS_CA_BUNDLE": trusted, "SSL_CERT_FILE": trusted}
        return found

    def _network(self, integrations: Iterable[Name]) -> list[str]:
        """Return the hosts and ports that external access integrations open."""
        found = []
        for name in integrations:
            integration = self._catalog.get(("INTEGRATION", name, None))
            if integration.properties["ENABLED"]:
                for rule in integration.properties["ALLOWED_NETWORK_RULES"]:
                    values = self._catalog.get(("NETWORK RULE", rule, None)).properties
                    found += [v if ":" in v else f"{v}:443" for v in values["VALUE_LIST"]]
        return found

    def secret_values(self, clause: Mapping[str, Name]) -> dict[str, dict[str, str]]:
        """Return the readable values of each secret, by the variable of its SECRETS clause."""
        found = {}
        for variable, name in clause.items():
            properties = self._catalog.get(("SECRET", name, None)).properties
            shown = {"TYPE", "SECRET_STRING", "USERNAME", "PASSWORD"}
            found[variable] = {k: str(v) for k, v in properties.items() if k in shown}
            if properties["TYPE"] == "OAUTH2":
                # Snowflake fetches it from the token endpoint of the security integration.
                found[variable]["ACCESS_TOKEN"] = self.access_tokens.get(name[-1], "")
        return found
