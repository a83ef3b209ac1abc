"""MLflow from inside Snowflake, through external functions that one command sets up."""

from ._setup import Setup, load, read
from ._sql import drops, script, statements
from ._statement import Statement

__all__ = ["Setup", "Statement", "drops", "load", "read", "script", "statements"]
