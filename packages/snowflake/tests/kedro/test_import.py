"""Importing the package does not import Kedro."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["", ".store", ".kedro._cli", ".kedro.procedures"])
def test_kedro_is_imported_only_where_it_runs(module: str) -> None:
    """Neither the package nor its commands import Kedro, and the commands do not import MLflow."""
    code = f"import sys, mlflow_connections_snowflake{module}\nprint('kedro' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
