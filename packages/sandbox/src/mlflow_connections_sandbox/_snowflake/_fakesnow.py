"""fakesnow's server, unmodified, as the stand-in talks to it: over ASGI, with functions in its DuckDB."""

import gzip
import json
import logging
import threading
import warnings
from importlib.util import find_spec, module_from_spec
from inspect import Parameter, Signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Message, Receive, Scope, Send


if TYPE_CHECKING:
    Answer = Callable[[str, Sequence[Sequence[str | None]]], list[str | None]]


class Fakesnow:
    """A fakesnow of its own: nothing is shared with another one in the same process."""

    def __init__(self, prefix: str, answer: "Answer") -> None:
        """Load it.

        Args:
            prefix: What DuckDB's functions are called, before the number of arguments.
            answer: Called by DuckDB with the first argument and the other columns.
        """
        self._module = _load()
        self._prefix = prefix
        self._answer = answer
        self._arities: set[int] = set()
        self._lock = threading.Lock()

    def define(self, arity: int) -> None:
        """Have a function of so many arguments, besides the call's id."""
        import pyarrow as pa  # type: ignore[import-untyped]  # it has no types

        with self._lock:
            if arity in self._arities:
                return

            def function(*columns: Any) -> Any:
                calls, *arguments = [column.to_pylist() for column in columns]
                if arguments:
                    values = self._answer(calls[0], arguments)
                else:
                    # Without arguments there is nothing that tells rows apart but their number.
                    values = [self._answer(call, [])[0] for call in calls]
                return pa.array(values, pa.string())

            # DuckDB counts parameters, and takes those after a star for one.
            names = [Parameter(f"p{i}", Parameter.POSITIONAL_ONLY) for i in range(arity + 1)]
            function.__signature__ = Signature(names)  # type: ignore[attr-defined]  # any function has it
            self._module.shared_fs.duck_conn.create_function(
                f"{self._prefix}{arity}",
                function,
                ["VARCHAR"] * (arity + 1),
                "VARCHAR",
                type="arrow",
                null_handling="special",
                # Called for each row, as Snowflake does, and never when a query is only compiled.
                side_effects=True,
            )
            self._arities.add(arity)

    def functions(self) -> set[str]:
        """Return the names of all functions that DuckDB has, in upper case."""
        cursor = self._module.shared_fs.duck_conn.cursor()
        rows = cursor.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
        return {str(name).upper() for (name,) in rows}

    async def post(self, scope: "Scope", body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send a request on with another body, and give the status and body of the answer."""
        payload = json.dumps(body).encode()
        headers = [
            (k, v)
            for k, v in scope["headers"]
            if k not in {b"content-encoding", b"content-length", b"accept-encoding"}
        ]
        headers.append((b"content-length", str(len(payload)).encode()))
        status, content = 500, bytearray()

        async def receive() -> "Message":
            return {"type": "http.request", "body": payload, "more_body": False}

        async def send(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                content.extend(message.get("body", b""))

        await self._module.app({**scope, "headers": headers}, receive, send)
        answer: dict[str, Any] = json.loads(content)
        return status, answer

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass a request on as it is."""
        await self._module.app(scope, receive, send)

    def close(self) -> None:
        """Close the sessions before the database that they are part of."""
        for connection in self._module.sessions.values():
            connection.close()
        self._module.sessions.clear()
        self._module.shared_fs.duck_conn.close()
        self._arities.clear()


def read_json(body: bytes, encoding: str | None) -> dict[str, Any]:
    """Read a request's body; the connector compresses it."""
    found: dict[str, Any] = json.loads(gzip.decompress(body) if encoding == "gzip" else body)
    return found


def _load() -> ModuleType:
    """Execute fakesnow's server module anew: its database and sessions are the module's globals."""
    import fakesnow.server

    # It logs every statement, with whatever secret is in it.
    logging.getLogger("fakesnow.server").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API", module="fakesnow")
    spec = find_spec(fakesnow.server.__name__)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it was just imported
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    logging.getLogger("fakesnow.server").setLevel(logging.CRITICAL)
    return module
