"""Authenticators: what makes each request to one server acceptable, in this process and in its children.

MLflow asks the plugin that `MLFLOW_TRACKING_AUTH` names for each request. Core owns that plugin. It hands a request to
the authenticator that is bound, if the request goes to the authenticator's origin (scheme, host and port), and leaves
every other request as it is.

A child process finds a description in its environment, which holds no secret. An authenticator without secrets is
rebuilt from it. For one with secrets the parent serves headers on a private Unix socket, as ssh-agent serves keys.
"""

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from ._errors import AccessError, InvalidOptionError, PluginLoadError

__all__ = [
    "AUTH_VARIABLE",
    "DESCRIPTION_VARIABLE",
    "PROVIDER_NAME",
    "Authenticator",
    "Headers",
    "Provider",
    "fetch_from_agent",
    "lasting_variables",
    "origin_of",
]

AUTH_VARIABLE = "MLFLOW_TRACKING_AUTH"
"""MLflow's variable for the name of the plugin it asks."""
DESCRIPTION_VARIABLE = "MLFLOW_CONNECTIONS_AUTHENTICATOR"
"""Holds the JSON description of the bound authenticator, for child processes. It is not secret."""
PROVIDER_NAME = "mlflow-connections"
"""The name of core's plugin in that variable."""
"""The name by which MLflow finds this provider of authentication."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_AGENT_ANSWERS_WITHIN = 60.0  # seconds; the issuer may be slow


class Headers(NamedTuple):
    """Headers that authenticate a request.

    Attributes:
        values: Names and values, most of them secret.
        lifetime: Seconds from now until they expire, or None if that is unknown or never.
        renew_in: Seconds from now until new ones should be fetched, or None if their user decides. A process that gets
            its headers from another one renews when that one does: a part of what is left would be too late.
    """

    values: Mapping[str, str]
    lifetime: float | None = None
    renew_in: float | None = None

    def __repr__(self) -> str:
        """Hide the values."""
        return f"Headers({', '.join(self.values)})"


class Authenticator(ABC):
    """Adds valid credentials to the requests to one origin.

    Attributes:
        origin: Scheme, host and port, as `origin_of` writes them.
        opener: The function that rebuilds it from a description, as `module:function`.
        secret_variables: Environment variables with its secret, which a command that gets its headers from this
            process does not need.
    """

    origin: str
    opener: str
    secret_variables: tuple[str, ...] = ()

    @abstractmethod
    def headers(self, rejected: Mapping[str, str] | None = None) -> Headers:
        """Return valid headers, fetching new ones if there are none or the server rejected the present ones.

        Args:
            rejected: Headers that the server answered with 401; None if it rejected none.

        Raises:
            ConnectionsError: There are none, in one sentence that names the reason and the remedy.
        """

    @abstractmethod
    def authenticate(self, request: Any) -> Any:
        """Add the headers to a prepared request of `requests`, and return it.

        Raises:
            ConnectionsError: As for `headers`.
        """

    @abstractmethod
    def describe(self) -> Mapping[str, Any] | None:
        """Return what `opener` needs to rebuild this in a child, as JSON values; None if that holds a secret."""

    def describe_whole(self) -> Mapping[str, Any] | None:
        """Return what `opener` needs to rebuild this where this process is not, secrets included.

        None if only this process can authenticate; by default the description without secrets.
        """
        return self.describe()

    def needs_parent(self) -> bool:
        """Return whether child processes need this process for as long as they run."""
        return self.describe() is None

    def variables(self) -> dict[str, str]:
        """Return the environment variables by which child processes authenticate. None of them is a secret.

        If the description would hold one, the headers are served on a socket from now on.
        """
        description = self.describe()
        if description is None:
            from ._agent import agent_for

            description = {"agent": agent_for(self)}
        return _variables(self, description)

    def lasting_variables(self) -> dict[str, str]:
        """Return the variables by which a process authenticates that outlives this one, such as a shipper.

        They may hold a secret: hand them to that process alone. Without a whole description that process needs this
        one, as a child does.
        """
        description = self.describe_whole()
        return self.variables() if description is None else _variables(self, description)

    def bind(self) -> None:
        """Put this in force for its origin, here and in child processes; see `Binder`."""
        variables = self.variables()
        _bound.append(_Binding(self, variables, {name: os.environ.get(name) for name in variables}))
        os.environ.update(variables)

    def unbind(self) -> None:
        """Take this out of force, and put the variables back that are still as `bind` set them."""
        for binding in reversed(_bound):
            if binding.authenticator is self:
                _bound.remove(binding)
                for name, value in binding.variables.items():
                    if os.environ.get(name) == value:
                        _set(name, binding.before[name])
                return

    def __repr__(self) -> str:
        return f"<{type(self).__name__} for {self.origin}>"


class _Binding(NamedTuple):
    authenticator: Authenticator
    variables: Mapping[str, str]
    before: Mapping[str, str | None]


_bound: list[_Binding] = []
_inherited: dict[str, Authenticator] = {}


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, in lower case and with the port written out.

    Raises:
        InvalidOptionError: It is not an http or https URL with a host.
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in _DEFAULT_PORTS or not host:
        raise InvalidOptionError("The URL must begin with https:// or http:// and name a host.")
    shown = f"[{host}]" if ":" in host else host.rstrip(".")
    return f"{scheme}://{shown}:{port or _DEFAULT_PORTS[scheme]}"


def _variables(authenticator: Authenticator, description: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "origin": authenticator.origin,
        "opener": authenticator.opener,
        "description": description,
    }
    return {AUTH_VARIABLE: PROVIDER_NAME, DESCRIPTION_VARIABLE: json.dumps(found)}


def lasting_variables(uri: str) -> dict[str, str]:
    """Return the lasting variables of the authenticator in force, if it is that of a server; see `Authenticator`.

    Args:
        uri: The server's tracking URI.
    """
    authenticator = current()
    try:
        same = authenticator is not None and origin_of(uri) == authenticator.origin
    except InvalidOptionError:
        same = False
    return authenticator.lasting_variables() if authenticator is not None and same else {}


def current() -> Authenticator | None:
    """Return the authenticator in force: the one bound here last, else the one that a parent described.

    Raises:
        ConnectionsError: A parent's description cannot be opened.
    """
    if _bound:
        return _bound[-1].authenticator
    text = os.environ.get(DESCRIPTION_VARIABLE)
    if not text:
        return None
    if text not in _inherited:
        _inherited[text] = _open(text)
    return _inherited[text]


def _open(text: str) -> Authenticator:
    from importlib import import_module

    try:
        found = json.loads(text)
        module, _, function = found["opener"].partition(":")
        opener = getattr(import_module(module), function)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise PluginLoadError(
            f"The variable {DESCRIPTION_VARIABLE} does not name an installed authenticator "
            f"({type(error).__name__}): install the same mlflow-connections packages here as in the parent process."
        ) from None
    opened = opener(found["origin"], found["description"])
    if not isinstance(opened, Authenticator):
        raise PluginLoadError(
            f"{found['opener']} returned no authenticator; report it to its author."
        )
    return opened


class Provider:
    """MLflow's plugin: hands each request to the authenticator of its origin."""

    def get_name(self) -> str:
        """Return the name that selects this plugin in `MLFLOW_TRACKING_AUTH`."""
        return PROVIDER_NAME

    def get_auth(self) -> Any:
        """Return the function that `requests` calls with each prepared request."""
        return authenticate


def authenticate(request: Any) -> Any:
    """Authenticate a prepared request if it goes to the origin of the authenticator in force.

    Raises:
        AccessError: There are no valid credentials, so the request must not be sent.
    """
    authenticator = current()
    if authenticator is None:
        if os.environ.get(AUTH_VARIABLE) == PROVIDER_NAME:
            raise AccessError(
                f"{AUTH_VARIABLE} is {PROVIDER_NAME}, but no connection is in force in this process: "
                "call mlflow_connections.use, or unset the variable."
            )
        return request
    try:
        same = origin_of(request.url) == authenticator.origin
    except InvalidOptionError:
        same = False
    return authenticator.authenticate(request) if same else request


def fetch_from_agent(path: str, origin: str, rejected: Mapping[str, str] | None = None) -> Headers:
    """Fetch headers from the process that holds the secret.

    Args:
        path: The agent's socket.
        origin: The server's origin, for messages.
        rejected: As for `Authenticator.headers`.

    Raises:
        AccessError: The other process has ended, or has no valid credentials itself.
    """
    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_AGENT_ANSWERS_WITHIN)
            client.connect(path)
            question = {"origin": origin, "rejected": dict(rejected) if rejected else None}
            client.sendall(json.dumps(question).encode() + b"\n")
            with client.makefile("rb") as stream:
                answer = json.loads(stream.readline() or b"{}")
    except (OSError, ValueError, AttributeError) as error:
        raise AccessError(
            f"The process that holds the secret for {origin} does not answer ({type(error).__name__}), most likely "
            "because it has ended: keep it running, or set `share_with_workers: true` in the connection options."
        ) from None
    if "headers" not in answer:
        raise AccessError(
            str(answer.get("error") or f"The process that holds the secret for {origin} ended.")
        )
    return Headers(answer["headers"], answer["lifetime"], answer["renew_in"])


def _after_fork() -> None:
    # What a parent described stays; the agents are the parent's.
    if agent := sys.modules.get(f"{__package__}._agent"):
        agent.forget_agents()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
