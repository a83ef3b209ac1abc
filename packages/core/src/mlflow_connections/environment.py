"""The environment variables of an endpoint: those that a connection may set, and those named in credentials."""

import os
import re
from collections.abc import Mapping
from typing import Any

from ._errors import InvalidOptionError, PluginTypeError

__all__ = [
    "ALLOW_VARIABLE",
    "CREDENTIAL_VARIABLES",
    "URI_VARIABLES",
    "check_environment",
    "credential_variables",
    "is_credential_variable",
]

ALLOW_VARIABLE = "MLFLOW_CONNECTIONS_ALLOW_VARIABLES"
"""Names, separated by commas, that connections may set although they change how programs run."""

CREDENTIAL_VARIABLES = ("MLFLOW_", "DATABRICKS_", "ARM_", "AWS_", "AZURE_", "AZUREML_", "GOOGLE_")
"""The prefixes of the variables that MLflow, its stores and the clients of its artifact stores read."""

URI_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
"""Variables of the URIs, which only a connection's methods determine."""

# They determine which program is found, which code it loads, which shell runs it and which proxy it
# uses. Compiled on first use, like all patterns of core, because compiling is most of the cost of
# the import.
_CHANGES_PROGRAMS = (
    r"(?i)PATH|PATHEXT|COMSPEC|SHELL|HOME|USERPROFILE|IFS|ENV|BASH_ENV|NODE_OPTIONS|JAVA_TOOL_OPTIONS"
    r"|JDK_JAVA_OPTIONS|PERL5OPT|PERL5LIB|RUBYOPT|GCONV_PATH|LD_.*|DYLD_.*|PYTHON.*|.*_PROXY"
)


def check_environment(environment: object, origin: str) -> dict[str, str]:
    """Return the variables that a connection sets, if it may set them.

    Args:
        environment: The result of the connection's `environment()`.
        origin: The name of the connection's class, for messages.

    Raises:
        PluginTypeError: It is not a dict of strings to strings, sets a URI, or sets, without the
            user's consent, a variable that changes how programs run.
    """
    if not isinstance(environment, Mapping) or not all(
        isinstance(text, str) for pair in environment.items() for text in pair
    ):
        raise PluginTypeError(
            f"{origin}.environment() must return a dict of strings to strings; report it to its author."
        )
    if uris := [name for name in environment if name in URI_VARIABLES]:
        raise PluginTypeError(
            f"{origin}.environment() sets {', '.join(uris)}, which only tracking_uri() and "
            "registry_uri() decide; report it to its author."
        )
    changing = {name for name in environment if re.fullmatch(_CHANGES_PROGRAMS, name)}
    if changing and (refused := changing - _allowed()):
        names = ",".join(sorted(refused))
        raise PluginTypeError(
            f"{origin}.environment() sets {names.replace(',', ', ')}, which changes how programs "
            f"run. If you trust it, set {ALLOW_VARIABLE}={names}."
        )
    return dict(environment)


def _allowed() -> set[str]:
    return {name.strip() for name in os.environ.get(ALLOW_VARIABLE, "").split(",")}


def is_credential_variable(key: object) -> bool:
    """Return whether a key of the credentials is the name of a variable to export unchanged."""
    return (
        isinstance(key, str) and key.startswith(CREDENTIAL_VARIABLES) and key not in URI_VARIABLES
    )


def credential_variables(credentials: Mapping[str, Any], source: str) -> dict[str, str]:
    """Return the credentials that are named as an environment variable, as text.

    Args:
        credentials: All credentials; None as a value counts as absent.
        source: The name of the credentials' source, for messages.

    Raises:
        InvalidOptionError: A value is neither text nor a number nor a boolean.
    """
    exported = {}
    for key, value in credentials.items():
        if value is None or not is_credential_variable(key):
            continue
        if not isinstance(value, str | int | float):
            raise InvalidOptionError(
                f"'{key}' in {source} must be text, a number, or true or false: it becomes an "
                "environment variable."
            )
        exported[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return exported
