"""Accepted and refused identities, and the errors that unmodified clients show."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests

from mlflow_connections import use
from mlflow_connections._cli import main
from mlflow_connections_sandbox import Fault
from mlflow_connections_sandbox._databricks import Databricks

RestError = mlflow.exceptions.MlflowException


def ask(workspace: Databricks, path: str, token: str | None = None) -> requests.Response:
    """Send a request without any client library."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.get(workspace.url + path, headers=headers, timeout=30)


def test_the_printed_link_of_a_run_works(
    name: str, token: Any, workspace: Databricks, capfd: pytest.CaptureFixture[str]
) -> None:
    """The link that MLflow prints at the end of a run opens it in MLflow's own pages."""
    with use("databricks", token.credentials, token.options):
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            pass
    printed = re.search(rf"{workspace.url}/\S*{run.info.run_id}", capfd.readouterr().out)
    assert printed
    answer = requests.get(printed[0], allow_redirects=False, timeout=30)
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert answer.headers["Location"] == workspace.mlflow.url + page


def test_a_wrong_token_is_refused_at_once(name: str, workspace: Databricks) -> None:
    """MLflow reports the workspace's refusal after one request, without a retry."""
    with (
        use("databricks", {"token": "dapi-wrong"}, {"host": workspace.url}),
        pytest.raises(RestError, match="Invalid access token"),
    ):
        mlflow.set_experiment(name)
    refused = workspace.journal.requests("/api/")
    assert [r.status for r in refused] == [403]
    print(f"refused after {refused[0].at - workspace.journal.requests()[0].at:.2f} s")


def test_a_wrong_oauth_secret_never_reaches_the_api(name: str, workspace: Databricks) -> None:
    """The token endpoint refuses the client, the error contains that, and no API call is sent."""
    credentials = {"client_id": workspace.access.client_id, "client_secret": "wrong"}
    with (
        use("databricks", credentials, {"host": workspace.url}),
        pytest.raises(Exception, match=r"invalid_client|Client authentication failed"),
    ):
        mlflow.set_experiment(name)
    assert {r.status for r in workspace.journal.requests("/oidc/v1/token")} == {401}
    assert workspace.journal.requests("/api/") == []


@pytest.mark.parametrize("account", ["token", "oauth"])
def test_an_expired_token_is_refused(
    account: str, name: str, workspace: Databricks, request: pytest.FixtureRequest
) -> None:
    """Requests are refused once every token has expired."""
    given = request.getfixturevalue(account)
    with use("databricks", given.credentials, given.options):
        mlflow.set_experiment(name)
        workspace.access.revoke()
        if account == "oauth":
            # A client that still holds a token requests a new one only when its time is up.
            workspace.faults.inject(Fault("/oidc/v1/token", 401, '{"error": "invalid_client"}'))
        with pytest.raises(Exception, match=r"Invalid access token|invalid_client"):
            mlflow.MlflowClient().create_experiment(f"{name}-later")


def test_a_short_lived_token_is_renewed(name: str, workspace: Databricks, oauth: Any) -> None:
    """The client fetches new tokens while it works, and every call is accepted."""
    workspace.access.token_seconds = 1
    with use("databricks", oauth.credentials, oauth.options):
        mlflow.set_experiment(name)
        with mlflow.start_run():
            for step in range(5):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
    assert len(workspace.journal.requests("/oidc/v1/token")) > 1
    assert {r.status for r in workspace.journal.requests("/api/2.0/mlflow/runs/")} == {200}


def test_a_client_left_in_the_environment_does_not_conflict_with_a_token(
    name: str, token: Any, workspace: Databricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """databricks-sdk refuses two methods; the given one is used."""
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "left")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "left")
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "absent")
    with use("databricks", token.credentials, token.options):
        assert mlflow.set_experiment(name).name == name
    assert workspace.journal.requests("/oidc/v1/token") == []


def test_a_token_left_in_the_environment_does_not_conflict_with_a_client(
    name: str, oauth: Any, workspace: Databricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds the other way round, for tracking and for artifacts."""
    monkeypatch.setenv("DATABRICKS_TOKEN", "left")
    with use("databricks", oauth.credentials, oauth.options):
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            mlflow.log_text("x", "x.txt")
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/x.txt") == "x"
    assert {r.status for r in workspace.journal.requests()} & {401, 403} == set()


def test_a_workspace_left_in_the_environment_does_not_override_a_profile(
    name: str,
    profile: Any,
    workspace: Databricks,
    make_workspace: Callable[[], Databricks],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run goes to the profile's workspace, not to the one in DATABRICKS_HOST."""
    left = make_workspace()
    for variable, value in left.environment().items():
        monkeypatch.setenv(variable, value)
    with use("databricks", profile.credentials, profile.options):
        mlflow.set_experiment(name)
        with mlflow.start_run():
            mlflow.log_metric("m", 1)
    assert workspace.journal.requests("/runs/log-metric")
    assert left.journal.requests() == []


def test_refusals_have_databricks_own_form(workspace: Databricks) -> None:
    """No token is 401, a wrong one 403, an unknown API 404, each as JSON with a code and a message."""
    path = "/api/2.0/mlflow/experiments/search"
    known = workspace.access.token
    answers = [ask(workspace, path), ask(workspace, path, "x"), ask(workspace, "/api/9.9/x", known)]
    assert [a.status_code for a in answers] == [401, 403, 404]
    assert [a.json()["error_code"] for a in answers] == [401, 403, "ENDPOINT_NOT_FOUND"]
    assert all(a.json()["message"] for a in answers)
    assert [r.status for r in workspace.journal.requests("/api/9.9/x")] == [404]


def test_an_experiments_name_is_a_path_whose_folder_exists(token: Any, name: str) -> None:
    """A relative name and a missing folder are refused; a name in an existing folder is accepted."""
    with use("databricks", token.credentials, token.options):
        with pytest.raises(RestError, match="must be an absolute path"):
            mlflow.set_experiment("relative")
        with pytest.raises(RestError, match=r"Parent directory .* does not exist"):
            mlflow.MlflowClient().create_experiment(f"{name}/deeper")
        made = requests.post(
            token.options["host"] + "/api/2.0/workspace/mkdirs",
            json={"path": name},
            headers={"Authorization": f"Bearer {token.credentials['token']}"},
            timeout=30,
        )
        assert made.status_code == 200
        assert mlflow.set_experiment(f"{name}/deeper").name == f"{name}/deeper"


def test_there_is_no_default_experiment(token: Any) -> None:
    """A run without an experiment is refused, whereas a plain MLflow server has a default one."""
    with use("databricks", token.credentials, token.options):
        with pytest.raises(RestError, match="Node ID 0 does not exist"):
            mlflow.MlflowClient().create_run("0")
        with pytest.raises(RestError):
            mlflow.start_run()
        found = mlflow.MlflowClient().search_experiments()
    assert "0" not in {experiment.experiment_id for experiment in found}


def test_a_signed_url_is_valid_for_one_operation(
    name: str, token: Any, workspace: Databricks
) -> None:
    """The storage refuses another method, another path and an additional token."""
    with use("databricks", token.credentials, token.options):
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            mlflow.log_text("x", "x.txt")
    bearer = {"Authorization": f"Bearer {workspace.access.token}"}
    answer = requests.post(
        f"{workspace.url}/api/2.0/mlflow/artifacts/credentials-for-read",
        json={"run_id": run.info.run_id, "path": ["x.txt"]},
        headers=bearer,
        timeout=30,
    )
    url = answer.json()["credential_infos"][0]["signed_uri"]
    assert requests.get(url, timeout=30).text == "x"
    assert requests.put(url, data="y", timeout=30).status_code == 403
    assert requests.get(url.replace("x.txt", "y.txt"), timeout=30).status_code == 403
    assert requests.get(url, headers=bearer, timeout=30).status_code == 400


@pytest.mark.parametrize("path", ["../../1/x.txt", "/etc/passwd"])
def test_a_path_outside_of_the_run_is_refused(
    path: str, name: str, token: Any, workspace: Databricks
) -> None:
    """No credentials are issued for a path that leaves the run's artifacts."""
    with use("databricks", token.credentials, token.options):
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            pass
    answer = requests.post(
        f"{workspace.url}/api/2.0/mlflow/artifacts/credentials-for-write",
        json={"run_id": run.info.run_id, "path": [path]},
        headers={"Authorization": f"Bearer {workspace.access.token}"},
        timeout=30,
    )
    assert answer.status_code == 400


def test_dbfs_never_leaves_its_folder(workspace: Databricks, tmp_path: Path) -> None:
    """Paths with dots are refused, and so are managed locations in this API."""
    (tmp_path / "secret").write_text("s")
    token = workspace.access.token
    status = "/api/2.0/dbfs/get-status?path="
    assert ask(workspace, f"{status}/../../secret", token).status_code == 404
    assert ask(workspace, f"{status}/databricks/mlflow-tracking/1", token).status_code == 403


@pytest.fixture
def check(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `mlflow-connections check databricks`; return its exit code, output and errors."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        code = main(["check", "databricks", *arguments])
        return code, *capfd.readouterr()

    return run


def test_check_of_a_host_that_refuses_connections_fails_at_once(check: Any) -> None:
    """One sentence after seconds; databricks-sdk alone retries for a quarter of an hour."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, out, errors = check("--option", f"host={host}", DATABRICKS_TOKEN="dapi-of-the-test")
    assert (code, out) == (1, "")
    assert errors.count("\n") == 1, errors
    assert f"The Databricks workspace {host} cannot be reached" in errors
    assert "dapi-of-the-test" not in errors


@pytest.mark.parametrize("white", ["\n", " \t", "\r\n"])
def test_check_with_a_token_that_ends_in_white_space_works(
    white: str, check: Any, workspace: Databricks
) -> None:
    """A token from a file works, whether the host is an option or a variable."""
    token = workspace.access.token
    code, out, errors = check(
        "--option", f"host={workspace.url}", DATABRICKS_TOKEN=f"{token}{white}"
    )
    assert code == 0, errors
    assert token not in out + errors
    code, out, errors = check(DATABRICKS_HOST=workspace.url)
    assert code == 0, errors
    assert token not in out + errors


def test_check_with_a_token_that_no_header_can_carry_shows_nothing(
    check: Any, workspace: Databricks
) -> None:
    """White space inside a token is one sentence, and neither the token nor its repr is printed."""
    code, out, errors = check(
        *("--option", f"host={workspace.url}", "--output", "json"),
        DATABRICKS_TOKEN="dapi-s3cr3t\nrest",
    )
    assert code == 1
    assert "s3cr3t" not in out + errors
    assert json.loads(out)["error"] == "InvalidOptionError"


def test_check_of_a_host_that_refuses_ends_in_time() -> None:
    """The client would retry for a quarter of an hour; `check` sends one request, and names the host."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"https://127.0.0.1:{closed.getsockname()[1]}"  # bound, without a listener
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mlflow_connections", "check", "databricks"),
                *("--option", f"host={host}"),
            ],
            env={**os.environ, "DATABRICKS_TOKEN": "dapi-s3cret"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    *_, last = done.stderr.splitlines()
    assert last == (
        f"mlflow-connections: The Databricks workspace {host} cannot be reached: there is no connection "
        "to it. Check the network, HTTPS_PROXY and the firewall, and the address of the workspace."
    )
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr
