"""What `import _snowflake` finds inside a procedure: its secrets. Copied beside it under that name."""

import json
import os


def get_generic_secret_string(secret_name: str) -> str:
    """Give a secret's text by the variable that the procedure's SECRETS clause gave it.

    Raises:
        ValueError: The clause has no such variable.
    """
    secrets: dict[str, str] = json.loads(os.environ.get("SANDBOX_SECRETS", "{}"))
    if secret_name not in secrets:
        raise ValueError(f"Secret {secret_name} not found in the SECRETS of this procedure.")
    return secrets[secret_name]


def get_secret_type(secret_name: str) -> str:
    """Give a secret's type.

    Raises:
        ValueError: The clause has no such variable.
    """
    get_generic_secret_string(secret_name)
    return "GENERIC_STRING"
