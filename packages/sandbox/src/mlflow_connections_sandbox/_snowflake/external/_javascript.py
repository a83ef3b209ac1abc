"""Run the body of a JavaScript function: no libraries, no eval, no state between calls."""

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from mlflow_connections_sandbox._snowflake._errors import SqlError

MAX_SOURCE_BYTES = 100_000
"""Snowflake's documentation recommends no more than about 100 KB for a body."""

_TIME_LIMIT = 10
"""The time limit of a call in seconds, so that an endless loop does not block the stand-in."""

_MEMORY_LIMIT = 256 * 1024 * 1024

# As in Snowflake, which has neither eval nor functions built from text.
_PREAMBLE = """
(() => {
  const refuse = function () { throw new EvalError("Code generation from strings disallowed"); };
  const kinds = [
    function () {}, function* () {}, async function () {}, async function* () {},
  ];
  for (const kind of kinds) {
    Object.defineProperty(Object.getPrototypeOf(kind), "constructor", { value: refuse });
  }
  globalThis.Function = refuse;
  globalThis.eval = refuse;
})();
"""


def compile_javascript(body: str, parameters: list[str], name: str) -> None:
    """Check that a text is the body of a function.

    Raises:
        SqlError: It does not compile, or is too long.
    """
    if len(body.encode()) > MAX_SOURCE_BYTES:
        raise SqlError(100132, "P0000", f"JavaScript of {name} is longer than 100 KB.")
    _function(_context(), body, parameters, name)


def run_javascript(body: str, arguments: Mapping[str, Any], name: str) -> Any:
    """Call a function.

    Args:
        body: The text after AS in CREATE FUNCTION.
        arguments: The values by parameter name, which is in upper case unless it was quoted.
        name: The function's name, for errors.

    Returns:
        The JSON form of the result; None for undefined.

    Raises:
        SqlError: It threw, or took too long or too much memory.
    """
    engine = _quickjs()
    # A context belongs to one thread, and costs a third of a millisecond.
    context = _context()
    context.set_memory_limit(_MEMORY_LIMIT)
    context.set_time_limit(_TIME_LIMIT)
    function = _function(context, body, list(arguments), name)
    try:
        result = function(*(context.parse_json(json.dumps(v)) for v in arguments.values()))
        if isinstance(result, engine.Object):
            text = result.json()
            return None if text is None else json.loads(text)
    except (engine.JSException, engine.StackOverflow) as error:
        raise _failed(error, name) from error
    return result


def _quickjs() -> Any:
    # It has no types, and is needed only once a function is created.
    return import_module("quickjs")


def _context() -> Any:
    context = _quickjs().Context()
    context.eval(_PREAMBLE)
    return context


def _function(context: Any, body: str, parameters: list[str], name: str) -> Any:
    try:
        return context.eval(f"(function({', '.join(parameters)}) {{\n{body}\n}})")
    except _quickjs().JSException as error:
        raise _failed(error, name) from error


def _failed(error: Exception, name: str) -> SqlError:
    text = str(error).strip().splitlines()
    return SqlError(
        100132,
        "P0000",
        f"JavaScript execution error: Uncaught {text[0] if text else 'error'} in {name}",
    )
