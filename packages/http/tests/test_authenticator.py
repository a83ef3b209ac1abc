"""Each request to the server is authenticated, none to another server is, and a login page is not a success."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mlflow_connections import AccessError, ConnectionsError, use
from mlflow_connections.authentication import (
    AUTH_VARIABLE,
    DESCRIPTION_VARIABLE,
    PROVIDER_NAME,
    Provider,
    authenticate,
)

ASK = """
import sys, requests
from mlflow_connections.authentication import authenticate
try:
    print(requests.get(sys.argv[1], auth=authenticate, timeout=30).status_code)
except Exception as error:
    print(error)
"""


@pytest.fixture
def connected(issuer: Any, protected: Any) -> Iterator[None]:
    """The connection in force, as a client of the issuer."""
    name, secret = issuer.client
    options = {"url": protected.url, "issuer": f"{issuer.url}/realm", "client_id": name}
    with use("http", {"client_secret": secret}, options):
        yield


def get(url: str, **arguments: Any) -> requests.Response:
    """Send a request as MLflow does: with the plugin's function as `auth`."""
    return requests.get(url, auth=Provider().get_auth(), timeout=30, **arguments)


def child(url: str, *, fork: bool = False) -> str:
    """Send a request in a separate process, and return its output."""
    if not fork:
        done = subprocess.run(
            [sys.executable, "-c", ASK, url], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()
    reader, writer = os.pipe()
    if (process := os.fork()) == 0:
        try:
            os.write(writer, str(get(url).status_code).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(process, 0)
    with os.fdopen(reader) as stream:
        return stream.read()


@pytest.mark.usefixtures("connected")
def test_requests_to_the_server_carry_a_token(issuer: Any, protected: Any) -> None:
    """All requests share one token."""
    assert [get(protected.url).status_code for _ in range(5)] == [200] * 5
    assert issuer.issued == 1


@pytest.mark.usefixtures("connected")
def test_nothing_reaches_another_server(protected: Any, foreign: Any) -> None:
    """Neither a separate request nor one to the same host and another port carries the token."""
    get(foreign.url)
    get(foreign.url.replace("127.0.0.1", "localhost"))
    assert all("authorization" not in headers for _, _, headers, _ in foreign.seen)
    assert len(foreign.seen) == 2


def test_secret_headers_do_not_follow_a_redirect(protected: Any, foreign: Any) -> None:
    """A redirect to another port, to which `requests` would send the headers, is refused before it is followed."""
    protected.refusal, protected.elsewhere = "redirect", foreign.url
    credentials = {"headers": {"CF-Access-Client-Secret": "s3cr3t"}}
    with use("http", credentials, {"url": protected.url}), pytest.raises(AccessError) as caught:
        get(protected.url)
    assert f"redirects to {foreign.url}" in str(caught.value)
    assert foreign.seen == []
    assert protected.seen[0][2]["cf-access-client-secret"] == "s3cr3t"


@pytest.mark.usefixtures("connected")
def test_a_login_page_is_not_a_success(issuer: Any, protected: Any) -> None:
    """HTML with 200 in place of MLflow's JSON is refused in one sentence."""
    protected.refusal = "page"
    issuer.lifetime = -1
    with pytest.raises(AccessError, match="answered with a web page instead of MLflow's response"):
        get(protected.url)


@pytest.mark.usefixtures("connected")
def test_an_artifact_may_be_a_page(protected: Any) -> None:
    """HTML artifacts, which MLflow sends as attachments, are accepted."""
    assert get(f"{protected.url}/page").text == "<html>mine</html>"


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("size", [0, 30_000_000])
def test_a_revoked_token_is_renewed_and_the_request_repeated(
    size: int, issuer: Any, protected: Any
) -> None:
    """The body arrives complete at the second attempt, even 30 MB of it from a stream."""
    get(protected.url)
    issuer.valid.clear()
    answer = requests.put(
        protected.url, data=io.BytesIO(b"x" * size), auth=authenticate, timeout=60
    )
    assert answer.json() == {"received": size}
    assert [len(body) for method, _, _, body in protected.seen if method == "PUT"] == [size, size]
    assert issuer.issued == 2


@pytest.mark.usefixtures("connected")
def test_a_lasting_refusal_is_one_sentence(issuer: Any, protected: Any) -> None:
    """After one new token the server's own reason is shown, and no further attempt is made."""
    issuer.lifetime = -1
    with pytest.raises(AccessError) as caught:
        get(protected.url)
    assert 'refuses these credentials (401) and says Bearer realm="mlflow"' in str(caught.value)
    assert issuer.issued == 2


def test_the_boundary_binds_and_unbinds(issuer: Any, protected: Any) -> None:
    """MLflow's variable is set only inside the block, and later requests are sent as before."""
    name, secret = issuer.client
    options = {"url": protected.url, "issuer": f"{issuer.url}/realm", "client_id": name}
    with use("http", {"client_secret": secret}, options):
        assert os.environ[AUTH_VARIABLE] == PROVIDER_NAME
        assert secret not in "".join(os.environ.values())
        with use(f"sqlite:///{os.devnull}"):
            assert AUTH_VARIABLE not in os.environ
            assert get(protected.url).status_code == 401
        assert get(protected.url).status_code == 200
    assert AUTH_VARIABLE not in os.environ
    assert DESCRIPTION_VARIABLE not in os.environ
    assert get(protected.url).status_code == 401


def test_two_identities_are_kept_apart(issuer: Any, protected: Any, tmp_path: Path) -> None:
    """Blocks with different tokens for one server each use their own."""
    seen = []
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        issuer.valid[name] = float("inf")
        with use("http", {}, {"url": protected.url, "token_file": str(tmp_path / name)}):
            get(protected.url)
        seen.append(protected.seen[-1][2]["authorization"])
    assert seen == ["Bearer one", "Bearer two"]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("fork", [False, True], ids=["subprocess", "fork"])
def test_a_child_gets_tokens_without_the_secret(fork: bool, issuer: Any, protected: Any) -> None:
    """A subprocess without the secret asks its parent; a forked worker has the secret in memory."""
    assert child(protected.url, fork=fork) == "200"
    assert issuer.client[1] not in json.dumps(dict(os.environ))


@pytest.mark.usefixtures("connected")
def test_a_childs_refusal_renews_the_parents_token(issuer: Any, protected: Any) -> None:
    """A token that was revoked is renewed by the parent, once."""
    get(protected.url)
    issuer.valid.clear()
    assert child(protected.url) == "200"
    assert issuer.issued == 2


def test_a_child_without_its_parent_gets_the_remedy(
    issuer: Any, protected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child without its parent fails with one sentence that names `share_with_workers`."""
    name, secret = issuer.client
    options = {"url": protected.url, "issuer": f"{issuer.url}/realm", "client_id": name}
    with use("http", {"client_secret": secret}, options):
        description = os.environ[DESCRIPTION_VARIABLE]
    monkeypatch.setenv(AUTH_VARIABLE, PROVIDER_NAME)
    monkeypatch.setenv(DESCRIPTION_VARIABLE, description)
    said = child(protected.url)
    assert "does not answer" in said
    assert "share_with_workers: true" in said


def test_a_source_without_a_secret_needs_no_parent(
    issuer: Any, protected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child rebuilds it from the description, and outlives the parent's block."""
    (tmp_path / "token").write_text("t")
    issuer.valid["t"] = float("inf")
    with use("http", {}, {"url": protected.url, "token_file": str(tmp_path / "token")}):
        description = os.environ[DESCRIPTION_VARIABLE]
    monkeypatch.setenv(AUTH_VARIABLE, PROVIDER_NAME)
    monkeypatch.setenv(DESCRIPTION_VARIABLE, description)
    assert child(protected.url) == "200"


def test_a_secret_is_shared_only_on_request(
    issuer: Any, protected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `share_with_workers` a child fetches tokens itself after the block has ended."""
    name, secret = issuer.client
    options = {
        "url": protected.url,
        "issuer": f"{issuer.url}/realm",
        "client_id": name,
        "share_with_workers": True,
    }
    with use("http", {"client_secret": secret}, options):
        description = os.environ[DESCRIPTION_VARIABLE]
    monkeypatch.setenv(AUTH_VARIABLE, PROVIDER_NAME)
    monkeypatch.setenv(DESCRIPTION_VARIABLE, description)
    assert child(protected.url) == "200"


def test_no_credential_means_no_request(protected: Any, foreign: Any, tmp_path: Path) -> None:
    """Without a token no request is sent, not even an unauthenticated one."""
    with (
        use("http", {}, {"url": protected.url, "token_file": str(tmp_path / "none")}),
        pytest.raises(ConnectionsError, match="cannot be read"),
    ):
        get(protected.url)
    assert protected.seen == []


def test_mlflows_own_token_does_not_leak(
    protected: Any, issuer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLFLOW_TRACKING_TOKEN, which would go to every server, is empty inside the block and restored afterwards."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "old")
    (tmp_path / "token").write_text("t")
    with use("http", {}, {"url": protected.url, "token_file": str(tmp_path / "token")}):
        inside = os.environ["MLFLOW_TRACKING_TOKEN"]
    assert inside == ""
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "old"
