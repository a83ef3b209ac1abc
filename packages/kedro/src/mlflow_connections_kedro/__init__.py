"""Connections to MLflow in a Kedro project: a keyword in mlflow.yml becomes a working tracking URI.

This module imports nothing: every `kedro` command imports it to list its commands, and pytest
imports it before a plugin author's tests. PYTEST_DONT_REWRITE keeps pytest from importing more.
"""

__all__: list[str] = []
