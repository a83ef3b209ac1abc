"""The proxy of the Azure stand-in: other hosts are refused in tests, and passed on from a shell."""

import base64
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import pytest

from mlflow_connections_sandbox._azure import Azure


class Echo:
    """A TCP server that sends back the received data, and records it."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._greeting = greeting
        self.port: int = self._socket.getsockname()[1]
        self.got = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:  # closed before any connection
            return
        with connection:
            while chunk := connection.recv(4096):
                self.got += chunk
                connection.sendall(self._greeting or chunk)
                self._greeting = b""

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    """A stand-in on a machine without its own proxy."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    stand_in = Azure("http://127.0.0.1:9", tmp_path / "azureml")
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A host that is not Azure's."""
    server = Echo()
    yield server
    server.close()


def ask(azure: Azure, target: str, then: bytes = b"") -> bytes:
    """Request a target from the proxy, send data to it, and return everything that comes back."""
    parts = urlsplit(azure.proxy.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0))) as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = connection.recv(4096)
        if then:
            connection.sendall(then)
            answer += connection.recv(4096)
        return answer


def test_other_hosts_are_refused_in_a_test(azure: Azure, echo: Echo) -> None:
    """By default nothing leaves the machine."""
    assert ask(azure, f"localhost:{echo.port}").startswith(b"HTTP/1.1 403 ")
    assert echo.got == b""


def test_other_hosts_are_passed_on_from_a_shell(azure: Azure, echo: Echo) -> None:
    """Bytes pass through unread, so that TLS is between the client and the host."""
    azure.administer()
    answer = ask(azure, f"localhost:{echo.port}", b"\x16\x03 hello")
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n\x16\x03 hello"
    assert echo.got == b"\x16\x03 hello"


def test_an_unreachable_host_is_a_bad_gateway(azure: Azure) -> None:
    """The client learns immediately that the proxy could not connect."""
    azure.administer()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        assert ask(azure, f"localhost:{port}").startswith(b"HTTP/1.1 502 ")
    assert ask(azure, "localhost:no").startswith(b"HTTP/1.1 502 ")


def test_the_machines_own_proxy_is_used_for_other_hosts(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request for another host goes through the machine's own proxy, with its password."""
    upstream = Echo(b"HTTP/1.1 200 Yes\r\n\r\n")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{upstream.port}")
    azure.administer()
    assert ask(azure, "pypi.example:443") == b"HTTP/1.1 200 Yes\r\n\r\n"
    upstream.close()
    password = base64.b64encode(b"me:p@ss").decode()
    assert (
        upstream.got
        == (
            f"CONNECT pypi.example:443 HTTP/1.1\r\nHost: pypi.example:443\r\n"
            f"Proxy-Authorization: Basic {password}\r\n\r\n"
        ).encode()
    )


def test_its_environment_leaves_the_rest_of_a_shell_alone(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home stays, other hosts' certificates are trusted, and hosts that need no proxy still get none."""
    monkeypatch.setenv("NO_PROXY", "intranet.example, *, .azure.com")
    environment = azure.environment()
    assert "HOME" not in environment
    assert environment["NO_PROXY"] == "127.0.0.1,localhost,intranet.example"
    bundle = Path(environment["REQUESTS_CA_BUNDLE"]).read_text()
    assert Path(certifi.where()).read_text().rstrip() in bundle
    assert bundle.count("BEGIN CERTIFICATE") == 1 + Path(certifi.where()).read_text().count(
        "BEGIN CERTIFICATE"
    )


def test_certificates_that_the_machine_trusts_are_trusted_by_clients(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's own bundle stays in force for hosts that are not Azure's, also in a shell of the sandbox."""
    company = tmp_path / "company.pem"
    company.write_text("the company's\n")
    for bundle in (company, azure.proxy.bundle):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        azure.close()
        azure.start()
        text = azure.proxy.bundle.read_text()
        assert ("the company's" in text) is (bundle == company)
        assert text.rstrip().endswith("-----END CERTIFICATE-----")


def test_a_restart_keeps_the_proxys_port(azure: Azure, tmp_path: Path) -> None:
    """A shell that has the variables reaches the restarted proxy."""
    before = azure.proxy.url
    azure.close()
    again = Azure("http://127.0.0.1:9", tmp_path / "azureml")
    again.start()
    try:
        assert again.proxy.url == before
    finally:
        again.close()


def test_a_proxy_port_that_is_taken_is_one_sentence(azure: Azure, tmp_path: Path) -> None:
    """A port that another program uses is an error, and does not hang."""
    other = Azure("http://127.0.0.1:9", tmp_path / "other")
    other.proxy.port = azure.proxy.port
    with pytest.raises(RuntimeError, match="Azure proxy is taken by another program"):
        other.start()
    other.close()
