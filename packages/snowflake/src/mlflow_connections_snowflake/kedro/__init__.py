"""Kedro pipelines in Snowflake: tasks that call procedures and share one MLflow run."""
