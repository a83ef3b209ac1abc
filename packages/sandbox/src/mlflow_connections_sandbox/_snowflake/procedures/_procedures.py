"""Python procedures: each call in a process of its own that reaches nothing but the account.

The process sees the Python packages of this environment, whatever PACKAGES lists of them; what is
listed has to be installed.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from mlflow_connections_sandbox._snowflake._errors import SqlError, compilation, dotted
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.objects._catalog import Catalog, Entry
from mlflow_connections_sandbox._snowflake.objects._stages import Stages
from mlflow_connections_sandbox._snowflake.sql._file_commands import parse_stage

_HERE = Path(__file__).parent
_COPIED = {
    "_guard.py": "sitecustomize.py",
    "_secrets.py": "_snowflake.py",
    "_main.py": "main.py",
}
_RUNTIMES = ("3.9", "3.10", "3.11", "3.12", "3.13")
_LINES = 40
"""Of what the process printed, shown where it ended without an answer."""


class Procedures:
    """Calls procedures.

    Attributes:
        tickets: What a procedure's own session logs in with, and what that session is.
        connect: Gives connection parameters for a ticket.
    """

    def __init__(self, catalog: Catalog, stages: Stages) -> None:
        self._catalog = catalog
        self._stages = stages
        self.tickets: dict[str, SqlSession] = {}
        self.connect: Callable[[str, SqlSession], dict[str, Any]] | None = None

    def call(self, entry: Entry, arguments: Sequence[Any], session: SqlSession) -> Any:
        """Call one and give what the handler returned.

        Raises:
            SqlError: It failed; the message ends with the handler's traceback.
        """
        assert self.connect is not None  # noqa: S101 - set before anything runs
        rights = entry.properties.get("EXECUTE", "OWNER")
        role = entry.owner if rights == "OWNER" else session.role
        database, schema = entry.name[:2]
        if rights == "CALLER":
            database, schema = session.database or database, session.schema or schema
        own = replace(session, token="", role=role, database=database, schema=schema)
        ticket = secrets.token_urlsafe(16)
        self.tickets[ticket] = own
        folder = Path(tempfile.mkdtemp(prefix="procedure-"))
        try:
            return self._run(entry, arguments, own, folder, self.connect(ticket, own))
        finally:
            self.tickets.pop(ticket, None)
            shutil.rmtree(folder, ignore_errors=True)

    def _run(
        self,
        entry: Entry,
        arguments: Sequence[Any],
        session: SqlSession,
        folder: Path,
        connection: Mapping[str, Any],
    ) -> Any:
        imports = folder / "imports"
        imports.mkdir()
        for source, name in _COPIED.items():
            shutil.copyfile(_HERE / source, folder / name)
        if "AS" in entry.properties:
            (folder / "_handler.py").write_text(entry.properties["AS"], encoding="utf-8")
        paths = [str(folder), *self._import(entry, session, imports), str(imports)]
        job = {
            "handler": entry.properties["HANDLER"],
            "arguments": list(arguments),
            "connection": dict(connection),
            "paths": paths,
            "answer": str(folder / "answer.json"),
        }
        (folder / "job.json").write_text(json.dumps(job))
        done = subprocess.run(
            [
                *(sys.executable, "-X", f"snowflake_import_directory={imports}{os.sep}"),
                *(str(folder / "main.py"), str(folder / "job.json")),
            ],
            cwd=folder,
            env=self._environment(entry, folder, connection),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        try:
            answer = json.loads((folder / "answer.json").read_text())
        except FileNotFoundError:
            printed = done.stdout.decode(errors="replace").splitlines()[-_LINES:]
            answer = {"error": "\n".join([*printed, f"The process ended with {done.returncode}."])}
        if "error" in answer:
            raise SqlError(
                100357,
                "P0000",
                f"Python Interpreter Error:\n{answer['error'].rstrip()}\n in function "
                f"{entry.name[-1]} with handler {entry.properties['HANDLER']}",
            )
        return answer["value"]

    def _import(self, entry: Entry, session: SqlSession, folder: Path) -> list[str]:
        """Copy what IMPORTS names, and give what of it goes on the module path."""
        found = []
        # The owner reads the imports, as it did when it created the procedure.
        owner = replace(session, role=entry.owner, database=entry.name[0], schema=entry.name[1])
        for reference in entry.properties.get("IMPORTS", ()):
            source = self._stages.file(parse_stage(reference), owner)
            shutil.copyfile(source, folder / source.name)
            if source.suffix in {".zip", ".whl"}:
                found.append(str(folder / source.name))
        return found

    def _environment(
        self, entry: Entry, folder: Path, connection: Mapping[str, Any]
    ) -> dict[str, str]:
        network = [f"{connection['host']}:{connection['port']}"]
        hidden = {
            variable: self._catalog.get(("SECRET", name, None)).properties["SECRET_STRING"]
            for variable, name in entry.properties.get("SECRETS", {}).items()
        }
        for name in entry.properties.get("EXTERNAL_ACCESS_INTEGRATIONS", ()):
            integration = self._catalog.get(("INTEGRATION", name, None))
            if integration.properties["ENABLED"]:
                for rule in integration.properties["ALLOWED_NETWORK_RULES"]:
                    values = self._catalog.get(("NETWORK RULE", rule, None)).properties[
                        "VALUE_LIST"
                    ]
                    network += [v if ":" in v else f"{v}:443" for v in values]
        return {
            # Of the environment nothing but what makes a process run at all.
            **{k: os.environ[k] for k in ("PATH", "LANG", "SYSTEMROOT") if k in os.environ},
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONPATH": str(folder),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
            "GIT_PYTHON_REFRESH": "quiet",
            "SANDBOX_NETWORK": ",".join(network),
            "SANDBOX_SECRETS": json.dumps(hidden),
        }


def check_packages(properties: Mapping[str, Any]) -> None:
    """Look at a procedure's runtime and packages.

    Raises:
        SqlError: There is no such runtime, or a package is not installed here.
    """
    if properties["RUNTIME_VERSION"] not in _RUNTIMES:
        raise compilation(
            f"Unsupported RUNTIME_VERSION '{properties['RUNTIME_VERSION']}' for PYTHON.", 391541
        )
    for requirement in properties["PACKAGES"]:
        name = re.split(r"[=<>!~\[;\s]", requirement, maxsplit=1)[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise compilation(
                f"Cannot create a Python function with the specified packages: {requirement} is "
                f"not available, since {dotted(name)} is not installed here.",
                391546,
            ) from None
