"""Identities in force for tracking URIs: in nested blocks, and in processes that inherit a URI."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any
from uuid import uuid4

import pytest
from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import AccessError, MissingOptionError
from mlflow_connections.authentication import DESCRIPTION_VARIABLE
from mlflow_connections.headers import Headers, HeaderSource
from mlflow_connections_azureml import AzureMLAuthenticator, open_authenticator
from mlflow_connections_azureml._authenticator import CredentialBinder, WorkspaceCredential
from mlflow_connections_azureml._tokens import AzureTokens, session_of, values_of

PRINCIPAL = {"tenant_id": "t", "client_id": "c", "client_secret": "a-secret"}


@pytest.fixture
def uri() -> str:
    """A URI that no other test binds."""
    return new_uri()


def new_uri() -> str:
    """Return a URI that is unique in this process."""
    return (
        f"azureml://westeurope.api.azureml.ms/mlflow/v2.0/subscriptions/{uuid4()}"
        "/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    )


def tokens(**values: Any) -> AzureTokens:
    """Return the source of a connection's values."""
    return AzureTokens({**values_of({}), "interactive": False, **values})


def described(uri: str, description: Mapping[str, Any]) -> str:
    """Return the description that a parent exports."""
    return json.dumps(
        [{"origin": uri, "opener": AzureMLAuthenticator.opener, "description": description}]
    )


@pytest.fixture
def inherit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that simulates a worker with these variables, in which MLflow is imported."""

    def act(environ: Mapping[str, str]) -> None:
        import mlflow  # noqa: F401 - bindings wait for this import

        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        CredentialBinder()

    return act


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_inherited_uri_is_bound(uri: str, variable: str, inherit: Any) -> None:
    """A worker of the connection gets a credential for the URI that it inherits."""
    inherit({DESCRIPTION_VARIABLE: described(uri, {}), variable: uri})

    context = _AzureMLServiceContextLoader.get_service_context(uri)
    assert context.host_url == "https://westeurope.api.azureml.ms"
    assert context.workspace_name == "w"


def test_foreign_uri_is_left_alone(uri: str, inherit: Any) -> None:
    """A URI without a parent's description is left alone."""
    inherit({"MLFLOW_TRACKING_URI": uri})

    assert not _AzureMLServiceContextLoader.has_service_context(uri)


def test_job_is_left_alone(uri: str, inherit: Any) -> None:
    """A job keeps its own token."""
    inherit(
        {
            DESCRIPTION_VARIABLE: described(uri, {}),
            "MLFLOW_TRACKING_URI": uri,
            "AZUREML_RUN_ID": "run",
        }
    )

    assert not _AzureMLServiceContextLoader.has_service_context(uri)


@pytest.mark.parametrize("other", ["http://127.0.0.1:5000", "azureml://registries/r", ""])
def test_other_uris_are_ignored(other: str, inherit: Any) -> None:
    """A URI that names no workspace is ignored."""
    inherit({DESCRIPTION_VARIABLE: described(other, {}), "MLFLOW_TRACKING_URI": other})

    assert other == "" or not _AzureMLServiceContextLoader.has_service_context(other)


@pytest.mark.parametrize("text", ["not JSON", "{}", '[{"origin": "azureml://w"}]', "[1]"])
def test_broken_description_does_not_break_the_import(text: str, inherit: Any) -> None:
    """MLflow can be imported whatever the variable contains."""
    before = dict(_AzureMLServiceContextLoader._tracking_uri_to_service_context)

    inherit({DESCRIPTION_VARIABLE: text})

    assert _AzureMLServiceContextLoader._tracking_uri_to_service_context == before


def test_worker_without_a_credential_names_the_remedy(
    uri: str, monkeypatch: pytest.MonkeyPatch, inherit: Any
) -> None:
    """If no credential works, the error names the variables and the option that would have helped."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"AZURE_{name}", raising=False)
    inherit({DESCRIPTION_VARIABLE: described(uri, {}), "MLFLOW_TRACKING_URI": uri})

    with pytest.raises(AccessError, match="share_with_workers") as caught:
        _AzureMLServiceContextLoader.get_service_context(uri).auth.get_token("scope/.default")
    assert "AZUREML_SERVICE_PRINCIPAL_TENANT_ID" in str(caught.value)
    assert caught.value.__suppress_context__


def test_provider_adds_nothing_to_runs() -> None:
    """To MLflow it is a provider of run tags that adds none."""
    provider = CredentialBinder()

    assert provider.in_context() is False
    assert provider.tags() == {}
    (entry,) = entry_points(group="mlflow.run_context_provider", name="azureml-connection")
    assert entry.load() is CredentialBinder


def test_worker_reads_the_documented_variables() -> None:
    """A child signs in with AZUREML_SERVICE_PRINCIPAL_* if its parent described no identity."""
    values = values_of(
        {
            "AZUREML_SERVICE_PRINCIPAL_TENANT_ID": "t",
            "AZUREML_SERVICE_PRINCIPAL_ID": "c",
            "AZUREML_SERVICE_PRINCIPAL_PASSWORD": "a-secret\n",
            "AZUREML_CURRENT_CLOUD": "AzureUSGovernment",
        }
    )

    assert values["cloud"] == "AzureUSGovernment"
    assert [values[n] for n in ("tenant_id", "client_id", "client_secret")] == [
        "t",
        "c",
        "a-secret",
    ]


def test_worker_with_half_a_service_principal_names_the_rest(
    uri: str, monkeypatch: pytest.MonkeyPatch, inherit: Any
) -> None:
    """A child with two of the three variables gets an error that names the third."""
    monkeypatch.delenv("AZURE_FEDERATED_TOKEN_FILE", raising=False)
    inherit(
        {
            DESCRIPTION_VARIABLE: described(uri, {}),
            "MLFLOW_TRACKING_URI": uri,
            "AZUREML_SERVICE_PRINCIPAL_ID": "c",
            "AZUREML_SERVICE_PRINCIPAL_PASSWORD": "a-secret",
        }
    )

    with pytest.raises(MissingOptionError, match="'tenant_id'") as caught:
        _AzureMLServiceContextLoader.get_service_context(uri).auth.get_token("scope/.default")
    assert "a-secret" not in str(caught.value)


class Fixed(HeaderSource):
    """An identity with one token, and a second one after a refusal."""

    def __init__(self, token: str, identity: str | None = None) -> None:
        self.token, self.identity = token, identity or token

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:
        """Return it."""
        return Headers({"Authorization": f"Bearer {self.token}{'+' if rejected else ''}"}, 3600.0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)


def resolved(uri: str, token: str, identity: str | None = None) -> AzureMLAuthenticator:
    """Return an authenticator as the connection resolves it."""
    found = AzureMLAuthenticator(uri, Fixed(token, identity))
    found.offer()
    return found


def token_of(uri: str) -> str:
    """Fetch a token as azureml-mlflow does, and return it."""
    import mlflow  # noqa: F401 - bindings wait for this import

    context = _AzureMLServiceContextLoader.get_service_context(uri)
    return str(context.auth.get_token("https://management.azure.com/.default").token)


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=8))
def test_binding_in_force_decides_who_signs_in(entered: list[str]) -> None:
    """However blocks of one workspace are nested, each signs in with its own identity."""
    import mlflow  # noqa: F401 - bindings wait for this import

    uri = new_uri()
    before: list[AzureMLAuthenticator] = []
    for identity in entered:
        for outer in before:
            outer.unbind()
        before.append(resolved(f"{uri}?", identity))
        before[-1].bind()
        assert token_of(uri) == identity
    while before:
        before.pop().unbind()
        for outer in before[-1:]:
            outer.bind()
            assert token_of(uri) == entered[len(before) - 1]
    assert not _AzureMLServiceContextLoader.has_service_context(uri)
    assert DESCRIPTION_VARIABLE not in os.environ


def test_newest_credential_is_used_outside_of_a_block(uri: str) -> None:
    """Code that sets a resolved URI itself signs in with the identity that was resolved last."""
    resolved(uri, "a")
    resolved(uri, "b")

    assert token_of(uri) == "b"


def test_credential_outside_of_a_block_survives_it(uri: str) -> None:
    """Code that resolved by itself keeps its sign-in after a block of the same identity."""
    resolved(uri, "by hand", "a")
    block = resolved(uri, "in a block", "a")

    block.bind()
    block.unbind()

    assert token_of(uri) == "in a block"


def test_inner_block_of_the_same_sign_in_leaves_the_outer_one_bound(uri: str) -> None:
    """A block inside another of the same identity leaves the outer one bound when it ends."""
    import mlflow  # noqa: F401 - bindings wait for this import

    blocks = []
    for _ in range(3):
        blocks.append(resolved(uri, "a"))
        blocks[-1].bind()
    while blocks:
        assert token_of(uri) == "a"
        blocks.pop().unbind()
    assert not _AzureMLServiceContextLoader.has_service_context(uri)


def test_client_that_outlives_its_block_is_refused(uri: str) -> None:
    """A store that is kept after its block has no identity, and does not use another one's."""
    import mlflow  # noqa: F401 - bindings wait for this import

    block = resolved(uri, "a")
    context = _AzureMLServiceContextLoader.get_service_context(uri)
    block.bind()
    block.unbind()

    other = resolved(new_uri(), "b")  # in the same region, so on the same host
    other.bind()
    with pytest.raises(AccessError, match="has ended"):
        context.auth.get_token("scope/.default")
    other.unbind()


def test_authenticator_is_equal_by_sign_in_and_uri() -> None:
    """Two authenticators with the same sign-in and URI are equal, whatever their credential objects."""
    one = AzureMLAuthenticator("azureml://host/w?", Fixed("1", "a"))

    assert one == AzureMLAuthenticator("azureml://host/w", Fixed("2", "a"))
    assert hash(one) == hash(AzureMLAuthenticator("azureml://host/w", Fixed("2", "a")))
    assert one != AzureMLAuthenticator("azureml://host/w", Fixed("1", "b"))
    assert one != AzureMLAuthenticator("azureml://host/v", Fixed("1", "a"))
    assert one != "a"
    assert tokens(**PRINCIPAL) == tokens(**PRINCIPAL)
    assert tokens(**PRINCIPAL) != tokens(**{**PRINCIPAL, "client_secret": "another"})


def test_session_is_named_by_values_and_environment() -> None:
    """Equal sign-ins have equal names, another secret or login has another name, and no name reveals one."""
    values = {"tenant_id": "t", "client_secret": "a-secret"}
    environ = {"AZURE_CLIENT_ID": "c", "LANG": "C"}

    name = session_of(values, environ)

    assert session_of(dict(values), {**environ, "LANG": "en"}) == name
    assert session_of({**values, "client_secret": "other"}, environ) != name
    assert session_of(values, {**environ, "AZURE_CLIENT_ID": "d"}) != name
    assert "secret" not in name


def test_claims_fetch_another_token(uri: str) -> None:
    """A claims challenge, which rejects the current token, fetches another one."""
    resolved(uri, "a").bind()
    credential = WorkspaceCredential(uri)

    assert credential.get_token("https://management.azure.com/.default").token == "a"
    assert credential.get_token("https://management.azure.com/.default", claims="c").token == "a+"
    assert credential.get_token().expires_on > time.time() + 3000


def test_token_for_another_service_is_refused(uri: str) -> None:
    """ARM's token is not returned for another service's scope, such as the storage's."""
    resolved(uri, "a").bind()

    with pytest.raises(AccessError, match=r"not for storage\.azure\.com"):
        WorkspaceCredential(uri).get_token("https://storage.azure.com/.default")


@pytest.mark.parametrize(
    ("values", "share", "description"),
    [
        (PRINCIPAL, False, None),
        (PRINCIPAL, True, {"cloud": "AzureCloud", **PRINCIPAL}),
        ({"interactive": True}, False, None),
        ({"interactive": True}, True, None),
        (
            {"managed_identity_client_id": "m", "timeout": 20.0},
            False,
            {"cloud": "AzureCloud", "managed_identity_client_id": "m", "timeout": 20.0},
        ),
        ({"tenant_id": "t"}, False, {"cloud": "AzureCloud", "tenant_id": "t"}),
    ],
    ids=["secret", "shared", "person", "person shared", "managed", "login"],
)
def test_description_for_children(
    uri: str, values: Mapping[str, Any], share: bool, description: Mapping[str, Any] | None
) -> None:
    """A secret or a person's sign-in stays with the parent; other identities are rebuilt from public values."""
    source = tokens(**values)
    authenticator = AzureMLAuthenticator(uri, source, share=share)

    assert authenticator.describe() == description
    assert authenticator.needs_parent() is (description is None)
    assert "a-secret" not in repr(source) + repr(authenticator)
    if description is not None:
        rebuilt = open_authenticator(uri, json.loads(json.dumps(description)))
        assert rebuilt.describe_whole() == description


def test_shell_with_the_secret_in_its_variable_needs_no_parent(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow-connections env` describes the rest; a secret from another source stays in the process."""
    authenticator = AzureMLAuthenticator(uri, tokens(**PRINCIPAL))

    assert authenticator.describe_for_shell() is None
    monkeypatch.setenv("AZUREML_SERVICE_PRINCIPAL_PASSWORD", "a-secret\n")
    described = authenticator.describe_for_shell()
    assert described == {"cloud": "AzureCloud", "tenant_id": "t", "client_id": "c"}
    assert described is not None
    assert open_authenticator(uri, described).describe_whole() == {**described, **PRINCIPAL}


ASK = """
import sys
import mlflow
from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader
credential = _AzureMLServiceContextLoader.get_service_context(sys.argv[1]).auth
try:
    print([credential.get_token("https://management.azure.com/.default").token for _ in range(3)])
    print(credential.get_token(claims="c").token)
except Exception as error:
    print(error)
"""


def ask(uri: str, **environment: str) -> str:
    """Fetch tokens in a separate process, as azureml-mlflow does, and return its output."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, uri],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_child_asks_its_parent_and_fails_in_one_sentence_without_it(uri: str) -> None:
    """A child gets tokens through the socket, and without its parent fails with the remedy."""
    block = resolved(uri, "a")
    block.bind()
    inherited = os.environ[DESCRIPTION_VARIABLE]
    said = ask(uri)
    block.unbind()
    del block
    assert said.splitlines() == ["['a', 'a', 'a']", "a+"]
    said = ask(uri, **{DESCRIPTION_VARIABLE: inherited})
    assert said.count("\n") == 0
    assert "`share_with_workers: true`" in said
