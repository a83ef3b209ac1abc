"""The starter `mlflow-connections-snowflake`, a folder of this package that `kedro new --starter` finds."""

from pathlib import Path

from kedro.framework.cli.starters import KedroStarterSpec

starters = [
    KedroStarterSpec(
        alias="mlflow-connections-snowflake",
        template_path=str(Path(__file__).parent / "starter"),
    )
]
"""The list that the entry point names."""
