"""One sentence for each way in which a call through Snowflake fails.

Snowflake wraps whatever went wrong into a SQL error. Its text is the only thing to go by: it holds
the status and the body that the gateway sent, or the message of a translator.
"""

import json
import re

from mlflow_connections import AccessError, ConnectionsError, UnreachableError


class MlflowRefusedError(ConnectionsError):
    """MLflow understood the request and said no.

    Attributes:
        code: MLflow's error code, `RESOURCE_DOES_NOT_EXIST` for one.
        message: MLflow's own message.
    """

    def __init__(self, function: str, code: str, message: str) -> None:
        super().__init__(f"MLflow refused {function}: {code}: {message}")
        self.code = code
        self.message = message


class BridgeError(ConnectionsError, RuntimeError):
    """The bridge in Snowflake is missing, incomplete, or was asked for something impossible."""


# What Snowflake puts behind the message of a JavaScript error: where it was thrown.
_TRACE = re.compile(r" in [^\n]{1,300} at '[^\n]*' position \d+.*", re.DOTALL)
_REFUSED_BY_TRANSLATOR = re.compile(r"MLflow bridge: (?P<sentence>[^\n]+)")
_REFUSED_BY_MLFLOW = re.compile(r"MLflow refused: (?P<code>[A-Z_]+): (?P<message>.*)", re.DOTALL)
_STATUS = re.compile(r"remote service error: (?P<status>\d{3})\b", re.IGNORECASE)
_NOT_TRUSTED = re.compile(
    r"assuming AWS_ROLE|Failed to obtain an? \w+ token|is not authorized to perform", re.IGNORECASE
)
_LATE = re.compile(r"timed? ?out|timeout|did not (?:respond|finish)", re.IGNORECASE)
_TRANSPORT = re.compile(
    r"could not connect|Request failed for external function|connection (refused|reset)",
    re.IGNORECASE,
)
_NOT_JSON = re.compile(r"pars\w+ JSON|not (?:a )?valid JSON|<!doctype html|<html", re.IGNORECASE)
_MISSING = re.compile(
    r"does not exist or not authorized|unknown (user-defined )?function", re.IGNORECASE
)
_CHECK = "Run `mlflow-snowflake check`: it names what is missing, and the statement that mends it."


def explain(error: BaseException, function: str) -> ConnectionsError:
    """Turn what Snowflake raised into the error that says what happened.

    Args:
        error: As Snowpark or the connector raised it.
        function: The name of the function that was called.
    """
    text = _TRACE.sub("", str(getattr(error, "message", None) or error))
    if refusal := _mlflow_refusal(text, function):
        return refusal
    if match := _REFUSED_BY_TRANSLATOR.search(text):
        return BridgeError(f"{function}: {match['sentence'].strip()}")
    if match := _STATUS.search(text):
        return _by_status(int(match["status"]), function)
    if _NOT_TRUSTED.search(text):
        return AccessError(
            f"{function}: the cloud does not know this API integration yet, or any more: "
            "write what DESCRIBE INTEGRATION shows into the cloud's trust policy."
        )
    if _MISSING.search(text):
        return BridgeError(f"{function} is not there, or this role may not call it. {_CHECK}")
    if _LATE.search(text):
        return UnreachableError(f"{function}: the gateway did not answer in time. {_CHECK}")
    if _NOT_JSON.search(text):
        return _html(function)
    if _TRANSPORT.search(text):
        return UnreachableError(f"{function}: the gateway cannot be reached. {_CHECK}")
    return BridgeError(f"{function} failed: {' '.join(text.split())}")


def _by_status(status: int, function: str) -> ConnectionsError:
    if status in {401, 403}:
        return AccessError(
            f"{function}: the gateway or MLflow answered {status}: it does not accept Snowflake's "
            "role, or the MLflow credentials that the gateway adds."
        )
    if status == 404:
        return BridgeError(
            f"{function}: the gateway answered 404: it does not know the path; import the "
            "definition that `mlflow-snowflake gateway` writes."
        )
    if status == 429 or status >= 500:
        return UnreachableError(
            f"{function}: the gateway, or MLflow behind it, is down: it answered {status}."
        )
    return BridgeError(f"{function}: the gateway answered {status} without saying why.")


def _html(function: str) -> ConnectionsError:
    return UnreachableError(
        f"{function}: the gateway answered with a page instead of MLflow's JSON: it is down, or "
        "its URL is not that of MLflow's API."
    )


def _mlflow_refusal(text: str, function: str) -> MlflowRefusedError | None:
    """Find MLflow's own error, whole, wherever Snowflake put it into its message."""
    if match := _REFUSED_BY_MLFLOW.search(text):
        return MlflowRefusedError(function, match["code"], match["message"].strip())
    decoder = json.JSONDecoder()
    for start in (found.start() for found in re.finditer(r'\{\s*\\?"', text)):
        for candidate in (text[start:], text[start:].replace('\\"', '"')):
            try:
                body, _ = decoder.raw_decode(candidate)
            except ValueError:
                continue
            if isinstance(body, dict) and "error_code" in body:
                return MlflowRefusedError(
                    function, str(body["error_code"]), str(body.get("message", "no message"))
                )
    return None
