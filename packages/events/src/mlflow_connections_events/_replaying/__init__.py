"""Replaying: events are applied to the stores of an MLflow server. Each may be applied twice with one result."""
