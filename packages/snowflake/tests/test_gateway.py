"""The gateways' definitions: allowed requests, and the source of the credentials."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections_snowflake import (
    BridgeConfig,
    apply,
    load,
    openapi,
    read,
    script,
    statements,
)
from mlflow_connections_snowflake._functions import CALL_PATHS
from mlflow_connections_snowflake._gateway import azure_policy, is_private, paths, proxy

BACKEND = "http://mlflow.internal:5000"


def test_every_function_is_allowed(setup: BridgeConfig) -> None:
    """Each URL that a function calls is in the definition, and no other is."""
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
    """A definition names the place of a credential, and contains none."""
    text = json.dumps(openapi(setup, BACKEND))
    assert "Basic " not in text
    assert "Bearer " not in text


def test_amazon_adds_the_credentials(setup_files: Path) -> None:
    """Only the integration's role may call Amazon's gateway, and MLflow receives its header."""
    definition = openapi(load(setup_files / "aws.yml"), BACKEND)
    operation = definition["paths"]["/api/2.0/mlflow/runs/create"]["post"]
    integration = operation["x-amazon-apigateway-integration"]
    assert operation["x-amazon-apigateway-auth"] == {"type": "AWS_IAM"}
    assert integration["uri"] == f"{BACKEND}/api/2.0/mlflow/runs/create"
    # API Gateway may rename the first; the second always arrives, for a proxy in front of MLflow.
    assert integration["requestParameters"] == {
        "integration.request.header.Authorization": "'${MLFLOW_AUTHORIZATION}'",
        "integration.request.header.X-MLflow-Authorization": "'${MLFLOW_AUTHORIZATION}'",
    }
    assert "connectionType" not in integration
    [rule] = definition["x-amazon-apigateway-policy"]["Statement"]
    assert rule["Principal"] == {
        "AWS": "arn:aws:sts::123456789012:assumed-role/snowflake-mlflow/snowflake"
    }


def test_a_private_backend_has_a_vpc_link(setup_files: Path) -> None:
    """With a VPC link every integration uses it; only Amazon has one."""
    content = yaml.safe_load((setup_files / "aws.yml").read_text())
    content["snowflake"]["mlflow"]["gateway"]["vpc_link"] = "a1b2c3"
    definition = openapi(read(content), BACKEND)
    for methods in definition["paths"].values():
        integration = methods["post"]["x-amazon-apigateway-integration"]
        assert (integration["connectionType"], integration["connectionId"]) == (
            "VPC_LINK",
            "a1b2c3",
        )
    azure = yaml.safe_load((setup_files / "azure.yml").read_text())
    azure["snowflake"]["mlflow"]["gateway"]["vpc_link"] = "a1b2c3"
    with pytest.raises(InvalidOptionError, match=r"vpc_link .* not used with the provider azure"):
        read(azure)


@pytest.mark.parametrize(
    ("backend", "private"),
    [
        ("http://10.0.0.7:5000", True),
        ("http://mlflow:5000", True),
        ("https://mlflow.internal", True),
        ("https://mlflow.example.com", False),
        ("https://8.8.8.8", False),
    ],
)
def test_a_private_backend_is_recognized(backend: str, private: bool) -> None:
    """Hosts that only a private network knows need a VPC link."""
    assert is_private(backend) is private


def test_the_proxy_restores_the_header() -> None:
    """The proxy's configuration uses the header that arrives, and forwards no other copy."""
    text = proxy(BACKEND)
    assert "proxy_set_header Authorization $http_x_mlflow_authorization;" in text
    assert f"proxy_pass {BACKEND};" in text
    assert "location /api/2.0/mlflow/ {" in text


@pytest.mark.parametrize(
    ("provider", "known"),
    [
        ("aws_private", "aws_private_api_gateway"),
        ("aws_gov", "aws_gov_api_gateway"),
        ("aws_gov_private", "aws_gov_private_api_gateway"),
    ],
)
def test_all_of_amazons_gateways(setup_files: Path, provider: str, known: str) -> None:
    """Private endpoints and the government cloud have their own providers."""
    content = yaml.safe_load((setup_files / "aws.yml").read_text())
    content["snowflake"]["mlflow"]["gateway"]["provider"] = provider
    assert any(f"API_PROVIDER = {known}" in s.sql for s in statements(read(content)))


def test_an_api_key_comes_from_the_environment(
    setup_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is in the statements that run, and never in displayed text."""
    content = yaml.safe_load((setup_files / "aws.yml").read_text())
    content["snowflake"]["mlflow"]["gateway"]["api_key_from_env"] = "GATEWAY_KEY"
    written = statements(read(content))
    monkeypatch.setenv("GATEWAY_KEY", "k3y'")
    assert "k3y" not in script(written)
    assert script(written).count("API_KEY = '${GATEWAY_KEY}'") == 2
    ran: list[str] = []

    class Session:
        def sql(self, text: str) -> "Session":
            ran.append(text)
            return self

        def collect(self) -> None:
            """Return nothing."""

    session: Any = Session()
    apply(session, written)
    assert sum("API_KEY = 'k3y'''" in sql for sql in ran) == 2
    monkeypatch.delenv("GATEWAY_KEY")
    with pytest.raises(MissingOptionError, match="GATEWAY_KEY"):
        apply(session, written)


def test_google_identifies_itself(setup_files: Path) -> None:
    """Google's gateway admits Snowflake's account, and sends an ID token to MLflow's proxy."""
    definition = openapi(load(setup_files / "google.yml"), BACKEND)
    operation = definition["paths"]["/api/2.0/mlflow/runs/create"]["post"]
    assert definition["swagger"] == "2.0"
    assert operation["security"] == [{"snowflake": []}]
    assert operation["x-google-backend"]["address"] == f"{BACKEND}/api/2.0/mlflow/runs/create"
    assert operation["x-google-backend"]["path_translation"] == "CONSTANT_ADDRESS"
    assert "snowflake" in definition["securityDefinitions"]


def test_azure_has_a_policy(setup_files: Path) -> None:
    """Azure's policy verifies Snowflake's token, replaces it with MLflow's, and names the backend."""
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
    """A policy for another cloud is an error."""
    with pytest.raises(InvalidOptionError, match="A policy is for Azure"):
        azure_policy(aws, BACKEND)


@pytest.mark.parametrize(
    "backend", ["mlflow:5000", "ftp://x", "https://", "http://x?a=b", "http://me:pw@x", ""]
)
def test_invalid_backends_are_refused(aws: BridgeConfig, backend: str) -> None:
    """The backend is a plain URL; a password in it, which would end up in a file, is not shown."""
    with pytest.raises(InvalidOptionError) as caught:
        openapi(aws, backend)
    assert "pw" not in str(caught.value)
