"""The endpoints for the connector: sessions and queries."""

import asyncio
import base64
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from mlflow_connections_sandbox._snowflake.sql._reader import SqlReader

from ._account import DATABASE, SCHEMA, Forwarded, SnowflakeAccount, Transfer, new_query
from ._errors import SqlError, compilation, unknown_function
from ._fakesnow import Fakesnow, read_json
from ._journal import Statements, masked
from ._results import Rows, status
from ._rewrite import PREFIX, functions_of
from ._session import SqlSession
from ._users import Users

if TYPE_CHECKING:
    from starlette.types import Scope


_log = logging.getLogger(__name__)

_PROMPT = 15.0
"""Seconds until a client is told to poll; it would send a slower statement again."""
_KEPT = 200
"""The number of results that can still be fetched by the ID of their query."""
_IN_PROGRESS = "333334"
FILE_OPERATION = "SANDBOX_FILE_OPERATION"
"""The statement parameter with which a procedure's process marks requests of `session.file`."""
_MISSING_FUNCTION = re.compile(r"Catalog Error: (?:Scalar |Table )?Function with name (\S+)")
_MISSING_TABLE = re.compile(r"Catalog Error: (?:Table|View) with name (\S+)")


class SnowflakeServer:
    """The connector's endpoints.

    Attributes:
        statements: The received statements.
        users: Users and their credentials.
    """

    def __init__(self, account: SnowflakeAccount, statements: Statements, users: Users) -> None:
        self.statements = statements
        self.users = users
        self._account = account
        self._fakesnow = Fakesnow(PREFIX, account.calls.run)
        self._sessions: dict[str, SqlSession] = {}
        self._running: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self._by_request: OrderedDict[str, str] = OrderedDict()
        self._finished: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.app = Starlette(
            routes=[
                Route("/session/v1/login-request", self._login, methods=["POST"]),
                Route("/session", self._leave, methods=["POST"]),
                Route("/session/token-request", self._renew, methods=["POST"]),
                Route("/queries/v1/query-request", self._query, methods=["POST"]),
                Route("/queries/{query}/result", self._result),
                Route("/monitoring/queries/{query}", self._monitoring),
                Route("/telemetry/send", self._telemetry, methods=["POST"]),
                Mount("/", self._fakesnow),
            ]
        )

    def close(self) -> None:
        """Close every session."""
        self._sessions.clear()
        self._fakesnow.close()

    async def _login(self, request: Request) -> Response:
        body = read_json(await request.body(), request.headers.get("content-encoding"))
        data = body["data"]
        ticket = self._account.procedures.tickets.get(str(data.get("PASSWORD", "")))
        if ticket is not None and ticket.user == str(data.get("LOGIN_NAME", "")).upper():
            return await self._open(request, body, replace(ticket))
        try:
            session = self._sign_in(data, request.query_params.get("roleName"))
        except SqlError as error:
            return JSONResponse(_failed(error, ""))
        query = request.query_params
        role = session.role
        place = self._place(
            _stored(query.get("databaseName", "")), _stored(query.get("schemaName", "")), session
        )
        warehouse = query.get("warehouse")
        if warehouse is not None:
            key = ("WAREHOUSE", (_stored(warehouse),), None)
            if self._account.access.holds(role, "USAGE", key):
                session.warehouse = key[1][0]
        return await self._open(request, body, session, place)

    def _sign_in(self, data: Mapping[str, Any], role: str | None) -> SqlSession:
        token = self.users.sign_in(data)
        wanted = token.role or "ACCOUNTADMIN" if role is None else _stored(role)
        if not self._account.access.may_use_role(token.user, wanted) or (
            token.role not in {None, wanted}
        ):
            text = (
                f"Role '{wanted}' specified in the connect string does not exist or not authorized."
            )
            raise SqlError(390189, "08001", text)
        return SqlSession("", token.user, wanted, is_restricted=token.role is not None)

    async def _open(
        self,
        request: Request,
        body: dict[str, Any],
        session: SqlSession,
        place: dict[str, str] | None = None,
    ) -> Response:
        """Open the session in fakesnow as well."""
        if place is None:
            place = self._place(session.database, session.schema, session)
        scope = {**request.scope, "query_string": urlencode(place).encode()}
        code, answer = await self._fakesnow.post(scope, body)
        if code == 200 and answer["success"]:
            session.token = answer["data"]["token"]
            self._sessions[session.token] = session
            # fakesnow sends no master token. Without one the connector cannot log out, and retries
            # for long at exit.
            answer["data"]["masterToken"] = secrets.token_urlsafe(32)
            answer["data"]["sessionInfo"] |= {
                "roleName": session.role,
                "warehouseName": session.warehouse,
            }
        return JSONResponse(answer, code)

    def _place(
        self, database: str | None, schema: str | None, session: SqlSession
    ) -> dict[str, str]:
        """Return the database and schema of a new session: the requested ones, if it may use them."""
        if not database:
            return {}
        session.database = database
        access = self._account.access
        if not access.holds(session.role, "USAGE", ("DATABASE", (session.database,), None)):
            session.database = None
            return {}
        session.schema = schema or "PUBLIC"
        key = ("SCHEMA", (session.database, session.schema), None)
        if not access.holds(session.role, "USAGE", key):
            session.schema = None
            return {"databaseName": session.database}
        return {"databaseName": session.database, "schemaName": session.schema}

    async def _leave(self, request: Request) -> Response:
        if request.query_params.get("delete"):
            self._sessions.pop(_token(request), None)
        return JSONResponse((await self._fakesnow.post(request.scope, {}))[1])

    async def _renew(self, _: Request) -> Response:
        return _refused(390112, "08001", "Your session has expired. Please login again.")

    async def _telemetry(self, _: Request) -> Response:
        return JSONResponse({"success": True, "data": None})

    async def _query(self, request: Request) -> Response:
        session = self._sessions.get(_token(request))
        if session is None:
            return _refused(390104, "08001", "User must login again to access the service.")
        body = read_json(await request.body(), request.headers.get("content-encoding"))
        # A client without a response sends the request again, which must not run twice.
        request_id = request.query_params.get("requestId", "")
        query = self._by_request.get(request_id)
        if query is None:
            query = new_query()
            self._by_request[request_id] = query
            if len(self._by_request) > _KEPT:
                self._by_request.popitem(last=False)
            task = asyncio.create_task(self._recorded(request.scope, session, body, query))
            self._running[query] = task
        return await self._answer(query, 0.0 if body.get("asyncExec") else _PROMPT)

    async def _result(self, request: Request) -> Response:
        return await self._answer(request.path_params["query"], _PROMPT)

    async def _monitoring(self, request: Request) -> Response:
        query = request.path_params["query"]
        if query in self._running:
            state = "RUNNING"
        elif query in self._finished:
            state = "SUCCESS" if self._finished[query]["success"] else "FAILED_WITH_ERROR"
        else:
            return JSONResponse({"data": {"queries": []}, "success": True})
        found = {"id": query, "status": state}
        if state == "FAILED_WITH_ERROR":
            failed = self._finished[query]
            found |= {"errorCode": failed["code"], "errorMessage": failed["message"]}
        return JSONResponse({"data": {"queries": [found]}, "success": True})

    async def _answer(self, query: str, seconds: float) -> Response:
        task = self._running.get(query)
        if task is not None:
            # Shielded: a client that disconnects cancels its request, not its statement.
            await asyncio.wait([asyncio.shield(task)], timeout=seconds)
        if query in self._finished:
            return JSONResponse(self._finished[query])
        if query not in self._running:
            return _refused(709, "02000", f"Statement {query} not found")
        data = {"queryId": query, "getResultUrl": f"/queries/{query}/result", "rowset": []}
        return JSONResponse(
            {
                "success": True,
                "code": _IN_PROGRESS,
                "data": data,
                "message": "Query execution in progress.",
            }
        )

    async def _recorded(
        self, scope: "Scope", session: SqlSession, body: dict[str, Any], query: str
    ) -> dict[str, Any]:
        started = time.monotonic()
        sql, role = body["sqlText"], session.role
        try:
            answer = await self._execute(scope, session, body, query)
        except SqlError as error:
            answer = _failed(error, query)
        except Exception as error:  # noqa: BLE001 - a client must not wait forever
            _log.exception("The stand-in failed at: %s", masked(sql))
            text = f"SQL execution internal error: {type(error).__name__}: {error}"
            answer = _failed(SqlError(603, "XX000", text), query)
        number = 0 if answer["success"] else int(answer["code"])
        self.statements.add(query, role, sql, number, time.monotonic() - started)
        self._finished[query] = answer
        if len(self._finished) > _KEPT:
            self._finished.popitem(last=False)
        self._running.pop(query, None)
        return answer

    async def _execute(
        self, scope: "Scope", session: SqlSession, body: dict[str, Any], query: str
    ) -> dict[str, Any]:
        sql = body["sqlText"]
        scanned = _scanned(sql)
        if scanned in self._finished:
            return self._finished[scanned]
        is_described = bool(body.get("describeOnly"))
        if is_described and _is_own(sql):
            return _done(status(""), session, query)
        outcome = await run_in_threadpool(
            self._account.execute,
            *(sql, session, query, _first_text(body)),
            is_file_operation=FILE_OPERATION in (body.get("parameters") or {}),
            is_described=is_described,
        )
        if isinstance(outcome, Rows):
            return _done(outcome, session, query)
        if isinstance(outcome, Transfer):
            return {"success": True, "data": {**outcome.data, "queryId": query}, "code": None}
        return await self._pass_on(scope, session, body, outcome, query)

    async def _pass_on(
        self,
        scope: "Scope",
        session: SqlSession,
        body: dict[str, Any],
        passed: Forwarded,
        query: str,
    ) -> dict[str, Any]:
        compiled = passed.compiled
        if compiled is not None:
            for call in compiled.calls.values():
                await run_in_threadpool(self._fakesnow.define, len(call.entry.parameters))
        code, answer = await self._fakesnow.post(scope, {**body, "sqlText": passed.sql})
        error = self._account.calls.finish(compiled) if compiled is not None else None
        if error is not None:
            raise error
        if code != 200 or not answer["success"]:
            return self._like_snowflake(passed.sql, code, answer)
        if passed.then is not None:
            passed.then()
        if passed.convert is not None:
            rows = await run_in_threadpool(passed.convert, _rows_of(answer["data"]))
            return _done(rows, session, query)
        data = answer["data"]
        if "finalDatabaseName" in data:
            session.database, session.schema = data["finalDatabaseName"], data["finalSchemaName"]
            data |= {"finalRoleName": session.role, "finalWarehouseName": session.warehouse}
        return answer

    def _like_snowflake(self, sql: str, code: int, answer: dict[str, Any]) -> dict[str, Any]:
        """Replace texts of fakesnow and DuckDB with Snowflake's, if known."""
        message = str(answer.get("message", ""))
        unknown = _MISSING_FUNCTION.search(message)
        called = functions_of(sql)
        name = unknown[1].upper() if unknown else None
        if name is None and code != 200:
            name = next(iter(called.keys() - self._fakesnow.functions()), None)
        if name is not None:
            return _failed(unknown_function(called.get(name, (name,))), "")
        missing = _MISSING_TABLE.search(message)
        if missing:
            text = f"Object '{missing[1].upper()}' does not exist or not authorized."
            return _failed(compilation(text, 2003, "42S02"), "")
        if code != 200:
            # As a statement of fakesnow's server this would be sent over and over.
            return _failed(
                SqlError(2, "0A000", f"Unsupported feature of the stand-in: {message}"), ""
            )
        return answer

    async def prepare(self) -> None:
        """Create the initial database and schemas of an account in fakesnow."""
        for schema in (SCHEMA, "PUBLIC"):
            scope = {
                "type": "http",
                "method": "POST",
                "path": "/session/v1/login-request",
                "headers": [],
                "root_path": "",
                "scheme": "http",
                "http_version": "1.1",
                "query_string": urlencode(
                    {"databaseName": DATABASE, "schemaName": schema}
                ).encode(),
            }
            await self._fakesnow.post(scope, {"data": {"SESSION_PARAMETERS": {}}})


def _token(request: Request) -> str:
    return request.headers.get("authorization", "")[len('Snowflake Token="') : -1]


def _done(rows: Rows, session: SqlSession, query: str) -> dict[str, Any]:
    data = rows.data(query) | {
        "finalDatabaseName": session.database,
        "finalSchemaName": session.schema,
        "finalRoleName": session.role,
        "finalWarehouseName": session.warehouse,
    }
    return {"success": True, "code": None, "message": None, "data": data}


def _failed(error: SqlError, query: str) -> dict[str, Any]:
    code = f"{error.number:06d}"
    data = {"errorCode": code, "sqlState": error.state, "queryId": query}
    return {"success": False, "code": code, "message": error.message, "data": data}


def _rows_of(data: Mapping[str, Any]) -> list[list[Any]]:
    """Return the rows of a query's result, which fakesnow sends as Arrow or as JSON."""
    if not data.get("rowsetBase64"):
        return [list(row) for row in data.get("rowset") or ()]
    import pyarrow as pa  # type: ignore[import-untyped]  # it has no types

    with pa.ipc.open_stream(base64.b64decode(data["rowsetBase64"])) as reader:
        return [list(row.values()) for row in reader.read_all().to_pylist()]


def _refused(number: int, state: str, text: str) -> Response:
    return JSONResponse(_failed(SqlError(number, state, text), ""))


def _is_own(sql: str) -> bool:
    reader = SqlReader(sql)
    return reader.word() in {"CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "CALL", "EXECUTE", "USE"}


def _scanned(sql: str) -> str:
    """Return the ID of the query that `SELECT * FROM TABLE(RESULT_SCAN('…'))` names."""
    reader = SqlReader(sql)
    if (
        reader.accept("SELECT", "*", "FROM", "TABLE", "(", "RESULT_SCAN", "(")
        and reader.is_string()
    ):
        return reader.string()
    return ""


def _first_text(body: dict[str, Any]) -> str | None:
    first = (body.get("bindings") or {}).get("1")
    value = first.get("value") if first else None
    return value if isinstance(value, str) else None


def _stored(name: str) -> str:
    return name[1:-1].replace('""', '"') if name[:1] == '"' else name.upper()
