"""The gateways' definitions: what they let through, and where the credentials come from."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from mlflow_connections import InvalidOptionError
from mlflow_connections_snowflake import BridgeConfig, load, openapi, statements
from mlflow_connections_snowflake._functions import CALL_PATHS
from mlflow_connections_snowflake._gateway import azure_policy, paths

BACKEND = "http://mlflow.internal:5000"


def test_every_function_gets_through(setup: BridgeConfig) -> None:
    """Each URL that a function calls is one of the definition's, and there is no other."""
    definition = openapi(setup, BACKEND)
    root = setup.require_gateway()[0].url
    base = definition["servers"][0]["url"] if "servers" in definition else None
    urls = {f"{base or root}{path}" for path in definition["paths"]}
    called = {
        statement.sql.rpartition("AS '")[2].rstrip("'")
        for statement in statements(setup)
        if "EXTERNAL FUNCTION" in statement.sql and statement.verb == "CREATE"
    }
    # The generic call's URL is completed by its translator.
    [generic] = {url for url in called if url.endswith("/")}
    assert called - {generic} <= urls
    assert {f"{generic}{path}" for path in CALL_PATHS} <= urls
    assert len(urls) == len(paths())
    assert all(list(methods) == ["post"] for methods in definition["paths"].values())


def test_no_credentials_are_written(setup: BridgeConfig) -> None:
    """A definition names where a credential goes, and holds none."""
    text = json.dumps(openapi(setup, BACKEND))
    assert "Basic " not in text
    assert "Bearer " not in text


def test_amazon_adds_the_credentials(setup_files: Path) -> None:
    """Amazon's gateway signs nothing away: only the integration's role may call, and MLflow gets its header."""
    definition = openapi(load(setup_files / "aws.yml"), BACKEND)
    operation = definition["paths"]["/api/2.0/mlflow/runs/create"]["post"]
    integration = operation["x-amazon-apigateway-integration"]
    assert operation["x-amazon-apigateway-auth"] == {"type": "AWS_IAM"}
    assert integration["uri"] == f"{BACKEND}/api/2.0/mlflow/runs/create"
    assert integration["requestParameters"] == {
        "integration.request.header.Authorization": "'${MLFLOW_AUTHORIZATION}'"
    }
    [rule] = definition["x-amazon-apigateway-policy"]["Statement"]
    assert rule["Principal"] == {
        "AWS": "arn:aws:sts::123456789012:assumed-role/snowflake-mlflow/snowflake"
    }


def test_google_identifies_itself(setup_files: Path) -> None:
    """Google's gateway lets Snowflake's account in, and shows MLflow's proxy an ID token."""
    definition = openapi(load(setup_files / "google.yml"), BACKEND)
    operation = definition["paths"]["/api/2.0/mlflow/runs/create"]["post"]
    assert definition["swagger"] == "2.0"
    assert operation["security"] == [{"snowflake": []}]
    assert operation["x-google-backend"]["address"] == f"{BACKEND}/api/2.0/mlflow/runs/create"
    assert operation["x-google-backend"]["path_translation"] == "CONSTANT_ADDRESS"
    assert "snowflake" in definition["securityDefinitions"]


def test_azure_has_a_policy(setup_files: Path) -> None:
    """Azure's policy checks Snowflake's token, replaces it by MLflow's, and names the backend."""
    policy = ET.fromstring(azure_policy(load(setup_files / "azure.yml"), BACKEND))
    inbound = policy.find("inbound")
    assert inbound is not None
    assert [child.tag for child in inbound] == [
        "base",
        "validate-jwt",
        "set-header",
        "set-backend-service",
    ]
    assert inbound.findtext("set-header/value") == "{{mlflow-authorization}}"
    assert inbound[3].get("base-url") == BACKEND


def test_only_azure_has_a_policy(aws: BridgeConfig) -> None:
    """Asking for a policy where there is none is answered."""
    with pytest.raises(InvalidOptionError, match="A policy is for Azure"):
        azure_policy(aws, BACKEND)


@pytest.mark.parametrize(
    "backend", ["mlflow:5000", "ftp://x", "https://", "http://x?a=b", "http://me:pw@x", ""]
)
def test_backends_that_cannot_be(aws: BridgeConfig, backend: str) -> None:
    """The backend is a plain URL; a password in it would end in a file, and is not shown either."""
    with pytest.raises(InvalidOptionError) as caught:
        openapi(aws, backend)
    assert "pw" not in str(caught.value)
