"""Credentials bound to tracking URIs: of nested endpoints, and in processes that inherit a URI."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any
from uuid import uuid4

import pytest
from azure.core.credentials import AccessToken
from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import AccessError, MissingOptionError
from mlflow_connections_azureml._mlflow import (
    HEADLESS,
    HEADLESS_VARIABLE,
    Binding,
    CredentialBinder,
    bind,
    bind_inherited,
    binding_of,
    inherited_values,
    session_of,
)
from mlflow_connections_azureml._options import Workspace


@pytest.fixture
def uri() -> str:
    """A URI that no other test binds: bindings last as long as the process."""
    return (
        f"azureml://westeurope.api.azureml.ms/mlflow/v2.0/subscriptions/{uuid4()}"
        "/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    )


def inherit(environ: Mapping[str, str]) -> None:
    """Act as a worker with these variables, in which MLflow is imported."""
    import mlflow  # noqa: F401 - bindings wait for it

    bind_inherited(environ)


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_inherited_uri_is_bound(uri: str, variable: str) -> None:
    """A worker of the connection gets a credential for the URI that it inherits."""
    inherit({HEADLESS_VARIABLE: HEADLESS, variable: uri})

    context = _AzureMLServiceContextLoader.get_service_context(uri)
    assert context.host_url == "https://westeurope.api.azureml.ms"
    assert context.workspace_name == "w"


def test_foreign_uri_is_left_alone(uri: str) -> None:
    """Without the connection's variable the URI belongs to somebody else."""
    inherit({"MLFLOW_TRACKING_URI": uri})

    assert not _AzureMLServiceContextLoader.has_service_context(uri)


def test_job_is_left_alone(uri: str) -> None:
    """A job has a token of its own."""
    inherit({HEADLESS_VARIABLE: HEADLESS, "MLFLOW_TRACKING_URI": uri, "AZUREML_RUN_ID": "run"})

    assert not _AzureMLServiceContextLoader.has_service_context(uri)


@pytest.mark.parametrize("other", ["http://127.0.0.1:5000", "azureml://registries/r", ""])
def test_other_uris_are_no_matter(other: str) -> None:
    """A URI that names no workspace is passed over."""
    inherit({HEADLESS_VARIABLE: HEADLESS, "MLFLOW_TRACKING_URI": other})

    assert other == "" or not _AzureMLServiceContextLoader.has_service_context(other)


def test_worker_without_a_credential_names_the_remedy(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If nothing signs in, the error names the variables and the option that would have helped."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"AZURE_{name}", raising=False)
    inherit({HEADLESS_VARIABLE: HEADLESS, "MLFLOW_TRACKING_URI": uri})

    with pytest.raises(AccessError, match="share_with_workers") as caught:
        _AzureMLServiceContextLoader.get_service_context(uri).auth.get_token("scope/.default")
    assert "AZUREML_SERVICE_PRINCIPAL_TENANT_ID" in str(caught.value)
    assert caught.value.__suppress_context__


def test_provider_adds_nothing_to_runs() -> None:
    """To MLflow it is a provider of run tags that has none."""
    provider = CredentialBinder()

    assert provider.in_context() is False
    assert provider.tags() == {}
    (entry,) = entry_points(group="mlflow.run_context_provider", name="azureml-connection")
    assert entry.load() is CredentialBinder


def test_worker_reads_the_documented_variables() -> None:
    """A child of `mlflow-connections run` signs in with AZUREML_SERVICE_PRINCIPAL_*."""
    values = inherited_values(
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
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child with two of the three variables reads which one is missing."""
    monkeypatch.delenv("AZURE_FEDERATED_TOKEN_FILE", raising=False)
    inherit(
        {
            HEADLESS_VARIABLE: HEADLESS,
            "MLFLOW_TRACKING_URI": uri,
            "AZUREML_SERVICE_PRINCIPAL_ID": "c",
            "AZUREML_SERVICE_PRINCIPAL_PASSWORD": "a-secret",
        }
    )

    with pytest.raises(MissingOptionError, match="'tenant_id'") as caught:
        _AzureMLServiceContextLoader.get_service_context(uri).auth.get_token("scope/.default")
    assert "a-secret" not in str(caught.value)


class Fixed:
    """A credential with one token."""

    def __init__(self, token: str) -> None:
        self.token = AccessToken(token, 0)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return it."""
        return self.token


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=8))
def test_binding_in_force_decides_who_signs_in(entered: list[str]) -> None:
    """However bindings of one workspace are nested, each block signs in as its own identity."""
    uri, workspace = f"azureml://host/{uuid4()}?", Workspace("s", "g", "w")
    for session in set(entered):
        bind(uri, workspace, Fixed(session), session)
    before: list[Binding] = []
    for session in entered:
        for outer in before:
            outer.unbind()
        binding = binding_of(session)
        assert binding is not None
        before.append(binding)
        binding.bind()
        assert token_of(uri) == session
    while before:
        before.pop().unbind()
        for outer in before[-1:]:
            outer.bind()
            assert token_of(uri) == entered[len(before) - 1]
    assert not _AzureMLServiceContextLoader.has_service_context(uri)


def token_of(uri: str) -> str:
    """Fetch a token as azureml-mlflow does, and return it."""
    import mlflow  # noqa: F401 - bindings wait for it

    context = _AzureMLServiceContextLoader.get_service_context(uri)
    return str(context.auth.get_token("scope/.default").token)


def test_newest_credential_answers_outside_of_a_block() -> None:
    """Code that sets a resolved URI by itself signs in as the identity that was resolved last."""
    uri, workspace = f"azureml://host/{uuid4()}?", Workspace("s", "g", "w")
    bind(uri, workspace, Fixed("a"), "a")
    bind(uri, workspace, Fixed("b"), "b")

    assert token_of(uri) == "b"


def test_credential_outside_of_a_block_survives_it() -> None:
    """Code that resolved by itself keeps its sign-in after a block of the same identity."""
    uri, workspace = f"azureml://host/{uuid4()}?", Workspace("s", "g", "w")
    bind(uri, workspace, Fixed("by hand"), "a")
    bind(uri, workspace, Fixed("in a block"), "a")
    binding = binding_of("a")
    assert binding is not None

    binding.bind()
    binding.unbind()

    assert token_of(uri) == "in a block"


def test_inner_block_of_the_same_sign_in_leaves_the_outer_one_bound() -> None:
    """A block inside another of the same identity takes nothing away when it ends."""
    uri, workspace = f"azureml://host/{uuid4()}?", Workspace("s", "g", "w")
    bindings = []
    for _ in range(3):
        bind(uri, workspace, Fixed("a"), "a")
        binding = binding_of("a")
        assert binding is not None
        binding.bind()
        bindings.append(binding)
    while bindings:
        assert token_of(uri) == "a"
        bindings.pop().unbind()
    assert not _AzureMLServiceContextLoader.has_service_context(uri)


def test_client_that_outlives_its_block_is_refused() -> None:
    """A store that is kept after its block has no identity, rather than another one's."""
    uri, workspace = f"azureml://host/{uuid4()}?", Workspace("s", "g", "w")
    bind(uri, workspace, Fixed("a"), "a")
    import mlflow  # noqa: F401 - bindings wait for it

    context = _AzureMLServiceContextLoader.get_service_context(uri)
    binding = binding_of("a")
    assert binding is not None
    binding.bind()
    binding.unbind()

    with pytest.raises(AccessError, match="has ended"):
        context.auth.get_token("scope/.default")


def test_binding_is_equal_by_sign_in_and_uri() -> None:
    """The same sign-in for the same URI is the same identity, whatever its credential object."""
    workspace = Workspace("s", "g", "w")
    one = Binding("azureml://host/w?", workspace, Fixed("1"), "a")

    assert one == Binding("azureml://host/w", workspace, Fixed("2"), "a")
    assert hash(one) == hash(Binding("azureml://host/w", workspace, Fixed("2"), "a"))
    assert one != Binding("azureml://host/w", workspace, Fixed("1"), "b")
    assert one != Binding("azureml://host/v", workspace, Fixed("1"), "a")
    assert one != "a"


def test_session_is_named_by_values_and_environment() -> None:
    """Equal sign-ins have equal names; another secret or another login has another; none shows."""
    values = {"tenant_id": "t", "client_secret": "a-secret"}
    environ = {"AZURE_CLIENT_ID": "c", "LANG": "C"}

    name = session_of(values, environ)

    assert session_of(dict(values), {**environ, "LANG": "en"}) == name
    assert session_of({**values, "client_secret": "other"}, environ) != name
    assert session_of(values, {**environ, "AZURE_CLIENT_ID": "d"}) != name
    assert "secret" not in name
