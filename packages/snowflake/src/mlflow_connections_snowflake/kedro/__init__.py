"""Kedro pipelines in Snowflake: tasks that call procedures, with one MLflow run for all of them."""
