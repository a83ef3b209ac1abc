"""The one-sentence error for each way in which a call fails."""

import pytest

from mlflow_connections import AccessError, ConnectionsError, UnreachableError
from mlflow_connections_snowflake import BridgeError, MlflowRefusedError
from mlflow_connections_snowflake._errors import MissingFunctionError, explain

_BODY = '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No run \\"x\\" it\'s"}'
_FAILED = "Request failed for external function MLFLOW_F with remote service error: "


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        (
            f"100132 (P0000): {_FAILED}404 '{_BODY}'; requests batch-id:01:1",
            MlflowRefusedError,
            'MLflow refused F: RESOURCE_DOES_NOT_EXIST: No run "x" it\'s',
        ),
        (
            "JavaScript execution error: Error: MLflow bridge: MLflow refused: INVALID_X: bad\nvalue",
            MlflowRefusedError,
            "MLflow refused F: INVALID_X: bad\nvalue",
        ),
        (
            "JavaScript execution error: Uncaught Error: MLflow bridge: run_id is NULL. in F at",
            BridgeError,
            "F: run_id is NULL.",
        ),
        (f'{_FAILED}403 \'{{"message":"Forbidden"}}\'', AccessError, "responded 403"),
        (f"{_FAILED}401 ''", AccessError, "responded 401"),
        (
            f"{_FAILED}404 '<html>no</html>'",
            BridgeError,
            "responded 404 (no): it does not know the path",
        ),
        (f"{_FAILED}503 '<html>down</html>'", UnreachableError, "is down: it responded 503"),
        (f"{_FAILED}429 ''", UnreachableError, "responded 429: too many requests"),
        (f"{_FAILED}400 'x'", BridgeError, "responded 400 (x)"),
        (
            "Request failed for external function F. Error: Error assuming AWS_ROLE. Please verify",
            AccessError,
            "Enter the identity that DESCRIBE INTEGRATION shows into the cloud's trust policy",
        ),
        (
            "Request failed for external function F: Read timed out",
            UnreachableError,
            "did not respond in time",
        ),
        (
            "Request failed for external function F: connection refused",
            UnreachableError,
            "cannot be reached",
        ),
        (
            "Error parsing JSON response for external function: <!DOCTYPE html>",
            UnreachableError,
            "responded with a page instead of MLflow's JSON",
        ),
        (
            "002141 (42601): SQL compilation error:\nUnknown user-defined function DEMO.DEMO.F",
            MissingFunctionError,
            "F does not exist, or this role may not call it. Run `mlflow-snowflake check`",
        ),
        (
            "002003: Object 'DEMO' does not exist or not authorized.",
            MissingFunctionError,
            "does not exist, or this role may not call it",
        ),
        (
            (
                'Request failed for external function F. Error: 401 \'{ "statusCode": 401, '
                '"message": "Invalid JWT." }\''
            ),
            AccessError,
            "responded 401 (Invalid JWT)",
        ),
        (
            "Request failed for external function F. Error: 503 ''",
            UnreachableError,
            "is down: it responded 503",
        ),
        (
            f"{_FAILED}429 '{{}}'; requests batch-id: 01:1; request batch size: 1 rows; request retries: 1",
            UnreachableError,
            "responded 429: too many requests",
        ),
        (f"{_FAILED}400 ''", BridgeError, "responded 400 without a reason"),
        (
            f"{_FAILED}413 '<html><head><title>413</title></head>Request Entity Too Large</html>'",
            BridgeError,
            "responded 413 (Request Entity Too Large): the request is too large",
        ),
        (
            f"{_FAILED}400 '<html><body>Bad header</body></html>'",
            BridgeError,
            "responded 400 (Bad header)",
        ),
        (
            (
                "000606 (57P03): No active warehouse selected in the current session.  Select an active "
                "warehouse with the 'use warehouse' command."
            ),
            BridgeError,
            "F: the session has no active warehouse. Set `warehouse`",
        ),
        (
            (
                "001044 (42P13): SQL compilation error: error line 1 at position 7\n"
                "Invalid argument types for function 'F': (VARCHAR(1), VARCHAR(1))"
            ),
            MissingFunctionError,
            "F does not take these arguments",
        ),
        (
            (
                "JavaScript execution error: Error: MLflow bridge: the gateway responded instead of "
                "MLflow: Forbidden"
            ),
            AccessError,
            "the gateway responded instead of MLflow: Forbidden",
        ),
        ("Warehouse 'W' is suspended.\nResume it.", BridgeError, "F failed: Warehouse 'W' is"),
    ],
)
def test_each_failure_is_one_sentence(
    said: str, kind: type[ConnectionsError], sentence: str
) -> None:
    """Each failure has its own error, with a remedy if there is one."""
    explained = explain(RuntimeError(said), "F")
    assert type(explained) is kind
    assert sentence in str(explained)
    assert "batch-id" not in str(explained)


@pytest.mark.parametrize(
    ("thrown", "sentence"),
    [
        ("MLflow bridge: run_id is NULL.", "F: run_id is NULL."),
        ("MLflow bridge: MLflow refused: X: it is 'so'", "MLflow refused F: X: it is 'so'"),
    ],
)
def test_the_position_in_a_translator_is_omitted(thrown: str, sentence: str) -> None:
    """The position that Snowflake appends to a translator's error does not help the caller."""
    said = (
        f"100132 (P0000): JavaScript execution error: Uncaught Error: {thrown} in MLFLOW_F_REQUEST "
        "at '  throw new Error(\"MLflow bridge: \" + sentence);' position 8\n"
        "stackstrace: \nrefuse line: 6"
    )
    assert str(explain(RuntimeError(said), "F")) == sentence


def test_mlflows_error_is_available_to_programs() -> None:
    """The code and the message of MLflow's refusal are attributes."""
    explained = explain(RuntimeError(f"{_FAILED}400 '{_BODY}'"), "F")
    assert isinstance(explained, MlflowRefusedError)
    assert (explained.code, explained.message) == (
        "RESOURCE_DOES_NOT_EXIST",
        'No run "x" it\'s',
    )
