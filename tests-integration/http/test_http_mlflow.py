"""Unmodified MLflow on a server whose tokens expire, in this process and in others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
import trustme
from mlflow.artifacts import download_artifacts

from mlflow_connections import use
from mlflow_connections.reports import probe
from mlflow_connections_sandbox import Fault

TRAIN = """
import mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("m", 1.0)
    mlflow.log_text("hello", "a.txt")
print(run.info.run_id)
"""


@pytest.fixture
def accounts(protected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that the stand-in prints."""
    for name, value in protected.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def connected(accounts: None, protected: Any) -> Iterator[None]:
    """The connection in force."""
    with use("http"):
        mlflow.set_experiment("behind-tokens")
        yield


def run(*words: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment."""
    command = [str(Path(sys.executable).with_name("mlflow-connections")), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **arguments)


def test_a_run_outlives_its_tokens(protected: Any, accounts: None, tmp_path: Path) -> None:
    """Metrics, 30 MB, a registered model, a trace and a download, over several lifetimes and without a 401."""
    # renewed at 2.4 s: on a busy machine the rest of the lifetime is left to arrive in time
    protected.lifetime = 3.0
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(30_000_000))
    with use("http"):
        mlflow.set_experiment("behind-tokens")
        with mlflow.start_run() as started:
            for step in range(10):
                mlflow.log_metric("m", float(step), step=step)
                time.sleep(0.6)
            mlflow.log_artifact(str(large))
            client = mlflow.MlflowClient()
            client.create_registered_model(f"model-{started.info.run_id}")
            if hasattr(mlflow, "start_span"):
                with mlflow.start_span("step"):
                    pass
        again = download_artifacts(
            run_id=started.info.run_id, artifact_path="large.bin", dst_path=str(tmp_path / "d")
        )
        assert Path(again).read_bytes() == large.read_bytes()
        history = client.get_metric_history(started.info.run_id, "m")
    assert [metric.value for metric in history] == [float(step) for step in range(10)]
    assert protected.issued >= 3
    assert protected.journal.counts().get(401, 0) == 0


@pytest.mark.usefixtures("connected")
def test_a_revoked_token_is_replaced(protected: Any) -> None:
    """The server returns 401 once, and nothing is lost."""
    with mlflow.start_run() as started:
        protected.revoke()
        mlflow.log_metric("m", 1.0)
        protected.revoke()
        mlflow.log_text("kept", "a.txt")
    assert mlflow.artifacts.load_text(f"{started.info.artifact_uri}/a.txt") == "kept"
    assert protected.issued == 3


def token_of(protected: Any) -> str:
    """Fetch a token as a cluster or a command line does."""
    client = protected.client
    form = {"grant_type": "client_credentials", "audience": client.audience}
    form |= {"client_id": client.client_id, "client_secret": client.client_secret}
    return str(
        requests.post(f"{protected.issuer}/token", data=form, timeout=30).json()["access_token"]
    )


@pytest.mark.parametrize("source", ["token_file", "token_command"])
def test_an_externally_renewed_token_is_read_again(
    protected: Any, tmp_path: Path, source: str
) -> None:
    """A file that is replaced, as Kubernetes does, and a command print the current token."""
    file = tmp_path / "token"
    file.write_text(token_of(protected))
    command = [sys.executable, "-c", f"print(open({str(file)!r}).read())"]
    value = str(file) if source == "token_file" else command
    with use("http", {}, {"url": protected.url, source: value}):
        mlflow.set_experiment("behind-tokens")
        with mlflow.start_run() as started:
            protected.revoke()
            file.write_text(token_of(protected))
            mlflow.log_text("kept", "a.txt")
        assert mlflow.artifacts.load_text(f"{started.info.artifact_uri}/a.txt") == "kept"


def log_and_load() -> None:
    """Log an artifact to the server in force, and load it again."""
    mlflow.set_experiment("behind-tokens")
    with mlflow.start_run() as started:
        mlflow.log_text("kept", "a.txt")
    assert mlflow.artifacts.load_text(f"{started.info.artifact_uri}/a.txt") == "kept"


def test_a_user_and_a_password_sign_in(protected: Any) -> None:
    """A wrong password raises the server's own message, and is not shown."""
    protected.account = ("trainer", "p+%ss w0rd")
    with use("http", {"username": "trainer", "password": "p+%ss w0rd"}, {"url": protected.url}):
        log_and_load()
    wrong = {"username": "trainer", "password": "wr0ng-pass"}
    with (
        use("http", wrong, {"url": protected.url}),
        pytest.raises(
            Exception, match=r"refuses these credentials \(401\) and says Basic"
        ) as caught,
    ):
        mlflow.MlflowClient().search_experiments()
    assert "wr0ng-pass" not in str(caught.value)
    assert protected.issued == 0


@pytest.mark.usefixtures("accounts")
def test_a_token_in_another_header_signs_in(protected: Any) -> None:
    """A proxy reads it from `Proxy-Authorization`, which leaves `Authorization` to the server behind it."""
    protected.header = "proxy-authorization"
    with use("http", {}, {"header": "Proxy-Authorization"}):
        log_and_load()
    assert protected.issued == 1


def test_a_login_page_loses_no_artifact(protected: Any, tmp_path: Path) -> None:
    """Unmodified MLflow's `log_text` accepts a login page; with the connection it raises one sentence."""
    (tmp_path / "token").write_text("none")
    protected.secret_headers = {"X-Access": "secret"}
    with use("http", {}, {"url": protected.url, "token_file": str(tmp_path / "token")}):
        with pytest.raises(
            Exception, match=r"redirects to http://localhost:.*, as it does for people"
        ):
            mlflow.set_experiment("behind-tokens")
        with pytest.raises(Exception, match=r"redirects to http://localhost:"):
            mlflow.MlflowClient().log_text("0" * 32, "lost", "a.txt")


@pytest.mark.usefixtures("connected")
def test_another_origin_sees_no_credential(protected: Any, foreign: Any) -> None:
    """Neither a second client, nor a download by its URL, nor a redirect sends a credential."""
    protected.secret_headers = {"X-Access-Secret": "s3cr3t-header"}
    with use("http", {"headers": protected.secret_headers}):
        with mlflow.start_run() as started:
            mlflow.log_text("x", "a.txt")
        other = mlflow.MlflowClient(foreign.url)
        other.get_run(started.info.run_id)
        path = started.info.artifact_uri.partition("mlflow-artifacts:/")[2]
        base = f"{foreign.url}/api/2.0/mlflow-artifacts/artifacts"
        assert Path(download_artifacts(f"{base}/{path}/a.txt")).read_text() == "x"
        seen = len(foreign.headers)
        assert seen >= 2
        protected.faults.inject(
            Fault("/experiments/search", 307, headers=(("Location", f"{foreign.url}/x"),))
        )
        with pytest.raises(Exception, match=f"redirects to {foreign.url}"):
            mlflow.MlflowClient().search_experiments()
    assert len(foreign.headers) == seen  # the redirect was not followed
    known = {"authorization", "proxy-authorization", "cookie", "x-access-secret"}
    assert not [headers for headers in foreign.headers if known & headers.keys()]
    assert protected.client.client_secret not in str(foreign.headers)
    assert "s3cr3t-header" not in str(foreign.headers)


@pytest.fixture
def certified(protected: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in, with the variables of its address that requires a client certificate."""
    for name, value in protected.mtls_environment().items():
        monkeypatch.setenv(name, value)
    return protected


def test_a_client_certificate_opens_the_server(
    certified: Any, foreign: Any, warm_python: str
) -> None:
    """With an encrypted key and a private authority, artifacts pass, in this process and in a command."""
    with use("http"):
        mlflow.set_experiment("behind-certificates")
        with mlflow.start_run() as started:
            mlflow.log_text("x", "a.txt")
        mlflow.MlflowClient(foreign.url).get_run(started.info.run_id)
    done = run("run", "http", "--", warm_python, "-c", TRAIN)
    assert done.returncode == 0, done.stderr
    with use("http"):
        found = mlflow.get_run(done.stdout.strip().splitlines()[-1])
        assert found.data.metrics == {"m": 1.0}
        assert mlflow.artifacts.load_text(f"{found.info.artifact_uri}/a.txt") == "hello"
    assert certified.issued == 0
    assert certified.certificate.password not in str(foreign.headers)


def test_a_client_certificate_goes_with_secret_headers(certified: Any) -> None:
    """The server requires both; without the header it redirects to a login page, which is one sentence."""
    certified.secret_headers = {"X-Access-Secret": "s3cr3t-header"}
    with use("http", {"headers": certified.secret_headers}):
        mlflow.MlflowClient().search_experiments()
    with use("http"), pytest.raises(Exception, match=r"redirects to http://localhost:"):
        mlflow.MlflowClient().search_experiments()


@pytest.mark.parametrize(
    ("taken", "given", "sentence"),
    [
        (
            ("CLIENT_CERTIFICATE", "CLIENT_KEY"),
            {},
            "most likely because it wants a client certificate",
        ),
        ((), {"client_certificate": "other.pem"}, "refuses the client certificate"),
        (("CA_FILE",), {}, "is not trusted .*: set 'ca_file'"),
        (("CLIENT_KEY_PASSWORD",), {}, "client.key is encrypted: set 'client_key_password'"),
    ],
    ids=["none", "another", "untrusted", "no-password"],
)
def test_a_handshake_that_fails_is_one_sentence(
    certified: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    taken: tuple[str, ...],
    given: dict[str, str],
    sentence: str,
) -> None:
    """MLflow alone would retry for minutes; the sentence names the option to set."""
    for name in taken:
        monkeypatch.delenv(f"MLFLOW_CONNECTIONS_HTTP_{name}")
    other = tmp_path / "other.pem"
    stranger = trustme.CA().issue_cert("trainer@example.com")
    stranger.private_key_and_cert_chain_pem.write_to_path(other)
    options = {name: str(tmp_path / value) for name, value in given.items()}
    if given:
        monkeypatch.delenv("MLFLOW_CONNECTIONS_HTTP_CLIENT_KEY")
    with pytest.raises(Exception, match=sentence) as caught, use("http", {}, options):
        mlflow.MlflowClient().search_experiments()
    assert "Traceback" not in str(caught.value)
    assert certified.certificate.password not in str(caught.value)


@pytest.mark.usefixtures("accounts")
def test_spawned_workers_get_tokens(warm_python: str) -> None:
    """Workers without the secret in their environment log to the same server."""
    script = Path(__file__).with_name("work_in_parallel.py")
    done = subprocess.run([warm_python, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with use("http"):
        run_id = done.stdout.strip().splitlines()[-1]
        values = mlflow.MlflowClient().get_metric_history(run_id, "worker")
    assert sorted(metric.step for metric in values) == [0, 1, 2, 3]


@pytest.mark.usefixtures("accounts")
def test_a_command_runs_without_the_secret(protected: Any, warm_python: str) -> None:
    """`mlflow-connections run` stays as the parent, and passes on neither the secret nor a token."""
    code = f"{TRAIN}\nimport os\nassert {protected.client.client_secret!r} not in str(dict(os.environ))"
    done = run("run", "http", "--", warm_python, "-c", code)
    assert done.returncode == 0, done.stderr
    with use("http"):
        found = mlflow.get_run(done.stdout.strip().splitlines()[-1])
        assert found.data.metrics == {"m": 1.0}


@pytest.mark.usefixtures("accounts")
def test_a_command_may_use_the_connection_itself(warm_python: str) -> None:
    """It resolves from the same variables and asks the parent, since the secret is not among them."""
    code = f"from mlflow_connections import use\nwith use('http'):\n    exec({TRAIN!r})"
    done = run("run", "http", "--", warm_python, "-c", code)
    assert done.returncode == 0, done.stderr
    with use("http"):
        found = mlflow.get_run(done.stdout.strip().splitlines()[-1])
        assert found.data.metrics == {"m": 1.0}


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    ("code", "returned"),
    [
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_a_commands_exit_is_passed_on(code: str, returned: int) -> None:
    """Exit codes and signals are passed on unchanged."""
    assert run("run", "http", "--", sys.executable, "-c", code).returncode == returned


@pytest.mark.usefixtures("accounts")
def test_a_signal_reaches_the_command() -> None:
    """SIGTERM ends the command in its own way, and its exit code is passed on."""
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    script = str(Path(sys.executable).with_name("mlflow-connections"))
    command = [script, "run", "http", "--", sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 5


@pytest.mark.usefixtures("accounts")
def test_a_missing_command_has_a_shells_code() -> None:
    """A missing command exits with 127."""
    done = run("run", "http", "--", "no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr


@pytest.mark.usefixtures("accounts")
def test_check_contacts_the_server(
    protected: Any, monkeypatch: pytest.MonkeyPatch, warm_bin: Path
) -> None:
    """The issuer returns a real token; a wrong secret raises the issuer's message without the secret."""
    assert probe("http").tracking_uri == protected.url
    monkeypatch.setenv("MLFLOW_CONNECTIONS_HTTP_CLIENT_SECRET", "wr0ng")
    command = [str(warm_bin / "mlflow-connections"), "check", "http"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "refused client 'trainer' (401): invalid_client" in done.stderr
    assert "wr0ng" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("accounts")
def test_a_wrong_audience_is_reported(protected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The issuer's own error code is in the sentence."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_HTTP_AUDIENCE", "other")
    with (
        use("http"),
        pytest.raises(Exception, match="invalid_target requested audience is not known"),
    ):
        mlflow.MlflowClient().search_experiments()
