"""A Kedro project that trains a model and logs it with plain MLflow calls."""
