"""MLflow's REST API through the external functions, with MLflow's own errors and entities."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.proto_json_utils import parse_dict

from mlflow_connections_snowflake._calls import JsonObject
from mlflow_connections_snowflake._client import Client
from mlflow_connections_snowflake._errors import MlflowRefusedError

from ._bridge import Bridge
from ._outgoing import RefusedItemsError
from ._sessions import speaking

PAGE = 500
"""Entities a page at most: Snowflake takes a reply of 10 MB."""

_ID = re.compile(r"[\w-]{1,256}")


class Api:
    """Calls through the bridge, in whichever session is the right one now."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Give the typed calls of this package, to nobody else meanwhile."""
        with speaking(self.bridge) as session:
            yield Client(session, self.bridge.functions)

    def post(self, path: str, body: JsonObject) -> JsonObject:
        """POST to a path of MLflow's REST API.

        Raises:
            MlflowException: MLflow refused, with the code that it gave.
            ConnectionsError: MLflow could not be reached.
        """
        given = {key: value for key, value in body.items() if value is not None}
        with mlflow_errors(), self.client() as client:
            return client.call(path, given)

    def pages(self, path: str, body: JsonObject, key: str) -> Iterator[JsonObject]:
        """Give all results of a search, over all its pages."""
        token: str | None = None
        while True:
            page = self.post(path, {"max_results": PAGE, **body, "page_token": token})
            yield from page.get(key, [])
            token = page.get("next_page_token")
            if not token:
                return


def as_mlflow_says(error: MlflowRefusedError) -> MlflowException:
    """Give a refusal as MLflow's own client raises it, so that MLflow knows what to do."""
    exception: MlflowException = RestException({"error_code": error.code, "message": error.message})
    return exception


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Raise refusals as MLflow's own client does."""
    try:
        yield
    except RefusedItemsError as error:
        raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error
    except MlflowRefusedError as error:
        raise as_mlflow_says(error) from error


def entity(kind: Any, message: Any, content: JsonObject) -> Any:
    """Make one of MLflow's entities of what its REST API gave."""
    parse_dict(content, message)
    return kind.from_proto(message)


def checked_id(identifier: object, what: str) -> str:
    """Refuse what cannot be an id: MLflow's filters have no escape for a quote.

    Raises:
        MlflowException: It has other characters than letters, digits, `_` and `-`.
    """
    text = str(identifier)
    if not _ID.fullmatch(text):
        raise MlflowException(f"{text!r} is no id of a {what}.", INVALID_PARAMETER_VALUE)
    return text


def pairs(given: list[Any]) -> list[dict[str, Any]]:
    """Give tags or params as JSON has them."""
    return [{"key": one.key, "value": str(one.value)} for one in given]


def milliseconds(number: object) -> int | None:
    """Give a time as JSON has it; None stays None."""
    return None if number is None else int(str(number))
