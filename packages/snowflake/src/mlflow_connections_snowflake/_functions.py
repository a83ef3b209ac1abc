"""The catalogue of external functions: their arguments, endpoints and translators."""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from mlflow_connections import InvalidOptionError

API_PATH = "/api/2.0/mlflow/"
"""The path of MLflow's REST API; the only prefix that is allowed."""


CALL_PATHS = (
    "experiments/create",
    "experiments/search",
    "experiments/set-experiment-tag",
    "logged-models",
    "logged-models/search",
    "model-versions/create",
    "registered-models/create",
    "runs/create",
    "runs/delete",
    "runs/delete-tag",
    "runs/log-batch",
    "runs/log-inputs",
    "runs/log-metric",
    "runs/log-model",
    "runs/log-parameter",
    "runs/outputs",
    "runs/search",
    "runs/set-tag",
    "runs/update",
)
"""The paths that the function `call` may reach. All can be undone: a deleted run can be restored."""


class Function(NamedTuple):
    """One external function, which may have several signatures.

    Attributes:
        key: Its key under `mlflow.functions`, and the name of its request translator's file.
        endpoint: Its path below `API_PATH`; empty if the translator chooses it for each row.
        arguments: All arguments and their SQL types, in order.
        required: The number of arguments of the shorter signature.
        rows: The most rows that Snowflake may put into one request.
        specified: Whether the specification requires it.
        comment: Its comment in Snowflake, one line.
    """

    key: str
    endpoint: str
    arguments: tuple[tuple[str, str], ...]
    required: int
    comment: str
    rows: int = 1
    specified: bool = False

    @property
    def default_name(self) -> str:
        """The object's name if the configuration has none."""
        return f"MLFLOW_{self.key.upper()}"

    @property
    def signatures(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The argument lists to create: the required arguments, and all of them."""
        short = self.arguments[: self.required]
        return (short,) if short == self.arguments else (short, self.arguments)


_RUN = ("run_id", "VARCHAR")
_KEY = ("key", "VARCHAR")
_TEXT = ("value", "VARCHAR")
_NUMBER = ("value", "FLOAT")
_TIMES = (("timestamp_ms", "NUMBER"), ("step", "NUMBER"))

FUNCTIONS: tuple[Function, ...] = (
    Function(
        "experiment_get_by_name",
        "experiments/search",
        (("experiment_name", "VARCHAR"),),
        1,
        "The active experiment of this name, as body.experiments[0].",
        specified=True,
    ),
    Function(
        "run_create",
        "runs/create",
        (
            ("experiment_id", "VARCHAR"),
            ("run_name", "VARCHAR"),
            ("start_time_ms", "NUMBER"),
            ("tags", "VARIANT"),
        ),
        1,
        "A new run, as body.run; times are milliseconds since 1970.",
        specified=True,
    ),
    Function(
        "run_update",
        "runs/update",
        (_RUN, ("status", "VARCHAR"), ("end_time_ms", "NUMBER")),
        2,
        "Sets a run's status: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED.",
        specified=True,
    ),
    Function(
        "run_log_metric",
        "runs/log-metric",
        (_RUN, _KEY, _NUMBER, *_TIMES),
        3,
        "Logs one metric.",
        specified=True,
    ),
    Function(
        "run_log_parameter",
        "runs/log-parameter",
        (_RUN, _KEY, _TEXT),
        3,
        "Logs one parameter.",
        specified=True,
    ),
    Function(
        "run_log_metrics",
        "runs/log-batch",
        (_RUN, _KEY, _NUMBER, *_TIMES),
        5,
        "Logs the metrics of many rows of one run, up to 1000 a request.",
        rows=1000,
    ),
    Function(
        "run_log_batch",
        "runs/log-batch",
        (_RUN, ("payload", "VARIANT")),
        2,
        "Logs an object of metrics, params and tags in one request.",
    ),
    Function("run_set_tag", "runs/set-tag", (_RUN, _KEY, _TEXT), 3, "Sets one tag of a run."),
    Function(
        "run_search",
        "runs/search",
        (
            ("experiment_ids", "VARIANT"),
            ("filter", "VARCHAR"),
            ("max_results", "NUMBER"),
            ("order_by", "VARIANT"),
            ("page_token", "VARCHAR"),
        ),
        2,
        "The active runs that match a filter, as body.runs.",
    ),
    Function(
        "call",
        "",
        (("path", "VARCHAR"), ("body", "VARIANT")),
        2,
        "Any other POST that its request translator allows.",
    ),
)
"""All functions, in the order in which they are created and listed."""

BY_KEY = {function.key: function for function in FUNCTIONS}


RESPONSE = "response"
"""The translator that turns MLflow's reply into rows, shared by all functions."""


@cache
def source(key: str) -> str:
    """Read the body of a translator's UDF.

    A UDF can import nothing, so each request translator includes the helpers.

    Args:
        key: A function's key, or `RESPONSE`.
    """
    folder = files(__package__) / "translators"
    own = (folder / f"{key}.js").read_text(encoding="utf-8")
    if key == RESPONSE:
        body, call = own, "response"
    else:
        if key == "call":
            own = f"const PATHS = {json.dumps(CALL_PATHS, indent=2)};\n\n{own}"
        body = (folder / "_common.js").read_text(encoding="utf-8") + "\n" + own
        call = "request"
    if "$$" in body:
        raise InvalidOptionError(f"The translator {key}.js contains $$, which ends it in SQL.")
    # Snowflake stores an argument's name in upper case, and the script sees that name.
    return f"{body}\nreturn {call}(EVENT);\n"
