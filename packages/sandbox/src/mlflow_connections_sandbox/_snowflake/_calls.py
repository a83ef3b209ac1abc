"""Compile queries: replace calls of user-defined functions with calls of DuckDB's functions.

DuckDB has one function for each number of arguments, `_sandbox_call_<n>`. Its first argument is the
ID of the call, which identifies the original function and the context of the statement.
"""

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from mlflow_connections_sandbox._snowflake.external._external_functions import (
    Bound,
    ExternalFunctions,
)
from mlflow_connections_sandbox._snowflake.external._javascript import run_javascript
from mlflow_connections_sandbox._snowflake.objects._catalog import Catalog, CatalogEntry
from mlflow_connections_sandbox._snowflake.objects._privileges import Privileges
from mlflow_connections_sandbox._snowflake.procedures._procedures import Procedures
from mlflow_connections_sandbox._snowflake.sql._reader import SqlReader
from mlflow_connections_sandbox._snowflake.sql._types import from_sql, to_sql
from mlflow_connections_sandbox._snowflake.tasks._task_run import TASK_FUNCTIONS, TaskExecution

from ._errors import Name, SqlError, compilation, does_not_exist, dotted
from ._rewrite import (
    CONTEXT_FUNCTIONS,
    PREFIX,
    called_name,
    context_headers,
    hide_dollars,
    label_columns,
    name_positions,
    rewritten_call,
    session_value,
    task_history,
    whole_call,
)
from ._session import SqlSession

_log = logging.getLogger(__name__)


_OWN = CONTEXT_FUNCTIONS | TASK_FUNCTIONS | {"$", "TASK_HISTORY"}


@dataclass
class Call:
    """One call in one statement.

    Attributes:
        entry: The function.
        session: The session of the statement.
        bound: The additional data for the call of an external function.
        error: The error of the call; DuckDB does not pass it on.
    """

    entry: CatalogEntry
    session: SqlSession
    bound: Bound | None = None
    error: SqlError | None = None


@dataclass(frozen=True)
class Compiled:
    """A query ready for fakesnow, and the calls in it by their ID."""

    sql: str
    calls: Mapping[str, Call]


class Calls:
    """Compiles queries, and answers the calls that DuckDB makes.

    Attributes:
        history: The task runs that TASK_HISTORY returns.
    """

    def __init__(
        self,
        catalog: Catalog,
        access: Privileges,
        external_functions: ExternalFunctions,
        procedures: Procedures,
    ) -> None:
        self._catalog = catalog
        self._access = access
        self._external_functions = external_functions
        self._procedures = procedures
        self.history: list[TaskExecution] = []
        self._pending: dict[str, Call] = {}

    def compile(self, reader: SqlReader, session: SqlSession, query: str) -> Compiled | None:
        """Rewrite a query, or return None if it needs no rewriting.

        Raises:
            SqlError: A function does not exist, may not be called, or does not accept these
                arguments.
        """
        names = {e.name[-1].upper() for e in self._catalog if e.kind in _CALLABLE}
        if not reader.has(_OWN | names):
            return None
        tree = _parsed(reader.sql)
        label_columns(tree)
        return self._compiled(tree, session, query)

    def compile_procedure(self, reader: SqlReader, session: SqlSession, query: str) -> Compiled:
        """Compile CALL into a query, since its arguments may be any expressions.

        Raises:
            SqlError: The procedure does not exist, may not be called, or does not accept these
                arguments.
        """
        reader.expect("CALL")
        tree = _parsed(f"SELECT {reader.rest()}")
        first = tree.expressions[0] if isinstance(tree, exp.Select) else tree
        node = first.find(exp.Anonymous)
        written = called_name(node) if node is not None and whole_call(node) is first else None
        if node is None or written is None:
            raise compilation("syntax error: CALL takes a procedure with its arguments.")
        overloads = self._catalog.overloads("PROCEDURE", session.in_schema(written))
        if not overloads:
            raise compilation(f"Unknown user-defined function {dotted(written)}.", 2141, "42601")
        entry = _overload(overloads, node)
        self._access.require(session, "USAGE", entry.key)
        call_id = uuid.uuid4().hex
        made = rewritten_call(node, entry, call_id)
        tree.set("expressions", [exp.alias_(made, written[-1], quoted=True)])
        call = Call(entry, replace(session))
        return self._compiled(tree, session, query, {call_id: call})

    def _compiled(
        self,
        tree: exp.Expr,
        session: SqlSession,
        query: str,
        given: Mapping[str, Call] = MappingProxyType({}),
    ) -> Compiled:
        runs = [run.row() for run in self.history]

        def known(node: exp.Expr) -> exp.Expr:
            return session_value(task_history(name_positions(node), runs), session)

        tree = tree.transform(known, copy=False)
        calls: dict[str, Call] = dict(given)
        # Rewrite inner calls first: an outer call contains the rewritten ones.
        for node in reversed(list(tree.find_all(exp.Anonymous))):
            call = self._bind(node, session, query)
            if call is not None:
                call_id = uuid.uuid4().hex
                calls[call_id] = call
                made = rewritten_call(node, call.entry, call_id)
                place = whole_call(node)
                if place is tree:
                    tree = made
                else:
                    place.replace(made)
        self._pending.update(calls)
        return Compiled(hide_dollars(tree).sql(dialect="snowflake"), calls)

    def finish(self, compiled: Compiled) -> SqlError | None:
        """Forget the calls of a statement, and return the first error among them, if any."""
        for call_id in compiled.calls:
            self._pending.pop(call_id, None)
        return next((c.error for c in compiled.calls.values() if c.error is not None), None)

    def run(self, call_id: str, columns: Sequence[Sequence[str | None]]) -> list[str | None]:
        """Answer a call of DuckDB: columns of texts in, one column out.

        Raises:
            SqlError: The call failed; the error is kept with the call.
        """
        call = self._pending[call_id]
        try:
            return self._run(call, columns)
        except SqlError as error:
            call.error = call.error or error
            raise
        except Exception as error:
            # Neither DuckDB nor fakesnow passes the exception on.
            text = f"{type(error).__name__}: {error}"
            call.error = SqlError(603, "XX000", f"SQL execution internal error: {text}")
            _log.exception("The stand-in failed in %s", dotted(call.entry.name))
            raise

    def _run(self, call: Call, columns: Sequence[Sequence[str | None]]) -> list[str | None]:
        entry = call.entry
        assert entry.returns is not None  # noqa: S101 - every function has a type
        types = [p.type for p in entry.parameters]
        rows = [
            [
                from_sql(text, kind, native=call.bound is None)
                for text, kind in zip(row, types, strict=True)
            ]
            for row in (zip(*columns, strict=True) if columns else [()])
        ]
        if call.bound is not None:
            values = self._external_functions.call(call.bound, rows)
        elif entry.domain == "PROCEDURE":
            values = [self._procedures.call(entry, row, call.session) for row in rows]
        else:
            names = [p.name for p in entry.parameters]
            body, shown = entry.properties["AS"], dotted(entry.name)
            values = [run_javascript(body, dict(zip(names, r, strict=True)), shown) for r in rows]
        try:
            return [to_sql(value, entry.returns) for value in values]
        except (ValueError, ArithmeticError) as error:
            raise SqlError(
                100351, "22000", f"Function {entry.name[-1]} returned {error}"
            ) from error

    def _bind(self, node: exp.Anonymous, session: SqlSession, query: str) -> Call | None:
        written = called_name(node)
        if written is None or written[-1].startswith(PREFIX):
            return None
        if len(written) == 1 and (session.database is None or session.schema is None):
            return None
        name = session.in_schema(written)
        overloads = self._catalog.overloads("FUNCTION", name)
        if not overloads:
            if len(written) > 1:
                raise compilation(f"Unknown user-defined function {dotted(name)}.", 2141, "42601")
            return None
        entry = _overload(overloads, node)
        try:
            self._access.require(session, "USAGE", entry.key)
        except SqlError as error:
            raise compilation(f"Unknown function {dotted(written)}.", 2140, "42601") from error
        bound = self.bind(entry, session, query) if entry.kind == "EXTERNAL FUNCTION" else None
        return Call(entry, replace(session), bound)

    def bind(self, entry: CatalogEntry, session: SqlSession, query: str) -> Bound:
        """Return the additional data for the call of an external function.

        Raises:
            SqlError: Its integration or a translator no longer exists.
        """
        name = entry.properties["API_INTEGRATION"]
        integration = self._catalog.find(("INTEGRATION", name, None))
        if integration is None or not integration.properties["ENABLED"]:
            raise does_not_exist("INTEGRATION", name)
        return Bound(
            entry,
            integration,
            self._translator(entry, "REQUEST_TRANSLATOR"),
            self._translator(entry, "RESPONSE_TRANSLATOR"),
            query,
            context_headers(entry, session),
        )

    def _translator(self, entry: CatalogEntry, clause: str) -> CatalogEntry | None:
        name: Name | None = entry.properties.get(clause)
        return None if name is None else self._catalog.get(("FUNCTION", name, ("OBJECT",)))


_CALLABLE = ("FUNCTION", "EXTERNAL FUNCTION")


def _overload(overloads: list[CatalogEntry], node: exp.Anonymous) -> CatalogEntry:
    """Return the overload with this number of arguments; their types are not known yet."""
    arguments = node.expressions
    fitting = [e for e in overloads if len(e.parameters) == len(arguments)]
    if len(fitting) != 1:
        raise compilation(
            f"Invalid argument types for function '{overloads[0].name[-1]}': it takes "
            f"{' or '.join(str(len(e.parameters)) for e in overloads)} arguments, "
            f"not {len(arguments)}.",
            1044,
        )
    for argument, parameter in zip(arguments, fitting[0].parameters, strict=True):
        is_text = isinstance(argument, exp.Placeholder | exp.Parameter) or (
            isinstance(argument, exp.Literal) and argument.is_string
        )
        if is_text and parameter.type.name in {"OBJECT", "ARRAY"}:
            raise compilation(
                f"Invalid argument types for function '{fitting[0].name[-1]}': a text where "
                f"{parameter.name} is an {parameter.type.name}; PARSE_JSON makes one of it.",
                1044,
            )
    return fitting[0]


def _parsed(sql: str) -> exp.Expr:
    try:
        return sqlglot.parse_one(sql, read="snowflake")
    except SqlglotError as error:
        raise compilation(f"syntax error: {error}") from error
