"""A sandbox's folder: its kept values, its lock, and the check of the responding server."""

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from mlflow_connections_sandbox import MlflowServer, Sandbox, _mlflow_server
from mlflow_connections_sandbox._azure import Azure
from mlflow_connections_sandbox._azure._errors import AzureError
from mlflow_connections_sandbox._databricks import Databricks
from mlflow_connections_sandbox._databricks._errors import ApiError
from mlflow_connections_sandbox._databricks._unity_catalog import Details
from mlflow_connections_sandbox._http import ProtectedMlflow
from mlflow_connections_sandbox._kept import FolderLock, KeptValues
from mlflow_connections_sandbox._loopback import LoopbackServer
from mlflow_connections_sandbox._stand_in import StandIn, shell_of
from mlflow_connections_sandbox.databand import Databand

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def healthy_stranger() -> Iterator[LoopbackServer]:
    """Another program's server, which is healthy like MLflow's and answers every request."""
    server = LoopbackServer("stranger")
    answer = Route("/{path:path}", lambda _: PlainTextResponse("OK"))
    server.start(Starlette(routes=[answer]))
    yield server
    server.close()


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that another program uses."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("kind", [Databand, Databricks, ProtectedMlflow])
def test_a_stand_in_keeps_its_address_and_its_secrets(kind: type[StandIn], tmp_path: Path) -> None:
    """In the same folder the next one has the same environment, from a file that only its owner can read."""
    first = kind(NOBODY, tmp_path / "one")
    first.start()
    environment = first.environment()
    first.close()
    kept = tmp_path / "one" / "kept.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    again = kind(NOBODY, tmp_path / "one")
    again.start()
    try:
        assert again.environment() == environment
    finally:
        again.close()


def test_secrets_differ_between_folders(tmp_path: Path) -> None:
    """The token of another sandbox cannot be guessed."""
    one, other = (Databricks(NOBODY, tmp_path / name) for name in ("one", "other"))
    assert one.access.token != other.access.token


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    """The message names the file and the remedy."""
    (tmp_path / "kept.json").write_text("[")
    with pytest.raises(ValueError, match=r"kept\.json does not hold .* delete it"):
        KeptValues(tmp_path / "kept.json")


def test_a_folder_belongs_to_one_sandbox(tmp_path: Path) -> None:
    """The second one is refused in one sentence, before anything starts; the folder is free again after the first."""
    lock = FolderLock(tmp_path)
    lock.acquire()
    with pytest.raises(RuntimeError, match=r"belongs to a sandbox that runs \(process \d+\)"):
        Sandbox(tmp_path, ["databricks"]).start()
    lock.close()
    next_one = FolderLock(tmp_path)
    next_one.acquire()
    next_one.close()


def test_a_taken_port_is_one_sentence(tmp_path: Path, listener: int) -> None:
    """Whether it is the page's, MLflow's or a stand-in's, the message names the port and `--port`."""
    with pytest.raises(
        RuntimeError, match=rf"port {listener} of the MLflow server is taken.*--port"
    ):
        MlflowServer(tmp_path / "mlflow", listener).start()
    kept = KeptValues(tmp_path / "kept.json")
    kept.put("port", listener)
    kept.write()
    with pytest.raises(
        RuntimeError, match=rf"port {listener} of the stand-in 'databricks' is taken"
    ):
        Databricks(NOBODY, tmp_path)


def test_the_loser_of_a_port_is_not_mistaken_for_the_winner(
    healthy_stranger: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that could not get its port fails, although another healthy one responds there."""
    loser = tmp_path / "loser.py"
    loser.write_text("import sys, time\ntime.sleep(0.5)\nsys.exit('address already in use')\n")
    monkeypatch.setattr(_mlflow_server, "_MLFLOW", loser)
    monkeypatch.setattr(_mlflow_server, "free_port", lambda: healthy_stranger.port)
    with pytest.raises(RuntimeError, match="address already in use"):
        MlflowServer(tmp_path / "mlflow").start()


HEALTHY = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Sandbox-Nonce", os.environ["SANDBOX_NONCE"])
        self.end_headers()
address = "127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(address, Handler).serve_forever()
"""


def test_a_server_can_be_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill none of its processes runs, and it returns on its port. Only its own process kills it."""
    program = tmp_path / "healthy.py"
    program.write_text(HEALTHY)
    monkeypatch.setattr(_mlflow_server, "_MLFLOW", program)
    with MlflowServer(tmp_path / "mlflow", _mlflow_server.free_port()) as server:
        url = server.url
        server.kill()
        assert not _mlflow_server.has_nonce(url, server.nonce)
        with pytest.raises(RuntimeError, match=r"No MLflow server in .* started by this process"):
            server.kill()
        server.start()
        assert server.url == url
        assert _mlflow_server.has_nonce(url, server.nonce)


def bearing(token: str) -> Request:
    """Return a request with a token."""
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]})


def test_a_workspace_that_starts_again_knows_what_it_had(tmp_path: Path) -> None:
    """A version without files stays incomplete, and folders stay; its personal token can be replaced."""
    first = Databricks(NOBODY, tmp_path)
    first.unity_catalog._note("dbfs:/unity-catalog/models/a", Details("runs:/1/model"))
    first._tracking._add_folder("/Shared/team")
    old = first.access.token
    second = Databricks(NOBODY, tmp_path)
    details = [
        second.unity_catalog._detail({"source": f"dbfs:/unity-catalog/models/{x}"}) for x in "ab"
    ]
    assert details[0] == Details("runs:/1/model", is_ready=False)
    assert details[1].is_ready
    second._tracking._check_name("/Shared/team/wine")
    assert second.access.token == old
    second.access.check(bearing(old))
    second.access.replace_token()
    second.access.check(bearing(second.access.token))
    with pytest.raises(ApiError, match="Invalid access token"):
        second.access.check(bearing(old))


def test_azure_that_starts_again_knows_its_tokens_and_certificates(tmp_path: Path) -> None:
    """A client goes on with the token and the authority that it has, until the tokens are revoked."""
    audience = "https://management.azure.com"
    first = Azure(NOBODY, tmp_path)
    token = first.tokens.issue(audience, "a person")
    first.kept.write()
    second = Azure(NOBODY, tmp_path)
    second.tokens.check(bearing(token), (audience,))
    authorities = {each.proxy._authority.cert_pem.bytes() for each in (first, second)}
    assert len(authorities) == 1
    second.tokens.revoke()
    for azure in (second, Azure(NOBODY, tmp_path)):
        with pytest.raises(AzureError, match="It is invalid"):
            azure.tokens.check(bearing(token), (audience,))


def test_a_nonce_identifies_the_server(healthy_stranger: LoopbackServer) -> None:
    """Only a healthy response with the nonce is the server's own."""
    assert not _mlflow_server.has_nonce(healthy_stranger.url, "n")
    assert not _mlflow_server.has_nonce(NOBODY, "n")
    own = LoopbackServer("own")
    headers = {_mlflow_server.NONCE_HEADER: "n"}
    own.start(Starlette(routes=[Route("/health", lambda _: JSONResponse({}, headers=headers))]))
    try:
        assert _mlflow_server.has_nonce(own.url, "n")
        assert not _mlflow_server.has_nonce(own.url, "m")
    finally:
        own.close()


def test_ports_are_consecutive(tmp_path: Path) -> None:
    """With a port chosen by the user each part has its own, whichever parts are started."""
    sandbox = Sandbox(tmp_path, ["databricks"], port=20_000)
    sandbox._choose_ports(KeptValues(tmp_path / "kept.json"))
    ports = {
        name: KeptValues(tmp_path / name / "kept.json").port("port")
        for name in ("azureml", "databand", "databricks", "http", "snowflake")
    }
    assert ports == {
        "azureml": 20_002,
        "databand": 20_003,
        "databricks": 20_004,
        "http": 20_005,
        "snowflake": 20_006,
    }
    assert KeptValues(tmp_path / "azureml" / "kept.json").port("proxy_port") == 20_007
    assert KeptValues(tmp_path / "http" / "kept.json").port("mtls_port") == 20_008


def test_a_shell_of_stand_ins_has_no_other_account(tmp_path: Path) -> None:
    """Variables that would direct a service's client elsewhere are omitted; all others stay."""
    workspace = Databricks(NOBODY, tmp_path)
    before = {"DATABRICKS_CONFIG_PROFILE": "work", "DATABRICKS_HOST": "https://x", "PATH": "/bin"}
    assert shell_of([workspace], before) == {"PATH": "/bin", **workspace.environment()}


def test_a_relative_folder_is_made_absolute_for_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that variables name, such as certificates, are found from any working directory."""
    monkeypatch.chdir(tmp_path)
    sandbox = Sandbox(Path("sandbox"), ["databricks"])
    monkeypatch.chdir("/")
    assert (sandbox.folder, sandbox.server.folder) == (
        tmp_path / "sandbox",
        tmp_path / "sandbox" / "mlflow",
    )
