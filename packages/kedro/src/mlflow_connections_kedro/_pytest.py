"""Creates the specified import path in a plugin author's tests: pytest loads this before any test."""

from mlflow_connections.specified_path import install

install()
