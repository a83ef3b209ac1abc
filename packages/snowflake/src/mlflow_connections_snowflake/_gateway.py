"""What the gateway needs: its API's definition, which lets through what the functions call.

MLflow's credentials stand at the gateway alone. `HEADERS` of an external function arrive only as
`sf-custom-*`, so Snowflake could not send them, and it need not know them. They are never written
here either: `${…}` is for the deployment to fill in, from the cloud's own store of secrets.
"""

from typing import Any
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from mlflow_connections import InvalidOptionError

from ._config import BridgeConfig, Gateway
from ._functions import API_PATH, CALL_PATHS, FUNCTIONS

AUTHORIZATION = "${MLFLOW_AUTHORIZATION}"
"""Stands for the header's value: `Basic …` or `Bearer …`."""

JsonObject = dict[str, Any]


def openapi(setup: BridgeConfig, backend: str) -> JsonObject:
    """Give the definition of the gateway's API.

    For AWS it is OpenAPI 3 with Amazon's extensions, for Google OpenAPI 2 (its gateway reads no
    other), for Azure OpenAPI 3, beside which `azure_policy` is needed.

    Args:
        setup: The setup, with a gateway.
        backend: The URL of the MLflow server, as the gateway reaches it.

    Raises:
        MissingOptionError: The setup has no gateway.
        InvalidOptionError: The backend is no URL of http or https.
    """
    gateway, _, _ = setup.require_gateway()
    backend = _backend(backend)
    make = {"aws": _aws, "azure": _azure, "google": _google}[gateway.cloud]
    return make(gateway, backend)


def azure_policy(setup: BridgeConfig, backend: str) -> str:
    """Give the policy of the API in Azure API Management.

    It lets in Snowflake alone, adds MLflow's credentials from the named value
    `mlflow-authorization`, and names the backend.

    Raises:
        MissingOptionError: The setup has no gateway.
        InvalidOptionError: The gateway is not Azure's, or the backend is no URL.
    """
    gateway, _, _ = setup.require_gateway()
    if gateway.cloud != "azure":
        raise InvalidOptionError(f"A policy is for Azure; the provider is {gateway.provider}.")
    login = f"https://login.microsoftonline.com/{gateway.tenant_id}"
    return f"""<policies>
  <inbound>
    <base />
    <validate-jwt header-name="Authorization" failed-validation-httpcode="401">
      <openid-config url={quoteattr(login + "/.well-known/openid-configuration")} />
      <required-claims>
        <claim name="aud"><value>{_escaped(gateway.application_id)}</value></claim>
        <claim name="appid"><value>${{SNOWFLAKE_APP_ID}}</value></claim>
      </required-claims>
    </validate-jwt>
    <set-header name="Authorization" exists-action="override">
      <value>{{{{mlflow-authorization}}}}</value>
    </set-header>
    <set-backend-service base-url={quoteattr(_backend(backend))} />
  </inbound>
  <backend><base /></backend>
  <outbound><base /></outbound>
  <on-error><base /></on-error>
</policies>
"""


def paths() -> tuple[str, ...]:
    """Give every path below `API_PATH` that a function may call."""
    return tuple(sorted({*CALL_PATHS, *(f.endpoint for f in FUNCTIONS if f.endpoint)}))


def _backend(backend: str) -> str:
    parts = urlsplit(backend)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise InvalidOptionError(
            f"The backend must be the URL of an MLflow server, http(s)://host[:port][/path], "
            f"not {backend.rpartition('@')[2]!r}."
        )
    if parts.username or parts.password:
        raise InvalidOptionError(
            "The backend's URL may hold no credentials: the gateway adds them, from its own store."
        )
    return backend.rstrip("/")


def _escaped(text: str) -> str:
    from xml.sax.saxutils import escape

    return escape(text)


def _operation(path: str) -> str:
    """A name for an operation: `post_runs_log_batch`."""
    return "post_" + path.replace("/", "_").replace("-", "_")


def _info() -> JsonObject:
    return {
        "title": "MLflow for Snowflake",
        "description": "The part of MLflow's REST API that Snowflake's external functions call.",
        "version": "1.0.0",
    }


def _base_path(gateway: Gateway, *, staged: bool = False) -> str:
    """The path of the gateway's URL, below Amazon's stage."""
    path = urlsplit(gateway.url).path.rstrip("/")
    if staged and ".execute-api." in gateway.url:
        # https://{api}.execute-api.{region}.amazonaws.com/{stage}: the stage is no part of the API.
        path = "/" + path.lstrip("/").partition("/")[2]
    return path.rstrip("/")


def _aws(gateway: Gateway, backend: str) -> JsonObject:
    # arn:aws:iam::123456789012:role/path/name
    _, partition, _, _, account, role = gateway.role_arn.split(":", 5)
    assumed = f"assumed-role/{role.rpartition('/')[2]}/snowflake"
    snowflake = f"arn:{partition}:sts::{account}:{assumed}"
    base = _base_path(gateway, staged=True)

    def operation(path: str) -> JsonObject:
        return {
            "post": {
                "operationId": _operation(path),
                "responses": {"200": {"description": "MLflow's reply"}},
                # Snowflake signs its requests as the role of the API integration.
                "x-amazon-apigateway-auth": {"type": "AWS_IAM"},
                "x-amazon-apigateway-integration": {
                    "type": "http_proxy",
                    "httpMethod": "POST",
                    "uri": f"{backend}{API_PATH}{path}",
                    "passthroughBehavior": "when_no_match",
                    "requestParameters": {
                        # A static value stands in single quotes. A stage variable would not do:
                        # it may hold no space, which every Authorization header has.
                        "integration.request.header.Authorization": f"'{AUTHORIZATION}'"
                    },
                },
            }
        }

    return {
        "openapi": "3.0.1",
        "info": _info(),
        "paths": {f"{base}{API_PATH}{path}": operation(path) for path in paths()},
        "x-amazon-apigateway-policy": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": snowflake},
                    "Action": "execute-api:Invoke",
                    "Resource": "execute-api:/*/POST/*",
                }
            ],
        },
    }


def _google(gateway: Gateway, backend: str) -> JsonObject:
    account = "${API_GCP_SERVICE_ACCOUNT}"

    def operation(path: str) -> JsonObject:
        return {
            "post": {
                "operationId": _operation(path),
                "consumes": ["application/json"],
                "produces": ["application/json"],
                "security": [{"snowflake": []}],
                "responses": {"200": {"description": "MLflow's reply"}},
                "x-google-backend": {
                    "address": f"{backend}{API_PATH}{path}",
                    "path_translation": "CONSTANT_ADDRESS",
                    # Google's gateway adds no header but this one: the ID token of its own service
                    # account for this audience, which IAP or Cloud Run before MLflow accepts.
                    "jwt_audience": "${MLFLOW_AUDIENCE}",
                },
            }
        }

    return {
        "swagger": "2.0",
        "info": _info(),
        "host": urlsplit(gateway.url).hostname,
        "schemes": ["https"],
        "securityDefinitions": {
            # `DESCRIBE INTEGRATION` shows which service account Snowflake calls as.
            "snowflake": {
                "authorizationUrl": "",
                "flow": "implicit",
                "type": "oauth2",
                "x-google-issuer": account,
                "x-google-jwks_uri": (
                    f"https://www.googleapis.com/robot/v1/metadata/x509/{account}"
                ),
                "x-google-audiences": gateway.audience,
            }
        },
        "paths": {f"{_base_path(gateway)}{API_PATH}{path}": operation(path) for path in paths()},
    }


def _azure(gateway: Gateway, backend: str) -> JsonObject:  # noqa: ARG001 - the policy names it
    return {
        "openapi": "3.0.1",
        "info": _info(),
        "servers": [{"url": gateway.url}],
        "paths": {
            f"{API_PATH}{path}": {
                "post": {
                    "operationId": _operation(path),
                    "requestBody": {"content": {"application/json": {"schema": {}}}},
                    "responses": {"200": {"description": "MLflow's reply"}},
                }
            }
            for path in paths()
        },
    }
