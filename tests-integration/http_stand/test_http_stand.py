"""Unmodified MLflow behind a certified OpenID provider and Apache's own modules."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
import trustme
from mlflow.artifacts import download_artifacts

from mlflow_connections import use

WORK = Path(__file__).with_name("work.py")
JWT, OPAQUE = "https://mlflow.test/signed", "https://mlflow.test/opaque"
KNOWN = {"authorization", "proxy-authorization", "cookie", "x-stand"}


def options(stand: Any, host: str = "OPAQUE", **more: Any) -> dict[str, Any]:
    """Return the connection's options for one of the virtual hosts."""
    urls = {"OPAQUE": stand.opaque_url, "JWT": stand.jwt_url}
    return {
        "url": urls[host],
        "issuer": stand.issuer,
        "client_id": "trainer",
        "scope": "tracking",
        "resource": OPAQUE if host == "OPAQUE" else JWT,
        "ca_file": str(stand.ca_file),
        **more,
    }


def toml(stand: Any, folder: Path) -> dict[str, str]:
    """Write a file with the named connection `stand`, and return the variables of a process that uses it."""
    path = folder / "mlflow-connections.toml"
    lines = [
        "[connections.stand]",
        "connection = 'http'",
        *(f"{name} = {value!r}" for name, value in options(stand).items()),
        "credentials = { client_secret = { env = 'STAND_SECRET' } }",
    ]
    path.write_text("\n".join(lines))
    return {**os.environ, "MLFLOW_CONNECTIONS_FILE": str(path), "STAND_SECRET": stand.secret}


def exported(stand: Any) -> dict[str, str]:
    """Return the variables of a process that reads all options from its environment."""
    names = ("url", "issuer", "client_id", "scope", "resource", "ca_file")
    found = options(stand)
    return {
        **os.environ,
        **{f"MLFLOW_CONNECTIONS_HTTP_{name.upper()}": found[name] for name in names},
        "MLFLOW_CONNECTIONS_HTTP_CLIENT_SECRET": stand.secret,
    }


def run(command: list[str], environment: Mapping[str, str]) -> list[str]:
    """Run a program to its end and return the IDs of the runs that it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    # MLflow prints links to its pages as well.
    return re.findall(r"^[0-9a-f]{32}$", done.stdout, re.MULTILINE)


def check_run(stand: Any, run_id: str, host: str = "OPAQUE") -> None:
    """Check that a run of `work.py` is complete."""
    with use("http", {"client_secret": stand.secret}, options(stand, host)):
        client = mlflow.MlflowClient()
        history = client.get_metric_history(run_id, "m")
        assert [metric.value for metric in history] == [float(step) for step in range(26)]
        files = {each.path: each.file_size for each in client.list_artifacts(run_id)}
        assert files["large.bin"] == 30_000_000
        assert client.get_registered_model(f"model-{run_id}").name == f"model-{run_id}"
        (version,) = client.search_model_versions(f"run_id='{run_id}'")
        assert str(version.source).endswith("small.txt")
        experiment_id = client.get_run(run_id).info.experiment_id
        traces = client.search_traces([experiment_id], max_results=100)
        assert any(run_id in str(trace.data.spans[0].inputs) for trace in traces)


@pytest.mark.parametrize("host", ["OPAQUE", "JWT"])
def test_a_run_outlives_its_tokens(stand: Any, tmp_path: Path, host: str) -> None:
    """Metrics, 30 MB, a registered model, a trace and a download, over several lifetimes and without a 401."""
    before = stand.issued
    with use("http", {"client_secret": stand.secret}, options(stand, host)):
        run_id = runpy.run_path(str(WORK))["train"](tmp_path / "work")
    assert stand.issued - before >= 4
    assert 401 not in stand.statuses(host)
    assert len(stand.statuses(host)) > 20
    check_run(stand, run_id, host)


def test_spawned_workers_outlive_their_tokens(stand: Any, tmp_path: Path) -> None:
    """Two workers do the same in parallel, with headers from the parent's socket and no secret."""
    before = stand.issued
    run_ids = run([sys.executable, str(WORK), "workers", str(tmp_path / "w")], exported(stand))
    assert stand.issued - before >= 4
    assert 401 not in stand.statuses("OPAQUE")
    assert len(run_ids) == 2
    for run_id in run_ids:
        check_run(stand, run_id)


def test_a_command_outlives_its_tokens(stand: Any, tmp_path: Path) -> None:
    """`mlflow-connections run` with a named connection does the same, and the command has no secret."""
    before = stand.issued
    program = str(Path(sys.executable).with_name("mlflow-connections"))
    script = [sys.executable, str(WORK), "here", str(tmp_path / "work")]
    (run_id,) = run([program, "run", "stand", "--", *script], toml(stand, tmp_path))
    assert stand.issued - before >= 4
    assert 401 not in stand.statuses("OPAQUE")
    check_run(stand, run_id)


def test_revoked_tokens_are_replaced(stand: Any, tmp_path: Path) -> None:
    """The proxy detects a revocation immediately; an upload of 30 MB is repeated with its body."""
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(30_000_000))
    with use("http", {"client_secret": stand.secret}, options(stand)):
        mlflow.set_experiment("stand")
        with mlflow.start_run() as started:
            stand.revoke()
            mlflow.log_metric("m", 1.0)
            stand.revoke()
            mlflow.log_artifact(str(large))
        assert stand.statuses("OPAQUE").count(401) == 2
        again = download_artifacts(
            run_id=started.info.run_id, artifact_path="large.bin", dst_path=str(tmp_path / "d")
        )
    assert Path(again).read_bytes() == large.read_bytes()


def test_each_client_authentication(stand: Any, tmp_path: Path) -> None:
    """The secret may be in the form, and a signed assertion in a file, as with workload identity."""
    posted = options(stand, client_id="poster", client_auth="post")
    with use("http", {"client_secret": stand.secret}, posted):
        mlflow.MlflowClient().search_experiments()
    assertion = stand.assertion(tmp_path / "assertion")
    signed = options(stand, client_id="workload", client_assertion_file=str(assertion))
    with use("http", {}, signed):
        mlflow.MlflowClient().search_experiments()
    assert 401 not in stand.statuses("OPAQUE")


def test_refusals_are_one_sentence(stand: Any) -> None:
    """A wrong secret raises the issuer's message, another audience the proxy's `WWW-Authenticate`."""
    client = mlflow.MlflowClient
    with (
        use("http", {"client_secret": "wr0ng"}, options(stand)),
        pytest.raises(
            Exception, match=r"refused client 'trainer' \(401\): invalid_client"
        ) as caught,
    ):
        client().search_experiments()
    assert "wr0ng" not in str(caught.value)
    with (
        use("http", {"client_secret": stand.secret}, options(stand, resource="https://other.test")),
        pytest.raises(Exception, match="invalid_target"),
    ):
        client().search_experiments()
    with (
        use("http", {"client_secret": stand.secret}, options(stand, "JWT", resource=OPAQUE)),
        pytest.raises(Exception, match=r"refuses these credentials \(401\) and says Bearer"),
    ):
        client().search_experiments()


def test_an_unavailable_issuer_does_no_harm_while_a_token_is_valid(stand: Any) -> None:
    """A valid token is used until it expires; then requests fail with one sentence until the issuer is back."""
    with use("http", {"client_secret": stand.secret}, options(stand, "JWT")):
        client = mlflow.MlflowClient()
        client.search_experiments()
        stand.stop_issuer()
        try:
            client.search_experiments()
            stand.wait_for_expiry()
            with pytest.raises(
                Exception, match=r"The issuer at https://127\.0\.0\.1:\d+ cannot be reached"
            ):
                client.search_experiments()
        finally:
            stand.start_issuer()
        client.search_experiments()


def test_a_login_page_is_one_sentence(stand: Any, tmp_path: Path) -> None:
    """mod_auth_openidc redirects clients to the issuer's page on another origin, which is not a success."""
    found = options(stand) | {"url": stand.login_url}
    with use("http", {"client_secret": stand.secret}, found):
        with pytest.raises(Exception, match=f"redirects to {stand.issuer}, as it does for people"):
            mlflow.set_experiment("stand")
        with pytest.raises(Exception, match=f"redirects to {stand.issuer}"):
            mlflow.MlflowClient().log_text("0" * 32, "lost", "a.txt")


def test_another_origin_sees_no_credential(stand: Any, foreign: Any) -> None:
    """Neither a second client, nor a download by its URL, nor a redirect sends a credential."""
    secret = {"client_secret": stand.secret, "headers": {"X-Stand": "s3cr3t-header"}}
    with use("http", secret, options(stand)):
        mlflow.set_experiment("stand")
        with mlflow.start_run() as started:
            mlflow.log_text("x", "a.txt")
        mlflow.MlflowClient(foreign.url).get_run(started.info.run_id)
        path = started.info.artifact_uri.partition("mlflow-artifacts:/")[2]
        url = f"{foreign.url}/api/2.0/mlflow-artifacts/artifacts/{path}/a.txt"
        assert Path(download_artifacts(url)).read_text() == "x"
    assert len(foreign.headers) >= 2
    seen = len(foreign.headers)
    with (
        use("http", secret, options(stand) | {"url": stand.redirect_url}),
        pytest.raises(Exception, match=f"redirects to {foreign.url}"),
    ):
        mlflow.MlflowClient().search_experiments()
    assert len(foreign.headers) == seen  # the redirect was not followed
    assert not [headers for headers in foreign.headers if KNOWN & headers.keys()]
    text = str(foreign.headers)
    assert stand.secret not in text
    assert "s3cr3t-header" not in text


def test_a_client_certificate(stand: Any, tmp_path: Path) -> None:
    """Apache accepts certificates of its authority; another one, or none, is one sentence."""
    certificate = stand.authority.issue_cert("trainer@example.com")
    found = mtls(stand, certificate, tmp_path / "right")
    with use("http", {}, found):
        mlflow.set_experiment("stand")
        with mlflow.start_run() as started:
            mlflow.log_text("x", "a.txt")
        assert mlflow.artifacts.load_text(f"{started.info.artifact_uri}/a.txt") == "x"
    other = trustme.CA(organization_name="others").issue_cert("trainer@example.com")
    with (
        use("http", {}, mtls(stand, other, tmp_path / "wrong")),
        pytest.raises(Exception, match="API request to"),
    ):
        mlflow.MlflowClient().search_experiments()


def mtls(stand: Any, certificate: trustme.LeafCert, folder: Path) -> dict[str, str]:
    """Write a client certificate and return the options that name it."""
    folder.mkdir()
    certificate.cert_chain_pems[0].write_to_path(folder / "me.crt")
    certificate.private_key_pem.write_to_path(folder / "me.key")
    return {
        "url": stand.mtls_url,
        "ca_file": str(stand.ca_file),
        "client_certificate": str(folder / "me.crt"),
        "client_key": str(folder / "me.key"),
    }
