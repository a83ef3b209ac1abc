"""The definition of the gateway's API, which allows only the requests that the functions send.

MLflow's credentials stay at the gateway. Snowflake could not send them, since `HEADERS` of an
external function arrive only as `sf-custom-*`. They are never written into a definition either: the
deployment replaces `${…}` from the cloud's own secret store.

Amazon documents that API Gateway may rename an `Authorization` header that an integration sets
(`x-amzn-Remapped-Authorization`), and a method with AWS_IAM authorization uses the caller's own.
The definition therefore sets the same value under `X-MLflow-Authorization` as well, which always
arrives, and `proxy` writes a small proxy that copies it back to `Authorization`.
"""

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from mlflow_connections import InvalidOptionError

from ._config import BridgeConfig, Gateway
from ._functions import API_PATH, CALL_PATHS, FUNCTIONS

AUTHORIZATION = "${MLFLOW_AUTHORIZATION}"
"""The placeholder of the header's value: `Basic …` or `Bearer …`."""
SAFE_HEADER = "X-MLflow-Authorization"
"""The header with the same value that API Gateway does not rename."""

JsonObject = dict[str, Any]


def openapi(setup: BridgeConfig, backend: str) -> JsonObject:
    """Return the definition of the gateway's API.

    For AWS it is OpenAPI 3 with Amazon's extensions, for Google OpenAPI 2 (its gateway reads no
    other), for Azure OpenAPI 3, which needs `azure_policy` as well.

    Args:
        setup: The setup, with a gateway.
        backend: The URL at which the gateway reaches the MLflow server.

    Raises:
        MissingOptionError: The setup has no gateway.
        InvalidOptionError: The backend is not a URL of http or https.
    """
    gateway, _, _ = setup.require_gateway()
    backend = _backend(backend)
    make = {"aws": _aws, "azure": _azure, "google": _google}[gateway.cloud]
    return make(gateway, backend)


def azure_policy(setup: BridgeConfig, backend: str) -> str:
    """Return the policy of the API in Azure API Management.

    It admits only Snowflake, adds MLflow's credentials from the named value
    `mlflow-authorization`, and names the backend.

    Raises:
        MissingOptionError: The setup has no gateway.
        InvalidOptionError: The gateway is not Azure's, or the backend is not a URL.
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


def proxy(backend: str) -> str:
    """Return the configuration of an nginx in front of MLflow that restores the `Authorization` header.

    It is needed on AWS if API Gateway renames that header: point the definition's backend to this
    proxy, and the proxy to MLflow.

    Raises:
        InvalidOptionError: The backend is not a URL of http or https.
    """
    return f"""# A request without the gateway's header gets no credentials.
server {{
  listen 8080;
  client_max_body_size 2m;
  location {API_PATH} {{
    proxy_set_header Authorization $http_{SAFE_HEADER.lower().replace("-", "_")};
    proxy_set_header {SAFE_HEADER} "";
    proxy_set_header x-amzn-Remapped-Authorization "";
    proxy_pass {_backend(backend)};
  }}
}}
"""


def is_private(backend: str) -> bool:
    """Return whether a backend's host looks private, so that API Gateway needs a VPC link to it."""
    host = urlsplit(backend).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".internal", ".local", ".lan"))


def paths() -> tuple[str, ...]:
    """Return every path below `API_PATH` that a function may call."""
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
            "The backend's URL must not contain credentials: the gateway adds them, from its own store."
        )
    return backend.rstrip("/")


def _escaped(text: str) -> str:
    from xml.sax.saxutils import escape

    return escape(text)


def _operation(path: str) -> str:
    """Return the name of an operation: `post_runs_log_batch`."""
    return "post_" + path.replace("/", "_").replace("-", "_")


def _info() -> JsonObject:
    return {
        "title": "MLflow for Snowflake",
        "description": "The part of MLflow's REST API that Snowflake's external functions call.",
        "version": "1.0.0",
    }


def _base_path(gateway: Gateway, *, staged: bool = False) -> str:
    """Return the path of the gateway's URL, below Amazon's stage."""
    path = urlsplit(gateway.url).path.rstrip("/")
    if staged and ".execute-api." in gateway.url:
        # https://{api}.execute-api.{region}.amazonaws.com/{stage}: the stage is not part of the API.
        path = "/" + path.lstrip("/").partition("/")[2]
    return path.rstrip("/")


def _aws(gateway: Gateway, backend: str) -> JsonObject:
    # arn:aws:iam::123456789012:role/path/name
    _, partition, _, _, account, role = gateway.role_arn.split(":", 5)
    assumed = f"assumed-role/{role.rpartition('/')[2]}/snowflake"
    snowflake = f"arn:{partition}:sts::{account}:{assumed}"
    base = _base_path(gateway, staged=True)
    link = (
        {"connectionType": "VPC_LINK", "connectionId": gateway.vpc_link} if gateway.vpc_link else {}
    )

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
                    **link,
                    # A static value is in single quotes. A stage variable cannot contain the space
                    # that every Authorization header has.
                    "requestParameters": {
                        f"integration.request.header.{header}": f"'{AUTHORIZATION}'"
                        for header in ("Authorization", SAFE_HEADER)
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
                    # Google's gateway adds only this header: an ID token of its own service account
                    # for this audience, which IAP or Cloud Run in front of MLflow accepts.
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
            # `DESCRIBE INTEGRATION` shows the service account that Snowflake uses.
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


def _azure(gateway: Gateway, backend: str) -> JsonObject:  # noqa: ARG001 - the policy has it
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
