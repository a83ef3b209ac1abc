"""Turn Snowflake's errors into errors that name the fault, the place and the remedy.

Snowflake wraps every failure of an external function into a SQL error, whose text is the only
evidence. It contains the status and the body that the gateway sent, or the message of a translator.
"""

import json
import re

from mlflow_connections import AccessError, ConnectionsError, UnreachableError


class MlflowRefusedError(ConnectionsError):
    """MLflow understood the request and refused it.

    Attributes:
        code: MLflow's error code, such as `RESOURCE_DOES_NOT_EXIST`.
        message: MLflow's own message.
    """

    def __init__(self, function: str, code: str, message: str) -> None:
        super().__init__(f"MLflow refused {function}: {code}: {message}")
        self.code = code
        self.message = message


class BridgeError(ConnectionsError, RuntimeError):
    """The bridge in Snowflake is missing or incomplete, or cannot do this."""


class MissingFunctionError(BridgeError):
    """The account does not have an external function, or not with the given arguments."""


# Snowflake appends the place of a JavaScript error to its message.
_TRACE = re.compile(r" in [^\n]{1,300} at '[^\n]*' position \d+.*", re.DOTALL)
_REFUSED_BY_TRANSLATOR = re.compile(r"MLflow bridge: (?P<sentence>[^\n]+)")
_REFUSED_BY_MLFLOW = re.compile(r"MLflow refused: (?P<code>[A-Z_]+): (?P<message>.*)", re.DOTALL)
# With "remote service" in front the backend responded, without it the gateway itself:
# https://docs.snowflake.com/en/sql-reference/external-functions-troubleshooting
_STATUS = re.compile(
    r"(?:remote service error|external function\s[^\n]*?\.?\s*error):\s*(?P<status>[1-5]\d{2})\b(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_BODY = re.compile(
    r"\s*'(?P<body>.*?)'\s*(?:;\s*requests? batch.*|\.?\s*)\Z", re.DOTALL | re.IGNORECASE
)
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
_OTHER_ARGUMENTS = re.compile(
    r"invalid argument types for function|(?:too many|not enough) arguments for function",
    re.IGNORECASE,
)
_NO_WAREHOUSE = re.compile(r"no active warehouse|active warehouse is required", re.IGNORECASE)
_UNSUPPORTED = re.compile(r"unsupported statement type", re.IGNORECASE)
_DENIED = re.compile(r"forbidden|unauthori[sz]ed|denied|authentication|api key", re.IGNORECASE)
_LONGEST = 200
_CHECK = "Run `mlflow-snowflake check`: it names what is missing and the statement that adds it."


def message_of(error: BaseException) -> str:
    """Return the message of an error of Snowflake's clients, on one line."""
    return " ".join(str(getattr(error, "message", None) or error).split())


def is_unsupported_statement(error: BaseException) -> bool:
    """Return whether Snowflake refused a kind of statement, as it does under owner's rights (090236)."""
    return _UNSUPPORTED.search(message_of(error)) is not None


def explain(error: BaseException, function: str, *, check: str = _CHECK) -> ConnectionsError:
    """Return the error that explains a failed call.

    Args:
        error: The error of Snowpark or the connector.
        function: The name of the external function.
        check: The advice if something may be missing; empty inside `mlflow-snowflake check`.
    """
    text = _TRACE.sub("", str(getattr(error, "message", None) or error))
    advice = f" {check}" if check else ""
    if refusal := _mlflow_refusal(text, function):
        return refusal
    if match := _REFUSED_BY_TRANSLATOR.search(text):
        return _by_translator(match["sentence"].strip(), function)
    if match := _STATUS.search(text):
        return _by_status(int(match["status"]), match["rest"], function)
    return _by_text(text, function, advice)


def _by_text(text: str, function: str, advice: str) -> ConnectionsError:
    if _NOT_TRUSTED.search(text):
        return AccessError(
            f"{function}: the cloud does not trust this API integration. Enter the identity that "
            "DESCRIBE INTEGRATION shows into the cloud's trust policy."
        )
    if _NO_WAREHOUSE.search(text):
        return BridgeError(
            f"{function}: the session has no active warehouse. Set `warehouse` in the connection "
            "(SNOWFLAKE_WAREHOUSE), or give the user a default warehouse."
        )
    if _MISSING.search(text):
        return MissingFunctionError(
            f"{function} does not exist, or this role may not call it.{advice}"
        )
    if _OTHER_ARGUMENTS.search(text):
        return MissingFunctionError(f"{function} does not take these arguments.{advice}")
    if _LATE.search(text):
        return UnreachableError(f"{function}: the gateway did not respond in time.{advice}")
    if _NOT_JSON.search(text):
        return UnreachableError(
            f"{function}: the gateway responded with a page instead of MLflow's JSON. It is down, "
            "or its URL is not that of MLflow's API."
        )
    if _TRANSPORT.search(text):
        return UnreachableError(f"{function}: the gateway cannot be reached.{advice}")
    return BridgeError(f"{function} failed: {' '.join(text.split())}")


def gateway_reply(function: str, body: object) -> ConnectionsError:
    """Return the error for a reply that is not MLflow's, although its status was 200."""
    message = body.get("message") or body.get("Message") if isinstance(body, dict) else None
    said = f"{message}" if message else f"{json.dumps(body)}"[:_LONGEST]
    text = f"{function}: the gateway responded 200 without MLflow's reply: {said}."
    if message and _DENIED.search(str(message)):
        return AccessError(f"{text} Check the gateway's policy, and its API key if it needs one.")
    return BridgeError(f"{text} Check that the gateway passes requests on to MLflow.")


def _by_translator(sentence: str, function: str) -> ConnectionsError:
    if sentence.startswith("the gateway responded") and _DENIED.search(sentence):
        return AccessError(f"{function}: {sentence}")
    return BridgeError(f"{function}: {sentence}")


def _by_status(status: int, rest: str, function: str) -> ConnectionsError:
    said = _excerpt(rest)
    shown = f"{status} ({said})" if said else str(status)
    if status in {401, 403}:
        return AccessError(
            f"{function}: the gateway or MLflow responded {shown}: it does not accept Snowflake's "
            "role, or the MLflow credentials that the gateway adds."
        )
    if status == 404:
        return BridgeError(
            f"{function}: the gateway responded {shown}: it does not know the path. Import the "
            "definition that `mlflow-snowflake gateway` writes."
        )
    if status == 413:
        return BridgeError(
            f"{function}: the gateway responded {shown}: the request is too large for it. Raise "
            "its limit to 1 MB, or log smaller values."
        )
    if status == 429:
        return UnreachableError(
            f"{function}: the gateway responded {shown}: too many requests, also after Snowflake's "
            "retries. Raise the gateway's limit, or log fewer values singly."
        )
    if status >= 500:
        return UnreachableError(
            f"{function}: the gateway, or MLflow behind it, is down: it responded {shown}."
        )
    if said:
        return BridgeError(f"{function}: the gateway responded {shown}.")
    return BridgeError(f"{function}: the gateway responded {status} without a reason.")


def _excerpt(body: str) -> str:
    """Return the first words of a response, without its markup and its quotes."""
    quoted = _BODY.match(body)
    text = (quoted["body"] if quoted else body).strip().strip("'\" ")
    try:
        parsed = json.loads(text)
    except ValueError:
        text = re.sub(r"<(style|script|head)\b.*?</\1>", " ", text, flags=re.DOTALL | re.IGNORECASE)
        text = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    else:
        text = str(parsed.get("message") or "") if isinstance(parsed, dict) else ""
    return text.rstrip(".'\"")[:_LONGEST]


def _mlflow_refusal(text: str, function: str) -> MlflowRefusedError | None:
    """Find MLflow's own complete error, wherever Snowflake put it in its message."""
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
