"""The model registry, limited to POST requests: it registers models and versions."""

# Most of MLflow's functions have no annotations.
# mypy: allow-untyped-calls

import json
from typing import Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.protos import model_registry_pb2
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.utils.proto_json_utils import message_to_json

from ._rest import Rest, entity
from ._unsupported import mark_unsupported
from ._uri import SCHEME, Bridge, original


class SnowflakeRegistryStore(AbstractStore):
    """MLflow's model registry inside Snowflake: it registers models, and cannot look any up.

    Args:
        store_uri: The tracking URI, which describes the bridge.
        tracking_uri: The tracking URI of the models' runs.
    """

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        super().__init__(store_uri, tracking_uri)
        bridge, _ = Bridge.from_uri(store_uri)
        self._api = Rest(bridge)

    def create_registered_model(
        self,
        name: str,
        tags: list[Any] | None = None,
        description: str | None = None,
        deployment_job_id: str | None = None,  # noqa: ARG002 - only Databricks has it
    ) -> RegisteredModel:
        """Register a model.

        Snowflake may deliver the request twice. The second delivery is refused because the name
        exists, which MLflow's fluent functions expect and ignore.
        """
        body = {"name": name, "tags": _protos(tags), "description": description}
        content = self._api.post("registered-models/create", body)["registered_model"]
        model: RegisteredModel = entity(
            RegisteredModel, model_registry_pb2.RegisteredModel(), content
        )
        return model

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: list[Any] | None = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,  # noqa: ARG002 - the server reads the source
        model_id: str | None = None,
    ) -> ModelVersion:
        """Register a version of a model."""
        if source.startswith(f"{SCHEME}:"):
            source = original(*Bridge.from_uri(source))
        body = {
            "name": name,
            "source": source,
            "run_id": run_id,
            "tags": _protos(tags),
            "run_link": run_link,
            "description": description,
            "model_id": model_id,
        }
        content = self._api.post("model-versions/create", body)["model_version"]
        version: ModelVersion = entity(ModelVersion, model_registry_pb2.ModelVersion(), content)
        return version

    def _await_model_version_creation(self, mv: ModelVersion, await_creation_for: int) -> None:
        """Do nothing: MLflow's server responds when the version is ready."""


mark_unsupported(SnowflakeRegistryStore, AbstractStore, kept=frozenset())


def _protos(tags: list[Any] | None) -> list[dict[str, Any]]:
    return [json.loads(message_to_json(tag.to_proto())) for tag in tags or []]
