"""Authenticators in force: each for its own origin, in this process and in its children."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from mlflow_connections import AccessError, ConnectionsError, Endpoint, PluginLoadError
from mlflow_connections._agent import forget_agents
from mlflow_connections._use import Applied
from mlflow_connections.authentication import (
    AUTH_VARIABLE,
    DESCRIPTION_VARIABLE,
    PROVIDER_NAME,
    Authenticator,
    authenticate,
    authenticator_of,
    bound,
    from_parent,
    has_lost_parent,
    lasting_variables,
    origins_in_force,
    variables_for_shell,
    variables_of,
)
from mlflow_connections.headers import FromParent, Headers, HeaderSource

HTTP, VENDOR = "https://mlflow.example.com:443", "vendor://workspace/w"
ASK = """
import sys
from mlflow_connections.authentication import authenticator_of
for origin in sys.argv[1:]:
    try:
        print(authenticator_of(origin).headers().values)
    except Exception as error:
        print(error)
"""


class Fixed(HeaderSource):
    """One header, secret or not."""

    def __init__(self, value: str, *, is_secret: bool = True) -> None:
        self.value, self.is_secret = value, is_secret

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:
        """Return it."""
        return Headers({"X-Token": self.value})

    def describe(self, *, share: bool) -> Mapping[str, Any] | None:
        """Return it if that is allowed."""
        return {"value": self.value} if share or not self.is_secret else None


class Known(Authenticator):
    """An authenticator that a child can rebuild."""

    opener = "test_authentication:opened"


def opened(origin: str, description: Mapping[str, Any]) -> Known:
    """Rebuild one, as a child does."""
    if "agent" in description:
        return Known(origin, FromParent(description["agent"], origin))
    return Known(origin, Fixed(description["value"]))


class Request(NamedTuple):
    """A prepared request of `requests`, reduced to the attributes in use."""

    url: str
    headers: dict[str, str]


def ask(*origins: str) -> list[str]:
    """Fetch headers in a separate process, and return its output."""
    path = os.path.dirname(__file__)  # noqa: PTH120 - for a variable
    done = subprocess.run(
        [sys.executable, "-c", ASK, *origins],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_two_at_once_serve_their_own_origins() -> None:
    """A server and a registry have different identities in one block, in this process and in a child."""
    endpoint = Endpoint(
        "https://mlflow.example.com",
        VENDOR,
        binders=(Known(HTTP, Fixed("one")), Known(VENDOR, Fixed("two", is_secret=False))),
    )
    with Applied(endpoint):
        request = authenticate(Request("https://mlflow.example.com/api", {}))
        assert request.headers == {"X-Token": "one"}
        assert authenticate(Request("https://elsewhere.example.com/api", {})).headers == {}
        found = authenticator_of(VENDOR)
        assert found is not None
        assert found.headers().values == {"X-Token": "two"}
        assert origins_in_force(Known.opener) == [HTTP, VENDOR]
        assert "one" not in os.environ[DESCRIPTION_VARIABLE]
        assert ask(HTTP, VENDOR) == ["{'X-Token': 'one'}", "{'X-Token': 'two'}"]
    assert DESCRIPTION_VARIABLE not in os.environ
    assert AUTH_VARIABLE not in os.environ


def test_mlflows_variable_is_set_only_for_its_own_requests() -> None:
    """For a vendor's client that fetches headers itself, MLflow's variable stays unset."""
    authenticator = Known(VENDOR, Fixed("two"))
    authenticator.bind()
    try:
        assert AUTH_VARIABLE not in os.environ
        assert json.loads(os.environ[DESCRIPTION_VARIABLE])[0]["origin"] == VENDOR
    finally:
        authenticator.unbind()


def test_variables_for_a_process_that_outlives_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """They contain the secret of that server only; a shell gets them only if there is none."""
    first, second = Known(HTTP, Fixed("one")), Known(VENDOR, Fixed("two", is_secret=False))
    first.bind()
    second.bind()
    try:
        lasting = lasting_variables("https://mlflow.example.com")
        assert json.loads(lasting[DESCRIPTION_VARIABLE])[0]["description"] == {"value": "one"}
        assert lasting[AUTH_VARIABLE] == PROVIDER_NAME
        assert set(lasting_variables(f"{VENDOR}?")) == {DESCRIPTION_VARIABLE}
        assert lasting_variables("https://elsewhere.example.com") == {}
    finally:
        second.unbind()
        first.unbind()
    assert variables_for_shell([first, second]) is None
    assert variables_for_shell([second]) == second.variables()


def test_an_inherited_authenticator_is_bound_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is imported already is told of it; a server without any is left alone."""
    binds: list[str] = []
    monkeypatch.setitem(sys.modules, "test_authentication", sys.modules[__name__])
    known = Known(VENDOR, Fixed("v", is_secret=False))
    monkeypatch.setenv(DESCRIPTION_VARIABLE, known.variables()[DESCRIPTION_VARIABLE])
    monkeypatch.setattr(Known, "bind", lambda self: binds.append(f"bind {self.origin}"))
    monkeypatch.setattr(Known, "unbind", lambda self: binds.append(f"unbind {self.origin}"))
    with bound("https://other"):
        assert binds == []
    with pytest.raises(KeyError), bound(f"{VENDOR}?"):
        raise KeyError
    assert binds == [f"bind {VENDOR}", f"unbind {VENDOR}"]


def test_a_parent_is_asked_only_for_its_own_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only descriptions with a parent's socket are sources, whatever was bound in this process since."""
    entries = [
        {"origin": HTTP, "opener": Known.opener, "description": {"agent": "/socket"}},
        {"origin": VENDOR, "opener": Known.opener, "description": {"value": "two"}},
        {"origin": VENDOR, "opener": "other:opener", "description": {"agent": "/socket"}},
    ]
    monkeypatch.setattr("mlflow_connections.authentication._from_parent", json.dumps(entries))
    assert from_parent(Known.opener) == [FromParent("/socket", HTTP)]
    assert from_parent("third:opener") == []


def test_a_parent_that_has_ended_is_noticed() -> None:
    """Variables of a child are of no use then; those without a parent, or of another server, are."""
    secret, public = Known(HTTP, Fixed("one")), Known(VENDOR, Fixed("two", is_secret=False))
    variables = variables_of([secret, public])
    assert not has_lost_parent("https://mlflow.example.com", variables)
    forget_agents()
    assert has_lost_parent("https://mlflow.example.com", variables)
    assert not has_lost_parent(f"{VENDOR}?", variables)
    assert not has_lost_parent("https://elsewhere.example.com", variables)
    assert not has_lost_parent("https://mlflow.example.com", {})


def test_without_unix_sockets_only_a_child_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows this process works, and a child raises an error with the remedy."""
    monkeypatch.delattr(socket, "AF_UNIX")
    with Applied(Endpoint("https://mlflow.example.com", binders=(Known(HTTP, Fixed("one")),))):
        assert authenticate(Request(f"{HTTP}/api", {})).headers == {"X-Token": "one"}
        (said,) = ask(HTTP)
    assert said.startswith("This system has no Unix sockets to sign in child processes by")
    assert "`share_with_workers: true`" in said


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[1]",
        json.dumps([{"origin": HTTP}]),
        json.dumps([{"origin": HTTP, "opener": "nowhere:opener", "description": {}}]),
        json.dumps([{"origin": HTTP, "opener": "operator:eq", "description": {}}]),
    ],
)
def test_a_description_that_cannot_be_opened_is_one_sentence(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No unauthenticated request is sent because of it."""
    monkeypatch.setenv(DESCRIPTION_VARIABLE, text)
    with pytest.raises(ConnectionsError) as caught:
        authenticate(Request(f"{HTTP}/api", {}))
    assert isinstance(caught.value, PluginLoadError)


def test_mlflows_variable_without_a_connection_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that should have been authenticated is not sent without credentials."""
    monkeypatch.delenv(DESCRIPTION_VARIABLE, raising=False)
    monkeypatch.setenv(AUTH_VARIABLE, PROVIDER_NAME)
    with pytest.raises(AccessError, match="no connection is in force"):
        authenticate(Request(f"{HTTP}/api", {}))
