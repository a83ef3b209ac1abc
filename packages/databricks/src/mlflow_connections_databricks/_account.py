"""A Databricks account: a profile, or a workspace with one authentication method.

databricks-sdk selects the identity from its own configuration attributes: each has a variable, and
most belong to one method. The list is read from databricks-sdk, because a copy would soon be
incomplete.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_connections import (
    InvalidOptionError,
    MissingDependencyError,
    MissingOptionError,
    UnreachableError,
)
from mlflow_connections.options import OptionValue
from mlflow_connections.secrets import mask_uri, masked

if TYPE_CHECKING:
    import configparser
    from urllib.parse import SplitResult

HOST = "DATABRICKS_HOST"
PROFILE = "DATABRICKS_CONFIG_PROFILE"
AUTH_TYPE = "DATABRICKS_AUTH_TYPE"
RUNTIME = "DATABRICKS_RUNTIME_VERSION"
MODEL_SERVING = "IS_IN_DB_MODEL_SERVING_ENV"

# For MLflow a colon makes it a secret scope, a slash or a question mark ends it, and an at sign
# marks a profile inside an artifact's URI.
_PROFILE_NAME = r"[\w.+-]+"

_TOKEN = ("token",)
_CLIENT = ("client_id", "client_secret")
# databricks-sdk's names for the two methods.
_AUTH_TYPES = {_TOKEN: "pat", _CLIENT: "oauth-m2m"}

# The prefixes of databricks-sdk's variables; if no other one is set, its import of 1.5 s is
# skipped.
_PREFIXES = ("DATABRICKS_", "ARM_", "GOOGLE_")

# Attributes of databricks-sdk that select neither a workspace nor an identity.
_HARMLESS = (
    "config_file",
    "databricks_cli_path",
    "cluster_id",
    "warehouse_id",
    "serverless_compute_id",
    "rate_limit",
)
_HARMLESS_PREFIXES = ("debug_", "disable_")


def read_environment() -> dict[str, str]:
    """Return the environment variables that may select a workspace or an identity for databricks-sdk."""
    return {name: os.environ[name] for name in os.environ if name.startswith(_PREFIXES)}


def sdk_variables() -> dict[str, str]:
    """Return the variables in the environment with which databricks-sdk selects a workspace or a method.

    Each is mapped to its method, such as `azure`, or to the empty string if it names a workspace.

    Raises:
        MissingDependencyError: databricks-sdk cannot be imported.
    """
    environ = read_environment()
    if not any(environ.values()):
        return {}
    try:
        from databricks.sdk.config import Config
    except ImportError as error:
        raise MissingDependencyError(
            f"databricks-sdk cannot be imported: {error}. Run: pip install databricks-sdk."
        ) from masked(error)
    found: dict[str, str] = {}
    for attribute in Config.attributes():
        name = str(attribute.name)
        if name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES) or not attribute.env:
            continue
        variables = (attribute.env, *(getattr(attribute, "env_aliases", None) or ()))
        found |= {name: attribute.auth or "" for name in variables if environ.get(name)}
    return found


class Account(NamedTuple):
    """The variables that MLflow needs. Without any, MLflow finds the account itself.

    Attributes:
        profile: A profile of ~/.databrickscfg.
        variables: The variables to export; most are secret. An empty one counts as absent.
    """

    profile: str | None = None
    variables: Mapping[str, str] = {}

    @classmethod
    def of_profile(cls, profile: str, auth_type: str | None) -> "Account":
        """Return the account of a profile.

        The profile's name is exported too: MLflow 3 creates the client that transfers a run's
        artifacts without the profile of the tracking URI (DatabricksSdkArtifactRepository of MLflow
        3.17). Every variable that databricks-sdk would read before the profile is set to the empty
        string.

        Raises:
            InvalidOptionError: The name would make another URI.
        """
        check_profile(profile)
        variables = dict.fromkeys(sdk_variables(), "")
        variables[PROFILE] = profile
        if auth_type is not None:
            variables[AUTH_TYPE] = auth_type
        return cls(profile, variables)

    @classmethod
    def of_workspace(cls, values: Mapping[str, OptionValue], given: Iterable[str]) -> "Account":
        """Return the account of a workspace for which at least one value is given.

        Args:
            values: Every declared option by its name.
            given: The names that the user gave in the options or credentials.

        Raises:
            InvalidOptionError: Several methods are possible.
            MissingOptionError: Values are missing; the message names all of them.
        """
        given = set(given)
        method = _method(values, given)
        names = ["host", *method.needs]
        missing = [_missing(values[name]) for name in names if values[name].value is None]
        if not method.is_known:
            missing.append(
                "'token', or 'client_id' and 'client_secret', are neither in the credentials nor "
                "in their environment variables DATABRICKS_TOKEN, DATABRICKS_CLIENT_ID and "
                "DATABRICKS_CLIENT_SECRET (for another method of databricks-sdk, such as "
                "azure-cli, name it in 'auth_type' or DATABRICKS_AUTH_TYPE)"
            )
        if missing:
            raise MissingOptionError("; ".join(missing) + ".")
        names += [n for n in _CLIENT if n in given and n not in names]
        variables = _emptied(str(values["host"].value), values["host"].source)
        variables |= {str(values[n].option.env): str(values[n].value) for n in names}
        if method.exported is not None:
            variables[AUTH_TYPE] = method.exported
        return cls(variables=variables)

    def __repr__(self) -> str:
        """Hide every value."""
        return f"Account(profile={self.profile!r}, variables={sorted(self.variables)})"


class Method(NamedTuple):
    """An authentication method.

    Attributes:
        needs: The declared options that it requires.
        exported: The auth_type to export; None leaves it to databricks-sdk and its variables.
        is_known: Whether any value determines the method.
    """

    needs: tuple[str, ...] = ()
    exported: str | None = None
    is_known: bool = True


def _method(values: Mapping[str, OptionValue], given: set[str]) -> Method:
    """Return the method: a given value takes precedence over one left in the environment."""
    auth_type = values["auth_type"].value
    needs = {name: method for method, name in _AUTH_TYPES.items()}
    if "auth_type" in given:
        _refuse_another_method(auth_type, given)
        return Method(needs.get(auth_type, ()), auth_type)
    if "token" in given:
        return Method(_TOKEN, _AUTH_TYPES[_TOKEN])
    if "client_secret" in given or ("client_id" in given and auth_type in (None, "pat")):
        return Method(_CLIENT, _AUTH_TYPES[_CLIENT])
    if auth_type is not None:
        # The user's variable; with OIDC a client_id may be given as well.
        return Method(needs.get(auth_type, ()), auth_type if "client_id" in given else None)
    # Only a host, with the rest in the environment, as on a build server.
    found = [m for m in (_TOKEN, _CLIENT) if any(values[name].value is not None for name in m)]
    if len(found) > 1:
        raise InvalidOptionError(
            "The environment has both DATABRICKS_TOKEN and DATABRICKS_CLIENT_ID or "
            "DATABRICKS_CLIENT_SECRET, and Databricks accepts one method: unset one of them, or "
            "name the method in 'auth_type'."
        )
    if found:
        return Method(found[0], _AUTH_TYPES[found[0]])
    return _unified_method()


def _unified_method() -> Method:
    """Return the method that databricks-sdk finds in its other variables, such as ARM_*."""
    variables: dict[str, list[str]] = {}
    for name, method in sdk_variables().items():
        if method:
            variables.setdefault(method, []).append(name)
    if len(variables) > 1:
        raise InvalidOptionError(
            "The environment has variables of several methods, and Databricks accepts one: "
            f"{'; '.join(', '.join(names) for names in variables.values())}. Name the method in "
            "'auth_type', such as azure-client-secret."
        )
    return Method(is_known=bool(variables))


def _refuse_another_method(auth_type: str, given: set[str]) -> None:
    used = {"pat": {"token"}, "oauth-m2m": set(_CLIENT)}.get(auth_type, {"client_id"})
    if unused := sorted(given & {"token", *_CLIENT} - used):
        raise InvalidOptionError(
            f"'auth_type' is given together with {', '.join(map(repr, unused))}, which that method "
            "does not use: keep one of the two."
        )


def _emptied(host: str, source: str | None) -> dict[str, str]:
    """Return, as empty strings, the variables that would select another workspace than the host.

    An account or workspace ID belongs to the host of the same environment. It stays unless that
    environment names another host or a profile.
    """
    left = os.environ.get(HOST, "").strip().rstrip("/")
    names_another_host = source != "environment" and bool(left) and left != host.rstrip("/")
    if not names_another_host and not os.environ.get(PROFILE):
        return {}
    places = {name for name, method in sdk_variables().items() if not method}
    return dict.fromkeys(sorted(places - {HOST, AUTH_TYPE}), "")


def check_profile(profile: str) -> None:
    """Refuse a name that would make another URI of `databricks://<profile>`.

    Raises:
        InvalidOptionError: It has a character other than letters, digits and `_ . + -`.
    """
    if not re.fullmatch(_PROFILE_NAME, profile):
        raise InvalidOptionError(
            f"'profile' is {mask_uri(profile)!r}, which cannot stand in databricks://<profile>: "
            "rename the profile in ~/.databrickscfg to letters, digits and _ . + - only."
        )


def check_credential(value: OptionValue) -> None:
    """Refuse a token, ID or secret that no HTTP header can carry, without showing it.

    requests would refuse it too, and print it.

    Raises:
        InvalidOptionError: It has white space inside, or characters other than ASCII.
    """
    text = str(value.value)
    if not text.isascii() or not text.isprintable() or " " in text:
        place = (
            f"the variable {value.option.env}"
            if value.source == "environment"
            else "the credentials"
        )
        raise InvalidOptionError(
            f"'{value.option.name}' in {place} has white space or a character in it that no "
            "credential of Databricks has: copy it again."
        )


def check_host(host: str, is_variable: bool) -> str:
    """Return the address without the path and query that browsers show.

    Without a scheme databricks-sdk would try https and could hang for minutes.

    Args:
        host: The address as written.
        is_variable: Whether it was read from the environment.

    Raises:
        InvalidOptionError: It lacks a host name or a scheme of http or https, or contains a
            password.
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
            f"{place} is {mask_uri(host)!r}, which is not an address: write https:// and the "
            "workspace's name, for example https://adb-123.4.azuredatabricks.net."
        )
    if "@" in parts.netloc:
        raise InvalidOptionError(
            f"{place} is {mask_uri(host)!r}: take the user and password out of the address, and "
            "put 'token', or 'client_id' and 'client_secret', into the credentials."
        )
    return f"{parts.scheme}://{parts.netloc}"


def _parts(host: str) -> "SplitResult | None":
    from urllib.parse import urlsplit  # most of the cost of importing this package

    try:
        parts = urlsplit(host)
        # Reading the port checks it.
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _missing(value: OptionValue) -> str:
    option = value.option
    place = "the credentials" if option.in_credentials else "the connection options"
    return f"'{option.name}' is neither in {place} nor in the environment variable {option.env}"


class Identity:
    """The account in force: boundaries compare identities, and `check` tests whether its host responds.

    MLflow caches a client of databricks-sdk by host, token and profile, which are equal for two
    OAuth clients of one host. A boundary drops it whenever identities differ.

    Args:
        account: The account determined by the given values.
        environ: The variables of `read_environment`, which may complete it.
    """

    def __init__(self, account: Account, environ: Mapping[str, str]) -> None:
        self._host = account.variables.get(HOST) or ("" if account.profile else _host_left(environ))
        self._profile = account.profile or environ.get(PROFILE, "")
        self._key = (
            account.profile,
            frozenset(account.variables.items()),
            frozenset(environ.items()),
        )

    def bind(self) -> None:
        """Do nothing: the variables hold the identity."""

    def unbind(self) -> None:
        """Do nothing: the boundary drops MLflow's clients."""

    def check(self, seconds: float) -> None:
        """Check that the workspace responds, without signing in.

        databricks-sdk retries a refused connection for minutes, several times over.

        Args:
            seconds: The time limit.

        Raises:
            MissingOptionError: There is nothing to sign in with, so MLflow would send no request.
            UnreachableError: The connection failed, or there was no response in time.
        """
        host = self._host or _host_of_profile(self._profile)
        if host:
            _check_reachable(host, seconds)
        self._check_credentials(host)

    def _check_credentials(self, host: str) -> None:
        """Raise an error if databricks-sdk finds no credentials, which MLflow says in a paragraph."""
        if os.environ.get(RUNTIME) or os.environ.get(MODEL_SERVING):
            return  # MLflow has credentials of its own there
        with suppress(ImportError):  # MLflow explains it
            from databricks.sdk.config import Config

            try:
                Config(profile=self._profile or None)
            except ValueError as error:
                # Any other reason is in the error, which MLflow will show.
                if "cannot configure default credentials" in str(error):
                    raise MissingOptionError(_no_credentials(host, self._profile)) from None

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Identity) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        """Hide everything."""
        return "Identity()"


def _check_reachable(host: str, seconds: float) -> None:
    """Check that a workspace responds, without signing in.

    Raises:
        UnreachableError: The connection failed, or there was no response in time.
    """
    import requests

    try:
        # The first request of databricks-sdk; any response will do.
        requests.get(
            f"{host.rstrip('/')}/.well-known/databricks-config",
            timeout=seconds,
            allow_redirects=False,
            auth=lambda request: request,  # nothing from ~/.netrc
        ).close()
    except requests.exceptions.SSLError:
        reason = "its certificate is not trusted. Check REQUESTS_CA_BUNDLE"
    except requests.exceptions.ProxyError:
        reason = "the proxy gives no connection to it. Check HTTPS_PROXY and NO_PROXY"
    except requests.Timeout:
        reason = f"it did not answer within {seconds:g} s. Check the network and the firewall"
    except requests.RequestException:
        reason = "there is no connection to it. Check the network, HTTPS_PROXY and the firewall"
    else:
        return
    # Not chained: the error of requests is a paragraph.
    raise UnreachableError(
        f"The Databricks workspace {mask_uri(host)} cannot be reached: {reason}, and the "
        "address of the workspace."
    ) from None


def _no_credentials(host: str, profile: str) -> str:
    """Return the error for an account that neither variables nor profiles describe, with the remedy."""
    if host:
        return (
            f"There are no credentials for the Databricks workspace {mask_uri(host)}: set DATABRICKS_TOKEN, or "
            "DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, put 'token' into the credentials, or run "
            "`databricks auth login`."
        )
    if profile:
        return (
            f"The profile {mask_uri(profile)!r} of Databricks is not in ~/.databrickscfg, or names no host: run "
            f"`databricks auth login --profile {mask_uri(profile)}`, or name another profile."
        )
    return (
        "No Databricks workspace is configured: set DATABRICKS_HOST and DATABRICKS_TOKEN, put 'host' into the "
        "connection options and 'token' into the credentials, or run `databricks auth login` for a profile in "
        "~/.databrickscfg."
    )


def _host_left(environ: Mapping[str, str]) -> str:
    host = environ.get(HOST, "").strip()
    return host if not host or "://" in host else f"https://{host}"


def _host_of_profile(profile: str) -> str:
    """Read the host of a profile, as databricks-sdk does; empty if there is none."""
    import configparser
    from pathlib import Path

    file = Path(os.environ.get("DATABRICKS_CONFIG_FILE") or "~/.databrickscfg").expanduser()
    sections = configparser.ConfigParser(interpolation=None)
    try:
        sections.read(file)
    except (OSError, ValueError, configparser.Error):
        return ""
    for name in filter(None, (profile, *_default_profiles(sections))):
        if name == sections.default_section or sections.has_section(name):
            host = sections.get(name, "host", fallback="").strip()
            return host if not host or "://" in host else f"https://{host}"
    return ""


def _default_profiles(sections: "configparser.ConfigParser") -> Iterator[str]:
    yield sections.get("__settings__", "default_profile", fallback="")
    yield sections.default_section


def stripped(value: OptionValue) -> OptionValue:
    """Return a value without surrounding white space, which no value of Databricks contains."""
    text: Any = value.value
    if not isinstance(text, str):
        return value
    text = text.strip() or None
    return value._replace(value=text, source=value.source if text else None)
