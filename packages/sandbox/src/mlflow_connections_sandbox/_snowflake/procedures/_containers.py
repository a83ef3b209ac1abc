"""The environment of a process in a container: Container Services, ML Jobs, notebooks in a workspace.

Source: docs.snowflake.com, "Snowpark Container Services: SQL execution" (the service's token and
variables); the folder of secrets from the source of Snowpark's `secrets`. Snowflake puts the token
at /snowflake/session/token, where a test cannot write. SNOWFLAKE_TOKEN_FILE_PATH names the
stand-in's path, which is the only difference.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._workers import COPIED, kept_environment

PRIVILEGED = frozenset(
    ("ACCOUNTADMIN", "SECURITYADMIN", "USERADMIN", "SYSADMIN", "ORGADMIN", "PUBLIC")
)
"""Roles that may not own a service."""
_FILES = {
    "SECRET_STRING": "secret_string",
    "USERNAME": "username",
    "PASSWORD": "password",
    "ACCESS_TOKEN": "access_token",
}


def container_environment(
    folder: Path,
    token: str,
    connection: Mapping[str, Any],
    network: Mapping[str, str],
    secrets: Mapping[str, Mapping[str, str]],
) -> dict[str, str]:
    """Prepare a container's folder and return all variables of its processes.

    Args:
        folder: Its folder.
        token: The service's token.
        connection: The parameters with which it reaches its account.
        network: The variables that confine its network.
        secrets: The readable values of each secret, by the name under which it is mounted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "session" / "token"
    path.parent.mkdir(exist_ok=True)
    path.write_text(token)
    for name, values in secrets.items():
        (folder / "secrets" / name).mkdir(parents=True, exist_ok=True)
        for key, file in _FILES.items():
            if key in values:
                (folder / "secrets" / name / file).write_text(values[key])
    (folder / "site").mkdir(exist_ok=True)
    guard = "_guard.py"
    shutil.copyfile(Path(__file__).with_name(guard), folder / "site" / COPIED[guard])
    return {
        **kept_environment(),
        **network,
        "HOME": str(folder),
        "PYTHONPATH": str(folder / "site"),
        "SNOWFLAKE_ACCOUNT": str(connection["account"]),
        "SNOWFLAKE_HOST": str(connection["host"]),
        "SNOWFLAKE_PORT": str(connection["port"]),
        "SNOWFLAKE_PROTOCOL": str(connection["protocol"]),
        "SNOWFLAKE_DATABASE": str(connection["database"]),
        "SNOWFLAKE_SCHEMA": str(connection["schema"]),
        "SNOWFLAKE_AUTHENTICATOR": "oauth",
        "SNOWFLAKE_TOKEN_FILE_PATH": str(path),
        "SNOWFLAKE_CONTAINER_SERVICES_SECRET_PATH_PREFIX": str(folder / "secrets"),
        "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
