"""Several identities on one workspace, and processes that sign in with documented variables."""

import json
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_sandbox._azure import Azure
from mlflow_connections_sandbox._page._view import pasted


def principal(azure: Azure, *, other: bool = False) -> dict[str, str]:
    """Return one of the two service principals as in credentials.yml."""
    account = azure.account
    return {
        "tenant_id": account.tenant_id,
        "client_id": account.other_client_id if other else account.client_id,
        "client_secret": account.other_client_secret if other else account.client_secret,
    }


@pytest.mark.parametrize("sdk", ["arm", "v1"])
def test_blocks_of_one_workspace_use_their_own_identity(
    workspace: Azure, run_script: Callable[..., Any], sdk: str
) -> None:
    """Two service principals, nested and in sequence, each send their own requests."""
    found = run_script(
        "two_identities.py",
        json.dumps(principal(workspace)),
        json.dumps(principal(workspace, other=True)),
        json.dumps({"sdk": sdk}),
        signed_in=False,
    )

    # Both have one URI, and no credential is left after the last block.
    assert found == {"is_one_uri": True, "is_left_behind": False}
    first, second = workspace.account.client_id, workspace.account.other_client_id
    by_turns = [identity for identity, _ in groupby(workspace.tokens.used_by)]
    assert by_turns == [first, second, first, second]


def test_lines_of_the_sandboxs_page_work_as_printed(
    workspace: Azure, run_in_shell: Callable[..., Any]
) -> None:
    """The exports of the page and its command, pasted into a shell, log to the workspace."""
    lines = pasted(workspace)

    done = run_in_shell(lines["In a shell"], lines["Then run a script"])

    assert lines["Then run a script"] == "mlflow-connections run azureml -- python train.py"
    assert done.returncode == 0, done.stderr
    assert "rmse 0.5" in done.stdout
    assert set(workspace.tokens.used_by) == {workspace.account.client_id}
    assert not workspace.journal.requests("/devicecode")


def test_child_without_a_credential_fails_with_one_sentence(
    workspace: Azure, run_command: Callable[..., Any], tmp_path: Path
) -> None:
    """A child with only some of the variables fails with one sentence, without azure-identity's traceback."""
    managed = {
        **workspace.managed_identity(),
        "IDENTITY_HEADER": workspace.account.identity_header,
    }
    # The parent signs in with a managed identity that the child does not have.
    (tmp_path / "child.sh").write_text(
        'unset IDENTITY_ENDPOINT IDENTITY_HEADER; PATH=/nowhere exec "$0" train.py\n'
    )
    command = ("sh", "-c", (tmp_path / "child.sh").read_text(), sys.executable)
    options = ("--option", "sdk=arm")
    done = run_command("run", "azureml", *options, "--", *command, signed_in=False, **managed)

    assert done.returncode == 1
    assert "inherited the tracking URI but no credential" in done.stderr
    assert "AZUREML_SERVICE_PRINCIPAL_TENANT_ID" in done.stderr
    assert "azure/identity" not in done.stderr
    assert not workspace.journal.requests("/devicecode")


def test_check_without_a_login_is_one_line(run_command: Callable[..., Any]) -> None:
    """Without any sign-in the error is one sentence; azure-identity alone prints a dozen lines."""
    command = ("check", "azureml", "--option", "sdk=arm")
    done = run_command(*command, signed_in=False, AZURE_TOKEN_CREDENTIALS="dev")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "There is no token for the Azure login of this machine" in done.stderr


def test_workspace_of_config_json(
    workspace: Azure, run_command: Callable[..., Any], tmp_path: Path
) -> None:
    """A config.json, as azureml-core writes it, names the workspace."""
    account = workspace.account
    names = {
        "subscription_id": account.subscription_id,
        "resource_group": account.resource_group,
        "workspace_name": account.workspace_name,
    }
    (tmp_path / ".azureml").mkdir()
    (tmp_path / ".azureml" / "config.json").write_text(json.dumps(names))
    nothing = dict.fromkeys(
        ("AZUREML_SUBSCRIPTION_ID", "AZUREML_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME"), ""
    )

    command = ("check", "azureml", "--option", "sdk=arm", "--output", "json")
    done = run_command(*command, **nothing)

    assert done.returncode == 0, done.stderr
    assert account.workspace_name in json.loads(done.stdout)["tracking_uri"]
