"""Rewrite the tree of a query: replace features that fakesnow lacks."""

from collections.abc import Sequence
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from mlflow_connections_sandbox._snowflake.objects._catalog import CatalogEntry
from mlflow_connections_sandbox._snowflake.sql._types import SEMI_STRUCTURED, SqlType
from mlflow_connections_sandbox._snowflake.tasks._task_run import HISTORY_COLUMNS, TASK_FUNCTIONS

from ._errors import Name, SqlError
from ._session import SqlSession

PREFIX = "_SANDBOX_CALL_"
"""The prefix of DuckDB's functions, before the number of arguments."""

CONTEXT_FUNCTIONS = frozenset(
    ("CURRENT_ROLE", "CURRENT_USER", "CURRENT_ACCOUNT", "CURRENT_REGION", "CURRENT_WAREHOUSE")
)


def rewritten_call(node: exp.Anonymous, entry: CatalogEntry, call_id: str) -> exp.Expr:
    """Return a call of DuckDB's function that replaces a call, cast to the declared type."""
    arguments = [
        _as_text(argument, parameter.type)
        for argument, parameter in zip(node.expressions, entry.parameters, strict=True)
    ]
    call: exp.Expr = exp.Anonymous(
        this=f"{PREFIX}{len(arguments)}",
        expressions=[exp.Literal.string(call_id), *arguments],
    )
    returns = entry.returns
    if returns is None or returns.name == "VARCHAR":
        return call
    if returns.name in SEMI_STRUCTURED:
        return exp.ParseJSON(this=call)
    return exp.cast(call, exp.DataType.build(returns.shown, dialect="snowflake"))


def _as_text(argument: exp.Expr, kind: SqlType) -> exp.Expr:
    inner = argument.copy()
    if kind.name in SEMI_STRUCTURED:
        inner = exp.Anonymous(this="TO_VARIANT", expressions=[inner])
    return exp.Cast(this=inner, to=exp.DataType.build("VARCHAR", dialect="snowflake"))


def called_name(node: exp.Anonymous) -> Name | None:
    """Return the stored name of a called function, with its database and schema if written."""
    parts = [_part(node.this)]
    place: exp.Expr = node
    while isinstance(place.parent, exp.Dot) and place.parent.expression is place:
        place = place.parent
        before = place.this
        parts = [*(_part(p) for p in _dots(before)), *parts]
    return tuple(parts) if len(parts) <= 3 else None


def _dots(node: exp.Expr) -> list[Any]:
    if isinstance(node, exp.Dot):
        return [*_dots(node.this), node.expression]
    return [node]


def _part(node: Any) -> str:
    if isinstance(node, exp.Identifier):
        return str(node.this) if node.quoted else str(node.this).upper()
    if isinstance(node, exp.Column):
        return _part(node.this)
    return str(node).upper()


def functions_of(sql: str) -> dict[str, Name]:
    """Return the functions in a statement that sqlglot does not know: the name, and the original text."""
    try:
        tree = sqlglot.parse_one(sql, read="snowflake")
    except SqlglotError:
        return {}
    called = ((node, called_name(node)) for node in tree.find_all(exp.Anonymous))
    return {node.name.upper(): name for node, name in called if name is not None}


def whole_call(node: exp.Anonymous) -> exp.Expr:
    """Return the node of a call together with the database and schema before it."""
    place: exp.Expr = node
    while isinstance(place.parent, exp.Dot) and place.parent.expression is place:
        place = place.parent
    return place


def session_value(node: exp.Expr, session: SqlSession) -> exp.Expr:
    """Replace a context or task function with its value.

    Raises:
        SqlError: A task's function is called outside of a task, or with an expression.
    """
    if isinstance(node, exp.Anonymous) and node.name.upper() in TASK_FUNCTIONS:
        return _task_value(node, session)
    name = node.name.upper() if isinstance(node, exp.Anonymous) else ""
    if isinstance(node, exp.Func) and not name:
        name = node.sql_name()
    if name not in CONTEXT_FUNCTIONS or getattr(node, "expressions", None):
        return node
    value = context_value(name, session)
    return exp.Null() if value is None else exp.Literal.string(value)


def context_value(name: str, session: SqlSession) -> str | None:
    """Return the value of a context function."""
    return {
        "CURRENT_ROLE": session.role,
        "CURRENT_USER": session.user,
        "CURRENT_ACCOUNT": "SANDBOX",
        "CURRENT_REGION": "AWS_EU_CENTRAL_1",
        "CURRENT_WAREHOUSE": session.warehouse,
        "CURRENT_DATABASE": session.database,
        "CURRENT_SCHEMA": session.schema,
    }.get(name)


def context_headers(entry: CatalogEntry, session: SqlSession) -> dict[str, str]:
    """Return the headers for the CONTEXT_HEADERS of a function."""
    found = {}
    for name in entry.properties.get("CONTEXT_HEADERS", ()):
        value = context_value(name, session)
        found[f"sf-context-{name.lower().replace('_', '-')}"] = value or ""
    return found


def hide_dollars(tree: exp.Expr) -> exp.Expr:
    """Split strings at dollar signs, which fakesnow would read as variables."""

    def split(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Literal) and node.is_string and "$" in node.this:
            pieces: list[exp.Expr] = []
            for index, piece in enumerate(node.this.split("$")):
                if index:
                    pieces.append(exp.Chr(expressions=[exp.Literal.number(36)]))
                pieces.append(exp.Literal.string(piece))
            made = pieces[0]
            for piece_node in pieces[1:]:
                made = exp.DPipe(this=made, expression=piece_node, safe=True)
            return exp.Paren(this=made)
        return node

    return tree.transform(split, copy=False)


def label_columns(tree: exp.Expr) -> None:
    """Name the columns of a query by their original text in upper case."""
    if isinstance(tree, exp.Select):
        for node in list(tree.expressions):
            if not isinstance(node, exp.Alias | exp.Column | exp.Star) and not node.is_star:
                # fakesnow would read a dollar sign as a variable.
                text = node.sql(dialect="snowflake").upper().replace("$", "")
                node.replace(exp.alias_(node.copy(), text, quoted=True))


def name_positions(node: exp.Expr) -> exp.Expr:
    """Replace `$1` of VALUES with the name of the first column."""
    if isinstance(node, exp.Parameter) and isinstance(node.this, exp.Literal):
        select = node.find_ancestor(exp.Select)
        source = select.args.get("from_") if select is not None else None
        if source is not None and isinstance(source.this, exp.Values):
            return exp.column(f"COLUMN{node.this.this}")
    return node


def task_history(node: exp.Expr, rows: Sequence[Sequence[str | None]]) -> exp.Expr:
    """Replace `TABLE(INFORMATION_SCHEMA.TASK_HISTORY(…))` with the runs of tasks."""
    if not isinstance(node, exp.TableFromRows):
        return node
    called = node.find(exp.Anonymous)
    if called is None or (called_name(called) or ("",))[-1] != "TASK_HISTORY":
        return node
    wanted = _task_name(called)
    kept = [row for row in rows if wanted is None or row[1] == wanted]
    # One more row, of no task, gives an empty history its columns.
    tuples = [_history_row(row) for row in (*kept, [None] * len(HISTORY_COLUMNS))]
    names = [exp.to_identifier(f"C{i}") for i in range(len(HISTORY_COLUMNS))]
    values = exp.Values(
        expressions=tuples, alias=exp.TableAlias(this=exp.to_identifier("V"), columns=names)
    )
    columns = [
        exp.alias_(exp.cast(exp.column(f"C{i}"), _kind(name), dialect="snowflake"), name)
        for i, name in enumerate(HISTORY_COLUMNS)
    ]
    filtered = exp.select(*columns).from_(values).where("C1 IS NOT NULL")
    alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier("TASK_HISTORY"))
    return exp.Subquery(this=filtered, alias=alias.copy())


def _history_row(row: Sequence[str | None]) -> exp.Tuple:
    values = [exp.Null() if value is None else exp.Literal.string(value) for value in row]
    return exp.Tuple(expressions=values)


def _kind(column: str) -> str:
    """Return the type of a column of TASK_HISTORY."""
    if column.endswith("_TIME"):
        return "TIMESTAMP_NTZ"
    return "NUMBER" if column in {"ERROR_CODE", "ATTEMPT_NUMBER"} else "VARCHAR"


def _task_name(called: exp.Anonymous) -> str | None:
    for argument in called.expressions:
        if isinstance(argument, exp.Kwarg) and argument.this.name.upper() == "TASK_NAME":
            return str(argument.expression.name).rpartition(".")[2].upper()
    return None


def _task_value(node: exp.Anonymous, session: SqlSession) -> exp.Expr:
    name = node.name.upper()
    if session.task is None:
        raise SqlError(91100, "22000", f"Function {name} must be called from within a task.")
    if not all(isinstance(a, exp.Literal) for a in node.expressions):
        raise SqlError(1015, "42601", f"The arguments of {name} have to be constants.")
    value = session.task.answer(name, [a.name for a in node.expressions])
    return exp.Null() if value is None else exp.Literal.string(value)
