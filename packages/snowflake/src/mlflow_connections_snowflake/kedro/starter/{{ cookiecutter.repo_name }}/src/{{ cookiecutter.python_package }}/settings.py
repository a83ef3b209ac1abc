"""Kedro's settings of this project: the defaults."""
