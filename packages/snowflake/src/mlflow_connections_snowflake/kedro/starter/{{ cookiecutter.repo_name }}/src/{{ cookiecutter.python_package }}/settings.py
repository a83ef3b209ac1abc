"""Kedro's settings of this project: its defaults do."""
