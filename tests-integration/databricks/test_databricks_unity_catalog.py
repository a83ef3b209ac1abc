"""Unity Catalog's registry, `databricks-uc`, with MLflow's unmodified client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import pytest
import requests
from mlflow.models import infer_signature

from mlflow_connections import use
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._databricks import Databricks

Error = mlflow.exceptions.MlflowException
API = "/api/2.0/mlflow/unity-catalog"


class Tripler(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]  # loaded late
    """A model without dependencies."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Return three times the input."""
        return model_input * 3


@pytest.fixture
def catalog(token: Any) -> Iterator[mlflow.MlflowClient]:
    """A client whose registry is Unity Catalog."""
    with use("databricks", token.credentials, token.options, registry="databricks-uc"):
        yield mlflow.MlflowClient()


@pytest.fixture
def model_name() -> str:
    """A model name that is unique to this test."""
    return f"main.default.m{uuid4().hex}"


def ask(workspace: Databricks, method: str, call: str, **body: Any) -> requests.Response:
    """Send a request without any client library."""
    return requests.request(
        method,
        f"{workspace.url}{API}/{call}",
        headers={"Authorization": f"Bearer {workspace.access.token}"},
        params=body if method == "GET" else None,
        json=None if method == "GET" else body,
        timeout=30,
    )


def save_model(folder: Path, *, signed: bool = True) -> str:
    """Save a model, with the signature that Unity Catalog requires, and return its path."""
    import pandas as pd

    data = pd.DataFrame({"x": [1.0, 2.0]})
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=Tripler(),
        signature=infer_signature(data, data * 3) if signed else None,
        pip_requirements=["mlflow-skinny"],
    )
    return str(folder)


@pytest.mark.parametrize("has_default_storage", [False, True], ids=["files", "signed URLs"])
def test_a_model_is_registered_and_loaded(
    has_default_storage: bool,
    name: str,
    model_name: str,
    catalog: mlflow.MlflowClient,
    workspace: Databricks,
    mlflow_server: MlflowServer,
    tmp_path: Path,
) -> None:
    """A run's model becomes a version that is ready, and is loaded by its number and its alias."""
    import pandas as pd

    workspace.unity_catalog.has_default_storage = has_default_storage
    mlflow.set_experiment(name)
    with mlflow.start_run() as run:
        mlflow.log_artifacts(save_model(tmp_path / "model"), "model")
    version = mlflow.register_model(f"runs:/{run.info.run_id}/model", model_name)
    assert (version.name, str(version.version), version.status) == (model_name, "1", "READY")
    assert version.run_id == run.info.run_id
    catalog.set_registered_model_alias(model_name, "champion", version.version)
    found = catalog.get_model_version_by_alias(model_name, "champion")
    assert (str(found.version), found.aliases) == ("1", ["champion"])
    assert str(found.source).startswith("dbfs:/databricks/mlflow-tracking/")
    for uri in (f"models:/{model_name}/1", f"models:/{model_name}@champion"):
        loaded = mlflow.pyfunc.load_model(uri)
        assert loaded.predict(pd.DataFrame({"x": [2.0]}))["x"].tolist() == [6.0]

    # Add a second version.
    assert str(mlflow.register_model(f"runs:/{run.info.run_id}/model", model_name).version) == "2"
    listed = catalog.search_model_versions(f"name='{model_name}'")
    assert {str(each.version) for each in listed} == {"1", "2"}
    by_run = catalog.search_model_versions(f"run_id='{run.info.run_id}'")
    assert {each.name for each in by_run} == {model_name}
    # Its files and its entry are on the real server.
    stored = requests.get(
        f"{mlflow_server.url}/api/2.0/mlflow/registered-models/get",
        {"name": model_name},
        timeout=30,
    )
    assert stored.json()["registered_model"]["name"] == model_name
    # Older clients use signed URLs for the run's own artifacts too.
    signed = [r for r in workspace.journal.requests("/unity-catalog/main/") if r.method == "PUT"]
    assert bool(signed) is has_default_storage
    assert {r.status for r in workspace.journal.requests(API)} <= {200, 409}


def test_models_and_versions_are_edited(
    model_name: str, catalog: mlflow.MlflowClient, tmp_path: Path
) -> None:
    """Descriptions, tags, aliases and names change and read back; deleted ones are gone."""
    catalog.create_registered_model(model_name, tags={"team": "blue"}, description="first")
    assert catalog.get_registered_model(model_name).description == "first"
    catalog.update_registered_model(model_name, "second")
    catalog.set_registered_model_tag(model_name, "tier", "1")
    catalog.delete_registered_model_tag(model_name, "team")
    model = catalog.get_registered_model(model_name)
    assert (model.description, model.tags) == ("second", {"tier": "1"})

    source = save_model(tmp_path / "model")
    version = catalog.create_model_version(model_name, source, tags={"a": "b"}).version
    catalog.update_model_version(model_name, version, "tripled")
    catalog.set_model_version_tag(model_name, version, "c", "d")
    catalog.delete_model_version_tag(model_name, version, "a")
    found = catalog.get_model_version(model_name, version)
    assert (found.description, found.tags, found.current_stage) == ("tripled", {"c": "d"}, None)
    catalog.set_registered_model_alias(model_name, "best", version)
    assert catalog.get_registered_model(model_name).aliases == {"best": version}
    catalog.delete_registered_model_alias(model_name, "best")
    assert catalog.get_registered_model(model_name).aliases == {}

    renamed = f"{model_name}-renamed"
    catalog.rename_registered_model(model_name, renamed)
    assert catalog.get_model_version(renamed, version).description == "tripled"
    assert renamed in {each.name for each in catalog.search_registered_models()}
    catalog.delete_model_version(renamed, version)
    with pytest.raises(Error, match="does not exist"):
        catalog.get_model_version(renamed, version)
    catalog.delete_registered_model(renamed)
    with pytest.raises(Error, match=f"Routine or Model '{renamed}' does not exist"):
        catalog.get_registered_model(renamed)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model", "specify all three levels"),
        ("main.model", "specify all three levels"),
        ("main.default.", "specify all three levels"),
        ("other.default.model", "Catalog 'other' does not exist"),
        ("main.other.model", "Schema 'main.other' does not exist"),
        ("main.default.a model", "is not a valid name"),
    ],
)
def test_an_invalid_name_is_refused(name: str, says: str, catalog: mlflow.MlflowClient) -> None:
    """A model is named by catalog, schema and model, and its catalog and schema must exist."""
    with pytest.raises(Error, match=says):
        catalog.create_registered_model(name)


def test_names_are_stored_in_lower_case(catalog: mlflow.MlflowClient, model_name: str) -> None:
    """Unity Catalog ignores the case of names."""
    assert catalog.create_registered_model(model_name.upper()).name == model_name
    with pytest.raises(Error, match=f"Routine or Model '{model_name}' already exists"):
        catalog.create_registered_model(model_name)


def test_a_model_without_a_signature_is_refused(
    model_name: str, catalog: mlflow.MlflowClient, tmp_path: Path
) -> None:
    """The client itself refuses it, before it creates anything."""
    catalog.create_registered_model(model_name)
    with pytest.raises(Error, match="did not contain any signature metadata"):
        catalog.create_model_version(model_name, save_model(tmp_path / "model", signed=False))
    assert list(catalog.search_model_versions(f"name='{model_name}'")) == []


def test_a_version_is_pending_until_its_files_are_uploaded(
    model_name: str, workspace: Databricks
) -> None:
    """A version without its files is neither ready nor readable, and a ready version is read-only."""
    ask(workspace, "POST", "registered-models/create", name=model_name)
    made = ask(workspace, "POST", "model-versions/create", name=model_name, source="dbfs:/x")
    version = {"name": model_name, "version": made.json()["model_version"]["version"]}
    assert made.json()["model_version"]["status"] == "PENDING_REGISTRATION"
    finalize = "model-versions/finalize"
    assert "no MLmodel" in ask(workspace, "POST", finalize, **version).json()["message"]
    read = {**version, "operation": "MODEL_VERSION_OPERATION_READ"}
    credentials = "model-versions/generate-temporary-credentials"
    assert ask(workspace, "POST", credentials, **read).json()["error_code"] == "INVALID_STATE"
    uri = ask(workspace, "GET", "model-versions/get-download-uri", **version)
    assert uri.json()["error_code"] == "INVALID_STATE"

    def put() -> int:
        path = f"/Models/{model_name.replace('.', '/')}/{version['version']}/MLmodel"
        return requests.put(
            f"{workspace.url}/api/2.0/fs/files{path}",
            data=b"flavors: {}",
            headers={"Authorization": f"Bearer {workspace.access.token}"},
            timeout=30,
        ).status_code

    assert put() == 204
    assert ask(workspace, "POST", finalize, **version).json()["model_version"]["status"] == "READY"
    assert put() == 403
    assert ask(workspace, "POST", credentials, **read).status_code == 200


@pytest.mark.parametrize("query", ["", "name LIKE 'main.%'", "name = 'model'", "tags.a = 'b'"])
def test_an_undocumented_filter_is_refused(query: str, catalog: mlflow.MlflowClient) -> None:
    """Versions are searched only by a complete name or by a run."""
    with pytest.raises(Error, match="INVALID_PARAMETER_VALUE"):
        catalog.search_model_versions(query)


def test_a_tag_with_a_reserved_character_is_refused(
    model_name: str, catalog: mlflow.MlflowClient, tmp_path: Path
) -> None:
    """Unity Catalog refuses names that MLflow's own server takes, of models' tags and of versions'."""
    reserved = "contains one or more of the reserved characters"
    with pytest.raises(Error, match=reserved):
        catalog.create_registered_model(model_name, tags={"mlflow.source": "x"})
    catalog.create_registered_model(model_name, tags={"team_1": "a.b/c"})
    with pytest.raises(Error, match=reserved):
        catalog.set_registered_model_tag(model_name, "a/b", "x")
    source = save_model(tmp_path / "model")
    with pytest.raises(Error, match=reserved):
        catalog.create_model_version(model_name, source, tags={"a-b": "x"})


@pytest.mark.parametrize(
    ("method", "call", "body", "code"),
    [
        ("POST", "registered-models/get", {"name": "main.default.m"}, "ENDPOINT_NOT_FOUND"),
        ("GET", "registered-models/list", {}, "ENDPOINT_NOT_FOUND"),
        ("GET", "registered-models/get", {}, "INVALID_PARAMETER_VALUE"),
        ("GET", "registered-models/get", {"name": "main.default.absent"}, "NOT_FOUND"),
        (
            "PATCH",
            "registered-models/update",
            {"name": "main.default.m"},
            "INVALID_PARAMETER_VALUE",
        ),
        (
            "POST",
            "model-versions/emit-lineage",
            {"name": "main.default.absent", "version": "1"},
            "NOT_FOUND",
        ),
    ],
)
def test_refusals_have_unity_catalogs_own_codes(
    method: str, call: str, body: dict[str, Any], code: str, workspace: Databricks
) -> None:
    """A wrong method, an unknown call, a missing field and a missing model each have their own error."""
    assert ask(workspace, method, call, **body).json()["error_code"] == code


def test_both_registries_are_separate(
    model_name: str, token: Any, catalog: mlflow.MlflowClient
) -> None:
    """The workspace's own registry lists nothing of Unity Catalog, and vice versa."""
    legacy_name = f"legacy-{uuid4().hex}"
    catalog.create_registered_model(model_name)
    legacy = mlflow.MlflowClient(registry_uri="databricks")
    legacy.create_registered_model(legacy_name)
    assert {each.name for each in legacy.search_registered_models()} >= {legacy_name}
    assert model_name not in {each.name for each in legacy.search_registered_models()}
    assert legacy_name not in {each.name for each in catalog.search_registered_models()}
    assert token.options


def test_a_workspace_without_a_metastore_names_the_remedy(
    catalog: mlflow.MlflowClient, workspace: Databricks
) -> None:
    """Without Unity Catalog, the client's hint names the legacy registry."""
    workspace.unity_catalog.is_enabled = False
    with pytest.raises(Error, match="METASTORE_DOES_NOT_EXIST"):
        catalog.create_registered_model("main.default.model")


def test_registered_models_need_a_token(workspace: Databricks) -> None:
    """Unity Catalog requires a valid token."""
    path = f"{workspace.url}{API}/registered-models/search"
    assert requests.get(path, timeout=30).status_code == 401
    wrong = requests.get(path, headers={"Authorization": "Bearer x"}, timeout=30)
    assert wrong.status_code == 403
