"""Snowflake: an account with external functions that reach a real MLflow server.

The real connector and a real Snowpark session talk to it. See docs/sandbox-snowflake.md.
"""

from mlflow_connections_sandbox._snowflake.external._gateway import BASES, ApiGateway
from mlflow_connections_sandbox._snowflake.external._mlflow_https import MLFLOW_URL

from ._journal import Executed, Statements
from ._stand_in import Snowflake

__all__ = ["BASES", "MLFLOW_URL", "ApiGateway", "Executed", "Snowflake", "Statements"]
