"""Provisional IDs of experiments: one for each name, the same in all processes and on all machines."""

import hashlib

DEFAULT_EXPERIMENT = "0"
"""The experiment that exists on each server from the start."""
_MARK = "9090"
_DIGITS = 24  # more than the digits of a server's ID


def is_provisional_experiment(experiment_id: str) -> bool:
    """Return whether an ID of an experiment is provisional."""
    return len(experiment_id) == _DIGITS and experiment_id.startswith(_MARK)


def provisional_experiment(name: str) -> str:
    """Return the provisional ID of an experiment that is created once the server responds."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    digits = _DIGITS - len(_MARK)
    return f"{_MARK}{number % 10**digits:0{digits}d}"
