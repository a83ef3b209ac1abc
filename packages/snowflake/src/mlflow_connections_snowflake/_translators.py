"""The translators' JavaScript, as the generator puts it into statements."""

import json
from functools import cache
from importlib.resources import files

from mlflow_connections import InvalidOptionError

from ._functions import CALL_PATHS

RESPONSE = "response"
"""The one translator that turns MLflow's reply into rows, for every function."""


@cache
def source(key: str) -> str:
    """Give the body of a translator's UDF.

    A UDF can import nothing, so the helpers stand before each request translator.

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
        raise InvalidOptionError(f"The translator {key}.js holds $$, which ends it in SQL.")
    # Snowflake stores an argument's name in upper case, and so the script sees it.
    return f"{body}\nreturn {call}(EVENT);\n"
