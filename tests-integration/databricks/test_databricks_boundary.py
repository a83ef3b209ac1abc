"""Several identities on one workspace: each block uses its own, and leaves nothing behind."""

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import mlflow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_connections import use
from mlflow_connections_sandbox._databricks import Databricks

Accounts = dict[str, tuple[dict[str, str], dict[str, str]]]


@pytest.fixture
def accounts(workspace: Databricks, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """Four identities for one workspace, by the name under which the workspace records them."""
    access = workspace.access
    file = Path("~/.databrickscfg").expanduser()
    client = f"client_id = {access.client_id}\nclient_secret = {access.client_secret}"
    file.write_text(f"[prod]\nhost = {workspace.url}\n{client}\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(file))
    host = {"host": workspace.url}
    first = {"client_id": access.client_id, "client_secret": access.client_secret}
    second = {"client_id": access.other_client_id, "client_secret": access.other_client_secret}
    return {
        "first": (first, host),
        "second": (second, host),
        "token": ({"token": access.token}, host),
        "profile": ({}, {"profile": "prod"}),
    }


def expected(workspace: Databricks, account: str) -> str:
    """Return the account as the workspace records it."""
    access = workspace.access
    names = {"first": access.client_id, "profile": access.client_id, "token": "token"}
    return names.get(account, access.other_client_id)


def who(workspace: Databricks) -> str:
    """Send a request with MLflow's client, and return the account that sent it."""
    workspace.access.used_by.clear()
    mlflow.MlflowClient().search_experiments(max_results=1)
    (account,) = set(workspace.access.used_by)
    return account


def test_two_clients_in_sequence(workspace: Databricks, accounts: Accounts) -> None:
    """Both request a token, and each block's requests carry its own."""
    for account in ("first", "second", "first"):
        credentials, options = accounts[account]
        with use("databricks", credentials, options):
            assert who(workspace) == expected(workspace, account)
    assert len(workspace.journal.requests("/oidc/v1/token")) >= 3


@settings(
    deadline=None,
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.sampled_from(["first", "second", "token", "profile"]), min_size=2, max_size=4))
def test_nested_blocks_use_their_own_identity(
    workspace: Databricks, accounts: Accounts, entered: list[str]
) -> None:
    """However blocks are nested, inside and after each the identity of the innermost is in force."""
    before = dict(os.environ)

    def nest(left: list[str], outer: str | None) -> None:
        if left:
            credentials, options = accounts[left[0]]
            with use("databricks", credentials, options):
                assert who(workspace) == expected(workspace, left[0])
                nest(left[1:], left[0])
            if outer is not None:
                assert who(workspace) == expected(workspace, outer)

    nest(entered, None)
    assert dict(os.environ) == before


def test_blocks_left_out_of_order(workspace: Databricks, accounts: Accounts) -> None:
    """A block that ends before an inner one leaves the inner one's identity in force."""
    outer = use("databricks", *accounts["first"])
    inner = use("databricks", *accounts["second"])
    outer.restore()
    assert who(workspace) == expected(workspace, "second")
    inner.restore()
    assert "DATABRICKS_HOST" not in os.environ


def test_artifacts_use_the_identity_of_their_block(
    workspace: Databricks, accounts: Accounts
) -> None:
    """MLflow's client for artifacts, which it caches by run, is the block's too."""
    name = f"/Shared/{uuid4().hex}"
    with use("databricks", *accounts["first"]):
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            mlflow.log_text("first", "a.txt")
    with use("databricks", *accounts["second"]):
        workspace.access.used_by.clear()
        with mlflow.start_run(run.info.run_id):
            mlflow.log_text("second", "b.txt")
        assert set(workspace.access.used_by) == {workspace.access.other_client_id}
        listed = mlflow.MlflowClient().list_artifacts(run.info.run_id)
        assert {file.path for file in listed} == {"a.txt", "b.txt"}


def test_two_workspaces_keep_their_experiments_apart(
    workspace: Databricks,
    make_workspace: Callable[[], Databricks],
    accounts: Accounts,
) -> None:
    """An experiment that is active in one workspace, and its folder, do not exist in the other."""
    other = make_workspace()
    with use("databricks", *accounts["token"]):
        mlflow.set_experiment(f"/Shared/{uuid4().hex}")
        token = {"token": other.access.token}
        with (
            use("databricks", token, {"host": other.url}),
            pytest.raises(mlflow.exceptions.MlflowException, match=r"xperiment|Node ID 0"),
        ):
            mlflow.start_run()
        with mlflow.start_run():
            pass
    assert workspace.journal.requests("/runs/create")
    assert {r.status for r in other.journal.requests("/runs/create")} <= {400, 404}


def test_variables_that_change_between_blocks_are_another_identity(
    workspace: Databricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without options, the block uses the environment at the time when it is entered."""
    access = workspace.access
    monkeypatch.setenv("DATABRICKS_HOST", workspace.url)
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", access.client_id)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", access.client_secret)
    with use("databricks"):
        assert who(workspace) == access.client_id
        monkeypatch.setenv("DATABRICKS_CLIENT_ID", access.other_client_id)
        monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", access.other_client_secret)
        with use("databricks"):
            assert who(workspace) == access.other_client_id


def test_the_same_identity_three_times_keeps_its_run(
    workspace: Databricks, accounts: Accounts
) -> None:
    """Nested blocks of one identity use one server: the active run continues in each."""
    with use("databricks", *accounts["first"]):
        mlflow.set_experiment(f"/Shared/{uuid4().hex}")
        with mlflow.start_run() as run:
            with use("databricks", *accounts["first"]), use("databricks", *accounts["first"]):
                mlflow.log_metric("inner", 1)
            mlflow.log_metric("outer", 2)
        metrics = mlflow.MlflowClient().get_run(run.info.run_id).data.metrics
    assert metrics == {"inner": 1.0, "outer": 2.0}
    assert len(workspace.journal.requests("/runs/create")) == 1
