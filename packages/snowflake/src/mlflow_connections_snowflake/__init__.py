"""MLflow from inside Snowflake, by external access or by external functions.

The names of this package are loaded on first use: MLflow imports it for every tracking URI.
"""

from typing import TYPE_CHECKING

from mlflow_connections.lazy import lazy_names

if TYPE_CHECKING:
    from ._client import Client, Metric
    from ._config import BridgeConfig, load, read
    from ._errors import BridgeError, MissingFunctionError, MlflowRefusedError
    from ._gateway import openapi
    from ._provision import Finding, Way, apply, check, clean, ways
    from ._session import open_session
    from ._sql import drops, script, statements
    from ._statement import Statement

__all__ = [
    "BridgeConfig",
    "BridgeError",
    "Client",
    "Finding",
    "Metric",
    "MissingFunctionError",
    "MlflowRefusedError",
    "Statement",
    "Way",
    "apply",
    "check",
    "clean",
    "drops",
    "load",
    "open_session",
    "openapi",
    "read",
    "script",
    "statements",
    "ways",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BridgeConfig": "._config",
        "BridgeError": "._errors",
        "Client": "._client",
        "Finding": "._provision",
        "Metric": "._client",
        "MissingFunctionError": "._errors",
        "MlflowRefusedError": "._errors",
        "Statement": "._statement",
        "Way": "._provision",
        "apply": "._provision",
        "check": "._provision",
        "clean": "._provision",
        "drops": "._sql",
        "load": "._config",
        "open_session": "._session",
        "openapi": "._gateway",
        "read": "._config",
        "script": "._sql",
        "statements": "._sql",
        "ways": "._provision",
    },
)
