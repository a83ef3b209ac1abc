"""Importing the package does not import Kedro."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["", ".store", ".kedro._cli", ".kedro.procedures"])
def test_kedro_is_imported_only_where_it_runs(module: str) -> None:
    """Neither the package nor the module of the commands imports Kedro; the latter no MLflow either."""
    code = f"import sys, mlflow_connections_snowflake{module}\nprint('kedro' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
