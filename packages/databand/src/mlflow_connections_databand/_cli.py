"""The command `mlflow-databand`, an alias: `mlflow-databand outbox` is `mlflow-connections outbox`."""

from collections.abc import Sequence

from mlflow_connections_outbox import _cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0; or 1 if something could not be done or still waits.
    """
    return _cli.main(arguments, "mlflow-databand")
