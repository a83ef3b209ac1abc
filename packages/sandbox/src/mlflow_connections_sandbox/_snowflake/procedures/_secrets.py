"""The module `_snowflake` inside a procedure: its secrets. Copied next to the handler under that name."""

import json
import os
from typing import NamedTuple


class UsernamePassword(NamedTuple):
    """A secret of type PASSWORD."""

    username: str
    password: str


def get_generic_secret_string(secret_name: str) -> str:
    """Return the text of a GENERIC_STRING secret by its variable in the SECRETS clause.

    Raises:
        ValueError: The clause has no such variable, or the secret has another type.
    """
    return _secret(secret_name, "GENERIC_STRING")["SECRET_STRING"]


def get_username_password(secret_name: str) -> UsernamePassword:
    """Return the user name and password of a PASSWORD secret.

    Raises:
        ValueError: The clause has no such variable, or the secret has another type.
    """
    found = _secret(secret_name, "PASSWORD")
    return UsernamePassword(found["USERNAME"], found["PASSWORD"])


def get_oauth_access_token(secret_name: str) -> str:
    """Return an access token of an OAUTH2 secret.

    Raises:
        ValueError: The clause has no such variable, or the secret has another type.
    """
    return _secret(secret_name, "OAUTH2")["ACCESS_TOKEN"]


def get_secret_type(secret_name: str) -> str:
    """Return the type of a secret.

    Raises:
        ValueError: The clause has no such variable.
    """
    return _secret(secret_name)["TYPE"]


def _secret(name: str, kind: str | None = None) -> dict[str, str]:
    secrets: dict[str, dict[str, str]] = json.loads(os.environ.get("SANDBOX_SECRETS", "{}"))
    if name not in secrets:
        raise ValueError(f"Secret {name} not found in the SECRETS of this procedure.")
    found = secrets[name]
    if kind is not None and found["TYPE"] != kind:
        raise ValueError(f"Secret {name} is of type {found['TYPE']}, not {kind}.")
    return found
