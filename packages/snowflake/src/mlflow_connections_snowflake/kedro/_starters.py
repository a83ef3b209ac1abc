"""The starter `mlflow-connections-snowflake`, as `kedro new --starter` finds it: a folder of this package."""

from pathlib import Path

from kedro.framework.cli.starters import KedroStarterSpec

starters = [
    KedroStarterSpec(
        alias="mlflow-connections-snowflake",
        template_path=str(Path(__file__).parent / "starter"),
    )
]
"""What the entry point names."""
