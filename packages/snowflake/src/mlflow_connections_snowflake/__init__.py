"""MLflow from inside Snowflake, through external functions that one command sets up."""

from ._apply import apply
from ._check import Finding, check
from ._client import Client, Metric
from ._errors import BridgeError, MlflowRefusedError
from ._gateway import openapi
from ._session import open_session
from ._setup import Setup, load, read
from ._sql import drops, script, statements
from ._statement import Statement

__all__ = [
    "BridgeError",
    "Client",
    "Finding",
    "Metric",
    "MlflowRefusedError",
    "Setup",
    "Statement",
    "apply",
    "check",
    "drops",
    "load",
    "open_session",
    "openapi",
    "read",
    "script",
    "statements",
]
