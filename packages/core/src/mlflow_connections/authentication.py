"""Authenticators: add valid credentials to each request to one server, in this process and in its children.

For each request MLflow calls the plugin that `MLFLOW_TRACKING_AUTH` names. Core owns that plugin.
It passes a request to the authenticator that is bound for the request's origin (scheme, host and
port), and leaves every other request unchanged. A vendor's client that sends its own requests gets
headers from the authenticator.

A child process finds a description in its environment, which contains no secret. An authenticator
without secrets is rebuilt from it. For one with secrets the parent serves headers on a private Unix
socket, as ssh-agent serves keys.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ._errors import AccessError, InvalidOptionError, PluginLoadError
from .headers import FromParent, Headers, HeaderSource, Renewing, is_agent_running

__all__ = [
    "AUTH_VARIABLE",
    "DESCRIPTION_VARIABLE",
    "PROVIDER_NAME",
    "Authenticator",
    "Provider",
    "authenticator_of",
    "bound",
    "from_parent",
    "has_lost_parent",
    "lasting_variables",
    "origin_of",
    "origins_in_force",
    "variables_for_shell",
    "variables_of",
]

AUTH_VARIABLE = "MLFLOW_TRACKING_AUTH"
"""MLflow's variable for the name of its authentication plugin."""
DESCRIPTION_VARIABLE = "MLFLOW_CONNECTIONS_AUTHENTICATOR"
"""Holds the JSON descriptions of the bound authenticators, for child processes. They contain no secret
unless the user allows it.
"""
PROVIDER_NAME = "mlflow-connections"
"""The name of core's plugin in that variable, with which MLflow finds it."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ENTRY = ("origin", "opener", "description")


class Authenticator:
    """Adds valid credentials to the requests to one origin. Two equal authenticators are the same identity.

    A subclass names its `opener`, and may check responses in `authenticate`.

    Args:
        origin: Scheme, host and port, as `origin_of` writes them; for a vendor's client, which
            sends its own requests, the URI with which it looks up its credential.
        source: The source of headers, or an object that already keeps them valid.
        share: Whether the user allows secrets in the environment of child processes.

    Attributes:
        origin: As above.
        opener: The function that rebuilds it from its origin and a description, as
            `module:function`.
        secret_variables: Environment variables with its secret, which a command that gets its
            headers from this process does not need.
    """

    opener: str
    secret_variables: tuple[str, ...] = ()

    def __init__(
        self, origin: str, source: HeaderSource | Renewing, *, share: bool = False
    ) -> None:
        self.origin, self._share = origin, share
        self._renewing = source if isinstance(source, Renewing) else Renewing(source)

    @property
    def source(self) -> HeaderSource:
        """The source of its headers."""
        return self._renewing.source

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same identity for the same origin."""
        return (
            isinstance(other, Authenticator)
            and type(self) is type(other)
            and (self.origin, self.source, self._share)
            == (other.origin, other.source, other._share)
        )

    def __hash__(self) -> int:
        return hash(self.origin)

    def headers(self, rejected: Mapping[str, str] | None = None) -> Headers:
        """Return valid headers, fetching new ones if there are none or the server rejected the current ones.

        Args:
            rejected: Headers that the server answered with 401; None if it rejected none.

        Raises:
            ConnectionsError: There are none; the message names the reason and the remedy in one
                sentence.
        """
        return self._renewing.headers(rejected)

    def authenticate(self, request: Any) -> Any:
        """Add the headers to a prepared request of `requests`, and return it.

        Raises:
            ConnectionsError: As for `headers`.
        """
        request.headers.update(self.headers().values)
        return request

    def describe(self) -> Mapping[str, Any] | None:
        """Return the description with which `opener` rebuilds this in a child, as JSON values.

        None if only this process can fetch headers.
        """
        return self.source.describe(share=self._share)

    def describe_whole(self) -> Mapping[str, Any] | None:
        """Return the description, secrets included, with which `opener` rebuilds this without this process.

        None if only this process can authenticate.
        """
        return self.source.describe(share=True)

    def needs_parent(self) -> bool:
        """Return whether child processes need this process while they run."""
        return self.describe() is None

    def variables(self) -> dict[str, str]:
        """Return the environment variables with which child processes authenticate.

        If the description would contain a secret that may not be shared, the headers are served on
        a socket from now on.
        """
        return variables_of([self])

    def describe_for_shell(self) -> Mapping[str, Any] | None:
        """Return the description for `opener` in a process that has this one's environment, and outlives it.

        None if it would need this process; by default if child processes do.
        """
        return None if self.needs_parent() else self.describe()

    def lasting_variables(self) -> dict[str, str]:
        """Return the variables with which a process that outlives this one authenticates, such as a shipper.

        They may contain a secret: pass them only to that process. Without a complete description
        that process needs this one, as a child does.
        """
        description = self.describe_whole()
        if description is None:
            return self.variables()
        return _exported([_entry(self, description)])

    def bind(self) -> None:
        """Activate this for its origin, in this process and in child processes; see `Binder`."""
        variables = variables_of([*(each.authenticator for each in _bound), self])
        _bound.append(_Binding(self, variables, {name: os.environ.get(name) for name in variables}))
        os.environ.update(variables)

    def unbind(self) -> None:
        """Deactivate this, and restore the variables that are still as `bind` set them."""
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
_inherited: dict[tuple[str, str], Authenticator | None] = {}
_from_parent: str = os.environ.get(DESCRIPTION_VARIABLE, "")
"""The descriptions of this process's parent, independent of later bindings in this process."""


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, in lower case and with an explicit port.

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


def variables_of(authenticators: Sequence[Authenticator]) -> dict[str, str]:
    """Return the environment variables with which child processes use several authenticators at once."""
    entries = []
    for each in authenticators:
        description = each.describe()
        if description is None:
            from ._agent import agent_for

            description = {"agent": agent_for(each)}
        entries.append(_entry(each, description))
    return _exported(entries)


def variables_for_shell(authenticators: Sequence[Authenticator]) -> dict[str, str] | None:
    """Return the variables for a shell that has this process's environment; None if it would need this process."""
    entries = []
    for each in authenticators:
        description = each.describe_for_shell()
        if description is None:
            return None
        entries.append(_entry(each, description))
    return _exported(entries)


def _exported(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the variables for descriptions; MLflow's own is needed only if MLflow sends the requests itself."""
    variables = {DESCRIPTION_VARIABLE: json.dumps(entries)}
    if any(entry["origin"].startswith("http") for entry in entries):
        variables[AUTH_VARIABLE] = PROVIDER_NAME
    return variables


def _entry(authenticator: Authenticator, description: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "origin": authenticator.origin,
        "opener": authenticator.opener,
        "description": description,
    }


def lasting_variables(uri: str) -> dict[str, str]:
    """Return the lasting variables of the authenticator in force for a server; see `Authenticator`.

    Args:
        uri: The server's tracking URI.
    """
    authenticator = authenticator_of(_origin_of_server(uri))
    return {} if authenticator is None else authenticator.lasting_variables()


@contextmanager
def bound(uri: str) -> Iterator[None]:
    """Bind the authenticator that the environment describes for a server, during a block.

    For clients that look for one only while MLflow is imported, such as azureml-mlflow, if the environment
    has changed since.

    Args:
        uri: The server's tracking URI.
    """
    authenticator = authenticator_of(_origin_of_server(uri))
    if authenticator is None:
        yield
        return
    authenticator.bind()
    try:
        yield
    finally:
        authenticator.unbind()


def _origin_of_server(uri: str) -> str:
    try:
        return origin_of(uri)
    except InvalidOptionError:
        return uri.partition("?")[0]


def authenticator_of(origin: str) -> Authenticator | None:
    """Return the authenticator in force for an origin: the last one bound in this process, else the parent's.

    Raises:
        ConnectionsError: A parent's description cannot be opened.
    """
    for binding in reversed(_bound):
        if binding.authenticator.origin == origin:
            return binding.authenticator
    if _bound:
        return None
    text = os.environ.get(DESCRIPTION_VARIABLE, "")
    if (text, origin) not in _inherited:
        found = [entry for entry in _entries(text) if entry["origin"] == origin]
        _inherited[text, origin] = _open(found[-1]) if found else None
    return _inherited[text, origin]


def has_lost_parent(uri: str, environment: Mapping[str, str]) -> bool:
    """Return whether variables get a server's headers from a process that has ended.

    Args:
        uri: The server's tracking URI.
        environment: The variables.
    """
    origin = _origin_of_server(uri)
    entries = _entries(environment.get(DESCRIPTION_VARIABLE, ""))
    agents = [e["description"].get("agent") for e in entries if e["origin"] == origin]
    return bool(agents) and agents[-1] is not None and not is_agent_running(agents[-1])


def origins_in_force(opener: str) -> list[str]:
    """Return the origins of the authenticators in force that an opener rebuilds, without opening them."""
    if _bound:
        every = [each.authenticator for each in _bound]
        return [each.origin for each in every if each.opener == opener]
    text = os.environ.get(DESCRIPTION_VARIABLE, "")
    return [entry["origin"] for entry in _entries(text) if entry["opener"] == opener]


def from_parent(opener: str) -> list[FromParent]:
    """Return the sources, among the authenticators that an opener rebuilds, that get headers from the parent."""
    return [
        FromParent(entry["description"]["agent"], entry["origin"])
        for entry in _entries(_from_parent)
        if entry["opener"] == opener and "agent" in entry["description"]
    ]


def _entries(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        return [{name: entry[name] for name in _ENTRY} for entry in json.loads(text)]
    except (ValueError, TypeError, KeyError) as error:
        raise _cannot_open(error) from None


def _open(entry: Mapping[str, Any]) -> Authenticator:
    from importlib import import_module

    try:
        module, _, function = entry["opener"].partition(":")
        opener = getattr(import_module(module), function)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise _cannot_open(error) from None
    opened = opener(entry["origin"], entry["description"])
    if not isinstance(opened, Authenticator):
        raise PluginLoadError(
            f"{entry['opener']} returned no authenticator; report it to its author."
        )
    return opened


def _cannot_open(error: Exception) -> PluginLoadError:
    return PluginLoadError(
        f"The variable {DESCRIPTION_VARIABLE} does not name an installed authenticator "
        f"({type(error).__name__}): install the same mlflow-connections packages here as in the parent process."
    )


class Provider:
    """MLflow's plugin: passes each request to the authenticator of its origin."""

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
    try:
        authenticator = authenticator_of(origin_of(request.url))
    except InvalidOptionError:
        return request
    if authenticator is not None:
        return authenticator.authenticate(request)
    is_in_force = _bound or os.environ.get(DESCRIPTION_VARIABLE)
    if not is_in_force and os.environ.get(AUTH_VARIABLE) == PROVIDER_NAME:
        raise AccessError(
            f"{AUTH_VARIABLE} is {PROVIDER_NAME}, but no connection is in force in this process: "
            "call mlflow_connections.use, or unset the variable."
        )
    return request


def _after_fork() -> None:
    # The parent's descriptions stay; the agents are the parent's.
    if agent := sys.modules.get(f"{__package__}._agent"):
        agent.forget_agents()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
