"""Every source of headers: its requests, its lifetimes and its errors."""

import base64
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections import AccessError, UnreachableError
from mlflow_connections.headers import Headers, HeaderSource
from mlflow_connections_http._sources import (
    ClientCredentials,
    Fixed,
    TokenCommand,
    TokenFile,
    TokenHeader,
    WithFixed,
    lifetime_of,
    parse_token,
    rebuild,
)


def client(server: Any, /, **changes: Any) -> ClientCredentials:
    """Return the issuer's own client."""
    name, secret = server.client
    return ClientCredentials(
        **{"issuer": f"{server.url}/realm", "client_id": name, "client_secret": secret, **changes}
    )


def jwt(**claims: Any) -> str:
    """Create an unsigned JWT."""
    parts = [{"alg": "none"}, claims]
    return (
        ".".join(
            base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts
        )
        + ".x"
    )


def python(code: str, timeout: float = 30.0) -> TokenCommand:
    """Return a command that runs Python."""
    return TokenCommand((sys.executable, "-c", code), timeout)


@pytest.mark.parametrize("way", ["basic", "post"])
def test_a_client_gets_tokens_from_a_discovered_endpoint(issuer: Any, way: str) -> None:
    """ID and secret arrive complete with either method, also with characters that must be encoded."""
    found = client(issuer, client_auth=way).fetch(None)
    kind, _, token = found.values["Authorization"].partition(" ")
    assert kind == "Bearer"
    assert issuer.accepts(token)
    assert found.lifetime == 60.0


def test_scope_audience_and_resource_are_requested(issuer: Any) -> None:
    """Each configured value is in the form of the request."""
    parameters = {"scope": "a b", "audience": "mlflow", "resource": "urn:x"}
    client(issuer, parameters=parameters).fetch(None)
    form = issuer.seen[-1][3].decode()
    assert "scope=a+b" in form
    assert "audience=mlflow" in form
    assert "resource=urn%3Ax" in form


def test_an_assertion_is_read_for_each_token(issuer: Any, tmp_path: Path) -> None:
    """With workload identity, the file that another program renews authenticates the client."""
    file = tmp_path / "assertion"
    source = client(issuer, client_secret=None, client_assertion_file=str(file))
    for text in ("first", "second"):
        file.write_text(f"{text}\n")
        source.fetch(None)
        assert f"client_assertion={text}" in issuer.seen[-1][3].decode()


def test_netrc_changes_nothing(
    issuer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `~/.netrc` entry for the issuer's host does not replace the client."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert client(issuer).fetch(None).values


def test_a_wrong_secret_shows_the_issuers_reason_and_not_the_secret(issuer: Any) -> None:
    """The message contains the client and the issuer's reason, and no secret."""
    with pytest.raises(AccessError) as caught:
        client(issuer, client_secret="wr0ng").fetch(None)
    assert "refused client 'trainer' (401): invalid_client" in str(caught.value)
    assert "wr0ng" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unavailable_issuer_is_tried_three_times(issuer: Any) -> None:
    """The source retries, because MLflow does not repeat a request that could not be authenticated."""
    issuer.down = 503
    with pytest.raises((AccessError, UnreachableError)):
        client(issuer, issuer=None, token_url=f"{issuer.url}/token").fetch(None)
    assert issuer.issued == 3


def test_an_issuer_that_does_not_listen_is_one_sentence(issuer: Any) -> None:
    """The message contains the address and the reason, without a chain of clients' exceptions."""
    issuer.close()
    with pytest.raises(UnreachableError, match=r"cannot be reached: Connection refused\.$"):
        client(issuer).fetch(None)


def test_an_issuer_without_metadata_is_reported(issuer: Any) -> None:
    """A wrong `issuer` names both remedies."""
    with pytest.raises(UnreachableError, match="check 'issuer', or set 'token_url'"):
        client(issuer, issuer=f"{issuer.url}/nowhere").fetch(None)


def test_a_token_file_is_read_when_it_changes(tmp_path: Path) -> None:
    """Its mark changes with the file, also when it is replaced by a rename, as Kubernetes does."""
    file = tmp_path / "token"
    file.write_text("one\n")
    source = TokenFile(str(file))
    assert source.fetch(None).values == {"Authorization": "Bearer one"}
    before = source.mark()
    new = tmp_path / "new"
    new.write_text("two\n")
    new.replace(file)
    assert source.mark() != before
    assert source.fetch(None).values == {"Authorization": "Bearer two"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("\n", "is empty"),
        ("two words", "did not yield a token"),
    ],
)
def test_a_token_file_without_a_token_is_one_sentence(
    content: str | None, said: str, tmp_path: Path
) -> None:
    """The message names the file, and does not show its contents."""
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(AccessError, match=said) as caught:
        TokenFile(str(file)).fetch(None)
    assert str(file) in str(caught.value)
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "lifetime"),
    [
        ({"kind": "ExecCredential", "status": {"token": "t"}}, None),
        ({"access_token": "t", "expires_in": 300}, 300),
        ({"id_token": "t"}, None),
        ({"credential": {"access_token": "t", "id_token": None}}, None),
        ({"token": "t"}, None),
    ],
)
def test_a_command_may_print_the_json_of_known_programs(
    content: dict[str, Any], lifetime: float | None
) -> None:
    """Kubectl's ExecCredential, `az`, `gcloud` and plain OAuth responses yield their token and lifetime."""
    token, found = parse_token(json.dumps(content), "it")
    assert token == "t"
    assert found == (lifetime if lifetime is None else pytest.approx(lifetime, abs=30))


def test_an_expiry_becomes_the_remaining_seconds() -> None:
    """ExecCredential's timestamp and `az`'s seconds since 1970 become remaining seconds."""
    content: dict[str, Any] = {"accessToken": "t", "expires_on": time.time() + 1000}
    assert parse_token(json.dumps(content), "it")[1] == pytest.approx(1000, abs=30)
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    content = {"status": {"token": "t", "expirationTimestamp": then}}
    assert parse_token(json.dumps(content), "it")[1] == pytest.approx(600, abs=30)


def test_a_jwts_lifetime_does_not_depend_on_this_clock() -> None:
    """It is `exp - iat`, so with a clock that is an hour off, tokens are renewed neither constantly nor never."""
    assert lifetime_of(jwt(iat=1000, exp=1300)) == 300
    assert lifetime_of("opaque") is None
    assert lifetime_of(jwt(exp=5)) is None


def test_a_command_prints_a_bare_token() -> None:
    """A command's whole output, without surrounding white space, is the token."""
    assert python("print('abc')").fetch(None).values == {"Authorization": "Bearer abc"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            python("import sys; print('t0ken'); sys.exit('no login for t0ken')"),
            r"exit code 1: no login for \*\*\*",
        ),
        (python("import time; time.sleep(60)", timeout=0.2), "did not end within 0.2 s"),
        (python("print('{\"a\": 1}')"), "printed JSON without a token"),
        (python("print('{')"), "begins like JSON and is not valid JSON"),
        (python(""), "did not yield a token"),
        (TokenCommand(("no-such-program",)), "cannot be started: No such file"),
    ],
)
def test_a_command_without_a_token_is_one_sentence(source: TokenCommand, said: str) -> None:
    """The message names the command and the reason, and shows no token."""
    with pytest.raises(AccessError, match=said) as caught:
        source.fetch(None)
    assert "token_command '" in str(caught.value)
    assert "t0ken" not in str(caught.value)


def test_another_header_may_carry_the_token(tmp_path: Path) -> None:
    """`Proxy-Authorization` leaves `Authorization` to the server behind the proxy."""
    file = tmp_path / "token"
    file.write_text("t")
    source = TokenFile(str(file), TokenHeader("Proxy-Authorization"))
    assert source.fetch(None).values == {"Proxy-Authorization": "Bearer t"}


def test_secret_headers_go_with_a_token() -> None:
    """Secret headers and the token both arrive; the lifetime is the token's."""

    class Lasting(HeaderSource):
        def fetch(self, rejected: Any) -> Headers:
            return Headers({"Authorization": "Bearer t"}, 5.0)

    found = WithFixed(Lasting(), {"CF-Access-Client-Secret": "s"}).fetch(None)
    assert found.values == {"Authorization": "Bearer t", "CF-Access-Client-Secret": "s"}
    assert found.lifetime == 5.0


SHAREABLE: dict[str, Callable[[], HeaderSource]] = {
    "none": lambda: Fixed({}),
    "file": lambda: TokenFile("/token", TokenHeader("X", "")),
    "command": lambda: TokenCommand(("gcloud", "print"), 3.0),
    "assertion": lambda: ClientCredentials(
        token_url="https://i/t", client_id="c", client_assertion_file="/a"
    ),
}
SECRET: dict[str, Callable[[], HeaderSource]] = {
    "client": lambda: ClientCredentials(issuer="https://i", client_id="c", client_secret="s3cr3t"),
    "headers": lambda: Fixed({"X": "s3cr3t"}),
    "both": lambda: WithFixed(TokenFile("/token"), {"X": "s3cr3t"}),
}


@pytest.mark.parametrize("name", SHAREABLE)
def test_a_source_without_a_secret_is_rebuilt_in_a_child(name: str) -> None:
    """Its description passes through JSON and makes an equal source."""
    source = SHAREABLE[name]()
    text = json.dumps(source.describe(share=False))
    assert rebuild(json.loads(text), "https://m:443") == source


@pytest.mark.parametrize("name", SECRET)
def test_a_source_with_a_secret_describes_itself_only_on_request(name: str) -> None:
    """Without `share_with_workers` there is no description; with it, the description makes an equal source."""
    source = SECRET[name]()
    assert source.describe(share=False) is None
    assert rebuild(json.loads(json.dumps(source.describe(share=True))), "https://m:443") == source
    assert "s3cr3t" not in repr(source)
