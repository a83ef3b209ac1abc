"""Replaying: events are applied to the stores of an MLflow server. Applying one twice has the same result."""
