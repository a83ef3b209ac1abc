"""fakesnow's server, unmodified, called over ASGI, with functions added to its DuckDB."""

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
    """An instance of fakesnow, independent of other instances in the same process."""

    def __init__(self, prefix: str, answer: "Answer") -> None:
        """Load fakesnow.

        Args:
            prefix: The prefix of the names of DuckDB's functions, before the number of arguments.
            answer: Called by DuckDB with the first argument and the other columns.
        """
        self._module = _load()
        self._prefix = prefix
        self._answer = answer
        self._arities: set[int] = set()
        self._lock = threading.Lock()

    def define(self, arity: int) -> None:
        """Define a function of this many arguments, in addition to the ID of the call."""
        import pyarrow as pa  # type: ignore[import-untyped]  # it has no types

        with self._lock:
            if arity in self._arities:
                return

            def function(*columns: Any) -> Any:
                calls, *arguments = [column.to_pylist() for column in columns]
                if arguments:
                    values = self._answer(calls[0], arguments)
                else:
                    # Without arguments only the number of rows is known.
                    values = [self._answer(call, [])[0] for call in calls]
                return pa.array(values, pa.string())

            # DuckDB counts parameters, and would count `*columns` as one.
            names = [Parameter(f"p{i}", Parameter.POSITIONAL_ONLY) for i in range(arity + 1)]
            function.__signature__ = Signature(names)  # type: ignore[attr-defined]  # any function has it
            self._module.shared_fs.duck_conn.create_function(
                f"{self._prefix}{arity}",
                function,
                ["VARCHAR"] * (arity + 1),
                "VARCHAR",
                type="arrow",
                null_handling="special",
                # Called for each row, as in Snowflake, and never when a query is only compiled.
                side_effects=True,
            )
            self._arities.add(arity)

    def functions(self) -> set[str]:
        """Return the names of all DuckDB functions, in upper case."""
        cursor = self._module.shared_fs.duck_conn.cursor()
        rows = cursor.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
        return {str(name).upper() for (name,) in rows}

    async def post(self, scope: "Scope", body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Forward a request with another body, and return the status and body of the response."""
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
        """Forward a request unchanged."""
        await self._module.app(scope, receive, send)

    def close(self) -> None:
        """Close all sessions, then their database."""
        for connection in self._module.sessions.values():
            connection.close()
        self._module.sessions.clear()
        self._module.shared_fs.duck_conn.close()
        self._arities.clear()


def read_json(body: bytes, encoding: str | None) -> dict[str, Any]:
    """Parse the body of a request, which the connector compresses."""
    found: dict[str, Any] = json.loads(gzip.decompress(body) if encoding == "gzip" else body)
    return found


def _load() -> ModuleType:
    """Return a new instance of fakesnow's server module, whose globals are its database and sessions."""
    import fakesnow.server

    # It logs every statement with its secrets.
    logging.getLogger("fakesnow.server").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API", module="fakesnow")
    spec = find_spec(fakesnow.server.__name__)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it was just imported
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    logging.getLogger("fakesnow.server").setLevel(logging.CRITICAL)
    return module
