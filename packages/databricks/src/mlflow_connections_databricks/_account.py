"""Which account of Databricks is meant, and whether all that it needs is there."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections.options import OptionValue
from mlflow_connections.secrets import mask_uri

# A colon makes it a secret scope for MLflow, a slash or a question mark ends it, an at sign is the
# mark of a profile inside an artifact's URI.
_PROFILE = re.compile(r"[\w.+-]+")

_TOKEN = ("token",)
_CLIENT = ("client_id", "client_secret")
# The names that databricks-sdk has for the two methods.
_AUTH_TYPES = {_TOKEN: "pat", _CLIENT: "oauth-m2m"}


class Account(NamedTuple):
    """What MLflow needs to be told; with neither part it finds the account by itself.

    Attributes:
        profile: A profile of ~/.databrickscfg.
        variables: What to export. Most of it is secret.
    """

    profile: str | None = None
    variables: Mapping[str, str] = {}

    @classmethod
    def of_profile(cls, profile: str) -> "Account":
        """Make the account of a profile.

        Its name is exported too: MLflow 3 makes the client that carries a run's artifacts without
        the profile of the tracking URI (DatabricksSdkArtifactRepository of MLflow 3.17).

        Raises:
            InvalidOptionError: The name would make another URI.
        """
        check_profile(profile)
        return cls(profile, {"DATABRICKS_CONFIG_PROFILE": profile})

    @classmethod
    def of(cls, readings: Mapping[str, OptionValue], given: Iterable[str]) -> "Account":
        """Make the account of a workspace, when at least one of its values is given.

        Args:
            readings: Every declared option by its name.
            given: The names that the user gave in the options or credentials.

        Raises:
            InvalidOptionError: The environment has two methods and nothing says which.
            MissingOptionError: Values are missing; the message names all of them.
        """
        method = _method(readings, set(given))
        names = ("host", *method)
        missing = [_missing(readings[name]) for name in names if readings[name].value is None]
        if not method and not os.environ.get("DATABRICKS_AUTH_TYPE"):
            missing.append(
                "'token', or 'client_id' and 'client_secret', are neither in the credentials nor "
                "in their environment variables DATABRICKS_TOKEN, DATABRICKS_CLIENT_ID and "
                "DATABRICKS_CLIENT_SECRET (for another method of databricks-sdk, such as "
                "azure-cli, set DATABRICKS_AUTH_TYPE)"
            )
        if missing:
            raise MissingOptionError("; ".join(missing) + ".")
        variables = {str(readings[name].option.env): str(readings[name].value) for name in names}
        if method:
            # databricks-sdk refuses two methods, and the other one may be left in the environment.
            variables["DATABRICKS_AUTH_TYPE"] = _AUTH_TYPES[method]
        return cls(variables=variables)

    def __repr__(self) -> str:
        """Hide every value."""
        return f"Account(profile={self.profile!r}, variables={sorted(self.variables)})"


def check_profile(profile: str) -> None:
    """Refuse a name that would make another URI of `databricks://<profile>`.

    Raises:
        InvalidOptionError: It has a character other than letters, digits and `_ . + -`.
    """
    if not _PROFILE.fullmatch(profile):
        raise InvalidOptionError(
            f"'profile' is {mask_uri(profile)!r}, which cannot stand in databricks://<profile>: "
            "rename the profile in ~/.databrickscfg to letters, digits and _ . + - only."
        )


def check_host(host: str, is_variable: bool) -> str:
    """Give the address without what follows it, which browsers show and nobody needs.

    Without a scheme databricks-sdk would try https and could hang for minutes.

    Args:
        host: The address as it was written.
        is_variable: Whether it was read from the environment.

    Raises:
        InvalidOptionError: It has no scheme, another than http and https, no name, or a password.
    """
    place = "The variable DATABRICKS_HOST" if is_variable else "'host' in the connection options"
    host = host.strip()
    if "://" not in host:
        raise InvalidOptionError(
            f"{place} has no scheme: write {mask_uri('https://' + host.lstrip('/'))!r}."
        )
    parts = _parts(host)
    if parts is None:
        raise InvalidOptionError(
            f"{place} is {mask_uri(host)!r}, which is no address: write https:// and the "
            "workspace's name, for example https://adb-123.4.azuredatabricks.net."
        )
    if "@" in parts.netloc:
        raise InvalidOptionError(
            f"{place} is {mask_uri(host)!r}: take the user and password out of the address, and "
            "put 'token', or 'client_id' and 'client_secret', into the credentials."
        )
    return f"{parts.scheme}://{parts.netloc}"


def _parts(host: str) -> SplitResult | None:
    try:
        parts = urlsplit(host)
        # Reading the port checks it.
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _method(readings: Mapping[str, OptionValue], given: set[str]) -> tuple[str, ...]:
    """Tell the names of the method's values: what the user gave comes before what was left around."""
    for method in (_TOKEN, _CLIENT):
        if given & set(method):
            return method
    # An address alone, and the rest in the environment: as on a build server.
    found = [m for m in (_TOKEN, _CLIENT) if any(readings[name].value is not None for name in m)]
    if len(found) > 1 and not os.environ.get("DATABRICKS_AUTH_TYPE"):
        raise InvalidOptionError(
            "The environment has both DATABRICKS_TOKEN and DATABRICKS_CLIENT_ID or "
            "DATABRICKS_CLIENT_SECRET, and Databricks accepts one method: unset one of them."
        )
    return found[0] if len(found) == 1 else ()


def _missing(reading: OptionValue) -> str:
    option = reading.option
    place = "the credentials" if option.in_credentials else "the connection options"
    return f"'{option.name}' is neither in {place} nor in the environment variable {option.env}"
