"""A user's script: blocks for one workspace with two service principals, nested and in sequence."""

import json
import sys
from typing import Any

import mlflow_connections
from mlflow_connections_azureml._mlflow import is_bound


def ask() -> None:
    """Send a request as a user's code does."""
    import mlflow

    mlflow.MlflowClient().search_experiments(max_results=1)


def main(first: dict[str, Any], second: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Use the first, the second inside it, the first again, and then the second."""
    with mlflow_connections.use("azureml", first, options) as endpoint:
        ask()
        with mlflow_connections.use("azureml", second, options) as inner:
            ask()
        ask()
    with mlflow_connections.use("azureml", second, options):
        ask()
    return {
        "is_one_uri": endpoint.tracking_uri == inner.tracking_uri,
        "is_left_behind": is_bound(endpoint.tracking_uri),
    }


if __name__ == "__main__":
    print(json.dumps(main(*(json.loads(text) for text in sys.argv[1:]))))
