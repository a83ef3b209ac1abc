"""Hostile secrets in every connection and every command: no output contains one."""

import base64
import html
import json
import os
import subprocess
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_connections import ConnectionsError
from mlflow_connections._cli import main
from mlflow_connections.discovery import find_connection, installed_connections
from mlflow_connections.options import Option, declared_options
from mlflow_connections.reports import probe

KEYWORDS = sorted({each.keyword for each in installed_connections()})
SECRETS = [
    pytest.param(keyword, option, id=f"{keyword}-{option.name}")
    for keyword in KEYWORDS
    for option in declared_options(find_connection(keyword))
    if option.secret
]
PLAIN = [
    pytest.param(keyword, option, id=f"{keyword}-{option.name}")
    for keyword in KEYWORDS
    for option in declared_options(find_connection(keyword))
    if not option.in_credentials and (option.type is not str or option.choices)
]
HOSTILE = st.builds(
    "{}zq9~{}{}".format,
    st.sampled_from(["", " "]),
    st.text(
        st.one_of(
            st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc", "Cs"]),
            st.sampled_from(list("\\\"'%+/&=?#<>$`")),
        ),
        min_size=8,
        max_size=40,
    ),
    st.sampled_from(["", "\n", "\r\n", "\t"]),
)
FEW = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


def forms(secret: str) -> set[str]:
    """Return the forms that a client, a shell or a serializer gives a secret."""
    found = set()
    for text in (secret, secret.strip()):
        data = text.encode()
        found |= {text, repr(text)[1:-1], ascii(text)[1:-1], repr(data)[2:-1]}
        found |= {json.dumps(text)[1:-1], html.escape(text), quote(text), quote(text, safe="")}
        found |= {quote_plus(text), base64.b64encode(data).decode()}
    return found


class Echo(BaseHTTPRequestHandler):
    """A server that refuses every request and repeats the credentials in every form."""

    def do_GET(self) -> None:
        """Refuse."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = self.headers.get("Authorization") or ""
        token = sent.partition(" ")[2]
        said = [sent, repr(sent.encode()), token, *forms(token)]
        if sent.startswith("Basic"):
            said += [base64.b64decode(token).decode()]
        body = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": " ".join(said)})
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815 - the name that http.server looks up

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The address of the server that repeats credentials."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def shown_by(call: Any, capsys: pytest.CaptureFixture[str], log: pytest.LogCaptureFixture) -> str:
    """Return everything that a call prints, logs, and raises with its whole traceback."""
    capsys.readouterr()
    log.clear()
    raised = ""
    try:
        call()
    except ConnectionsError as error:
        raised = f"{error!r}{''.join(traceback.format_exception(error))}"
    printed = capsys.readouterr()
    return f"{printed.out}{printed.err}{raised}{log.text}"


def check(shown: str, secret: str) -> None:
    """Search for a secret in all its forms."""
    assert "zq9" not in shown
    assert not [form for form in forms(secret) if form in shown]


@pytest.mark.parametrize(("keyword", "option"), SECRETS)
def test_no_command_shows_a_secret(
    keyword: str,
    option: Option,
    echo: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A secret is hidden whether it is in its variable, in the credentials or in the wrong place."""
    addresses = ["host", "url", "databand_url", "duplicate_tracking_to", "tracking_uri"]
    names = [each.name for each in declared_options(find_connection(keyword))]
    options = {name: echo for name in addresses if name in names}
    flags = [flag for name in options for flag in ("--option", f"{name}={echo}")]

    @FEW
    @given(secret=HOSTILE)
    def every_command(secret: str) -> None:
        with monkeypatch.context() as patched:
            if option.env:
                patched.setenv(option.env, secret)
            for arguments in (
                ["show", keyword, *flags],
                ["show", keyword, *flags, "--output", "json"],
                ["show", keyword, *flags, "--option", f"{option.name}={secret}"],
                ["run", keyword, *flags, "--option", f"{option.name}={secret}", "--", "true"],
                ["env", keyword, *flags, "--option", f"{option.name}={secret}"],
                ["check", keyword, *flags, "--option", f"{option.name}={secret}"],
                ["list", "--output", "json"],
                ["schema"],
                ["run", keyword, *flags, "--", "no-such-command-here"],
            ):
                check(shown_by(lambda a=arguments: main(a), capsys, caplog), secret)
        for credentials in ({option.name: secret}, {option.name: [secret]}):
            with monkeypatch.context() as patched:
                patched.setenv("AZURE_AUTHORITY_HOST", "https://127.0.0.1:9")
                if keyword == "azureml":  # without an address a test has no network
                    options.pop("host", None)

                def resolve_and_ask(given: Any = credentials) -> None:
                    probe(keyword, given, options)

                check(shown_by(resolve_and_ask, capsys, caplog), secret)

    every_command()


@pytest.mark.parametrize(("keyword", "option"), PLAIN)
def test_a_secret_in_place_of_another_value_is_not_repeated(
    keyword: str,
    option: Option,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A secret in place of a number, a switch or a choice is refused without being shown."""

    @FEW
    @given(secret=HOSTILE)
    def every_command(secret: str) -> None:
        for command in ("show", "check"):
            arguments = [command, keyword, "--option", f"{option.name}={secret}"]
            shown = shown_by(lambda a=arguments: main(a), capsys, caplog)
            assert option.name in shown
            check(shown, secret)

    every_command()


@pytest.mark.parametrize("host", ["option", "variable"])
def test_a_token_with_a_line_break_is_sent_without_it_and_never_shown(
    host: str, echo: str, warm_python: str
) -> None:
    """`mlflow-connections check databricks` strips such a variable, wherever the host is configured."""
    secret = "dapi-zq9~s3cr3t"
    environment = {**os.environ, "DATABRICKS_TOKEN": f"{secret}\n"}
    arguments = ["check", "databricks", "--output", "json"]
    if host == "option":
        arguments += ["--option", f"host={echo}"]
    else:
        environment["DATABRICKS_HOST"] = echo
    done = subprocess.run(
        [warm_python, "-m", "mlflow_connections", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is False
    check(done.stdout + done.stderr, secret)
    assert "Invalid header" not in done.stdout
    assert echo in done.stdout
