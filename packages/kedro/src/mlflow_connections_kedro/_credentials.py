"""The entry of credentials.yml that `server.credentials` names, and what of it is exported."""

from collections.abc import Mapping
from typing import Any

from mlflow_connections import InvalidOptionError, MissingOptionError

from ._files import ConfigFiles, read_config

FAMILIES = ("MLFLOW_", "DATABRICKS_", "ARM_", "AWS_", "AZURE_", "AZUREML_", "GOOGLE_")
"""Which environment variables an entry may set: those that MLflow, its stores and the clients of
its artifact stores read. Any other key is for a connection, or for nobody here."""

SETTINGS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
"""Variables that mlflow.yml decides about, and no entry of credentials."""


def read_entry(name: str | None, loader: Any, files: ConfigFiles) -> Mapping[str, Any]:
    """Give the named entry, read through the config loader, so that secrets hooks are heard.

    Raises:
        MissingOptionError: There is no such entry; the message names those that exist.
        InvalidOptionError: It is no mapping.
    """
    if name is None:
        return {}
    entries = read_config(loader, "credentials") or {}
    if name not in entries:
        have = ", ".join(sorted(map(str, entries)))
        raise MissingOptionError(
            f"'server.credentials' in {files.name('mlflow', 'server', 'credentials')} names "
            f"'{name}', which is no entry of the project's credentials "
            + (f"(there are {have})." if have else "(there are none): add it to credentials.yml.")
        )
    entry = entries[name]
    if entry is None:
        return {}
    if not isinstance(entry, Mapping):
        # The value is not shown: it can only be a secret.
        raise InvalidOptionError(
            f"{place(name, files)} must be a mapping of keys to values, as in 'token: ...'."
        )
    return entry


def place(name: str | None, files: ConfigFiles) -> str:
    """Say how a message calls an entry."""
    if name is None:
        return "the credentials (server.credentials names no entry)"
    return f"entry '{name}' of {files.name('credentials', name)}"


def variables(entry: Mapping[str, Any], where: str) -> dict[str, str]:
    """Give what an entry exports: the keys that are written as an allowed environment variable.

    Raises:
        InvalidOptionError: Such a key has a value that no variable can hold.
    """
    exported = {}
    for key, value in entry.items():
        if value is None or not is_variable(key):
            continue
        if not isinstance(value, str | int | float):
            raise InvalidOptionError(
                f"'{key}' in {where} must be text, a number, or true or false: it becomes an "
                "environment variable."
            )
        exported[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return exported


def is_variable(key: object) -> bool:
    """Tell whether a key of an entry is exported under its own name."""
    return isinstance(key, str) and key.startswith(FAMILIES) and key not in SETTINGS
