"""Connections to MLflow in a Kedro project: a keyword in mlflow.yml becomes a URI that works.

Nothing is imported here: every Python that starts imports this package for the specified import
path (see `_startup`), and every `kedro` command for its commands. For the same reason pytest is
told to leave it as it is: PYTEST_DONT_REWRITE.
"""

__all__: list[str] = []
