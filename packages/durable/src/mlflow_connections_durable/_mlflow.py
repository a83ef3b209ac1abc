"""Every private name of MLflow that this package uses. No other module uses one.

Each was read in MLflow 2.22, 3.5 and 3.17; the functions hide the differences between versions.
"""

import copy
import inspect
import json
import time
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, TypeVar

from mlflow_connections.authentication import authenticator_of, origin_of
from mlflow_connections_events import is_unity_catalog
from mlflow_connections_events.ids import CATALOG_SOURCE_TAG, SOURCE_TAG

from ._patience import ATTEMPT_SECONDS, is_abandoned

T = TypeVar("T")

ARTIFACT_ASYNC = "_log_artifact_async"
"""The method of an artifact repository through which `mlflow.log_image` uploads."""
_SURELY_SHORT = 250
"""The length of a key, and of a param's value, that every version of MLflow accepts."""
_SURELY_FEW = 100
"""The number of values that every version of MLflow accepts at once."""


def accepted_arguments(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a function accepts in this version of MLflow."""
    known = _parameters(function)
    return {name: value for name, value in arguments.items() if name in known}


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def artifact_builders() -> MutableMapping[str, Callable[..., Any]]:
    """Return MLflow's own mapping from scheme to builder of artifact repositories, to be changed in place."""
    from mlflow.store.artifact import artifact_repository_registry

    registry: Any = artifact_repository_registry._artifact_repository_registry
    found: MutableMapping[str, Callable[..., Any]] = registry._registry
    return found


def asking_store(store: Any) -> Any:
    """Return a store like the given one whose REST requests are sent once, with a short timeout.

    MLflow's retries cannot be disabled for one call, and one that continued in the background could
    create a run a second time. A store that is not one of MLflow's REST stores is returned
    unchanged.
    """
    from mlflow.store.tracking import rest_store

    if not isinstance(store, rest_store.RestStore):
        return store
    _import_sdk(store)
    asking: Any = copy.copy(store)

    def call_once(
        api: Any, json_body: Any = None, endpoint: Any = None, *_: Any, **more: Any
    ) -> Any:
        path, method = _endpoint(store, rest_store, api)
        found = more.get("response_proto") or api.Response()
        return _call_once(
            *(store, endpoint or path, method, json_body, found), seconds=ATTEMPT_SECONDS
        )

    asking._call_endpoint = call_once
    return asking


def asking_registry(store: Any, *, limited: bool) -> Any:
    """Return a registry whose REST requests are made once.

    A registry that is none of MLflow's REST stores is returned as it is.

    Args:
        store: The server's own registry.
        limited: Whether a request may only take as long as an attempt. A call that is waited for as long as the
            server responds to probes may take any time, but is over once nobody waits for it.
    """
    from mlflow.store.model_registry.base_rest_store import BaseRestStore

    if not isinstance(store, BaseRestStore):
        return store
    asking: Any = copy.copy(store)

    def call_once(
        api: Any,
        json_body: Any,
        call_all_endpoints: bool = False,
        extra_headers: Any = None,
        **_: Any,
    ) -> Any:
        found = store._get_response_from_method(api)
        if call_all_endpoints:
            # Several paths of one call: the first is that of MLflow's own server.
            endpoint, method = store._get_all_endpoints_from_method(api)[0]
        else:
            endpoint, method = store._get_endpoint_from_method(api)
        seconds = ATTEMPT_SECONDS if limited else None
        return _call_once(
            *(store, endpoint, method, json_body, found), seconds=seconds, headers=extra_headers
        )

    asking._call_endpoint = call_once
    return asking


def uploads_models(store: Any) -> bool:
    """Return whether a registry gets the files of a model from its client."""
    return is_unity_catalog(store)


def version_source_tag(store: Any) -> str:
    """Return the name of the tag that a registry's versions may have for the ID by which they are found."""
    return CATALOG_SOURCE_TAG if is_unity_catalog(store) else SOURCE_TAG


def is_unity_catalog_in_force() -> bool:
    """Return whether models are registered in Databricks' Unity Catalog."""
    from mlflow import get_registry_uri

    return str(get_registry_uri()).partition(":")[0] == "databricks-uc"


def registry_uri_of(store: Any, tracking_uri: str) -> str | None:
    """Return the URI of a registry, if the server of a tracking URI has several."""
    if tracking_uri.partition(":")[0] != "databricks":
        return None
    kind = "databricks-uc" if is_unity_catalog(store) else "databricks"
    return tracking_uri.replace("databricks", kind, 1)


def check_version(store: Any, local_model_path: str | None) -> None:
    """Raise MLflow's error for a model that a registry would refuse once it gets the model's files."""
    if local_model_path is not None and is_unity_catalog(store):
        store._validate_model_signature(local_model_path)


def check_stages(store: Any) -> None:
    """Raise MLflow's error if a registry has no stages."""
    if is_unity_catalog(store):
        store.transition_model_version_stage("", "", "", archive_existing_versions=False)


def _import_sdk(store: Any) -> None:
    """Import Databricks' SDK for its store; on a busy machine the import takes longer than an attempt may."""
    if "databricks" in type(store).__module__:
        with suppress(ImportError):
            import_module("databricks.sdk")


def host_credentials(host: str) -> Any:
    """Return MLflow's entity of a server's address, without credentials."""
    from mlflow.utils.rest_utils import MlflowHostCreds

    return MlflowHostCreds(host)


def _signed_in(store: Any, seconds: float | None) -> Any:
    """Return the credentials of a store after its client has signed in.

    A service that is down can keep the clients of Databricks, Azure or an issuer busy for minutes.
    By then no caller waits for the request, and a run that it created could exist twice.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
    from mlflow.utils import rest_utils

    until = None if seconds is None else time.monotonic() + seconds
    credentials = store.get_host_creds()
    if getattr(credentials, "use_databricks_sdk", False):
        # The client that `http_request` then finds in its cache, with the same arguments.
        client = rest_utils.get_workspace_client
        limits = {"retry_timeout_seconds": seconds, "timeout": seconds}
        client(
            credentials.use_secret_scope_token,
            credentials.host,
            credentials.token,
            credentials.databricks_auth_profile,
            **accepted_arguments(client, limits),
        ).config.authenticate()
    elif (signer := authenticator_of(origin_of(credentials.host))) is not None:
        signer.headers()
    if is_abandoned() or (until is not None and time.monotonic() > until):
        raise MlflowException(
            "The server's credentials took too long to get.", TEMPORARILY_UNAVAILABLE
        )
    return credentials


def _call_once(
    store: Any,
    endpoint: str,
    method: str,
    json_body: Any,
    found: Any,
    *,
    seconds: float | None,
    headers: Any = None,
) -> Any:
    from mlflow.utils.proto_json_utils import parse_dict
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    body = json.loads(json_body) if json_body else None
    limits = {} if seconds is None else {"timeout": seconds, "retry_timeout_seconds": seconds}
    response = http_request(
        host_creds=_signed_in(store, seconds),
        endpoint=endpoint,
        method=method,
        max_retries=0,
        raise_on_status=False,
        extra_headers=headers,
        **limits,
        **{"params" if method == "GET" else "json": body},
    )
    response = verify_rest_response(response, endpoint)
    parse_dict(js_dict=json.loads(response.text), message=found)
    return found


def _endpoint(store: Any, module: Any, api: Any) -> tuple[str, str]:
    if api in getattr(store, "_V3_APIS", ()):
        found: tuple[str, str] = store._V3_METHOD_TO_INFO[api]
    else:
        # A variable of the module in MLflow 2.22.
        table = getattr(store, "_METHOD_TO_INFO", None) or module._METHOD_TO_INFO
        found = table[api]
    return found


def base_of(store: Any) -> type | None:
    """Return the class that represents a store, or None for the store's own.

    MLflow prints links to a run that ends on a `RestStore`, with any ID that the run has.
    """
    from mlflow.store.tracking.abstract_store import AbstractStore
    from mlflow.store.tracking.rest_store import RestStore

    return AbstractStore if type(store) is RestStore else None


def hide_links(run: Any) -> bool:
    """Keep MLflow from printing links to a run, and return whether this version can be kept from it.

    MLflow 3 fetches a run before it prints its links, and prints none for the run of an evaluation, whose
    tag the given run gets. A version without that tag always prints them.
    """
    from mlflow.utils import mlflow_tags

    key = getattr(mlflow_tags, "MLFLOW_RUN_TYPE", None)
    value = getattr(mlflow_tags, "MLFLOW_RUN_TYPE_GENAI_EVALUATE", None)
    if key is None or value is None:
        return False
    run.data.tags[key] = value
    return True


def print_links(store: Any, credentials: Callable[[], Any], uri: str, run: Any) -> None:
    """Print MLflow's links to a run that has ended, unless the user's settings suppress them.

    Args:
        store: The server's own store.
        credentials: Returns the server's address and credentials, as the store does.
        uri: The server.
        run: The run, with the server's IDs.
    """
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    shown: Any = copy.copy(store)
    shown.get_run = lambda _: run
    shown.get_host_creds = credentials
    client: Any = SimpleNamespace(store=shown, tracking_uri=uri)
    TrackingServiceClient._log_url(client, run.info.run_id)


def metric_entities(run: Any) -> Iterable[Any]:
    """Return the latest metrics of a run, as entities with times and steps."""
    found: Iterable[Any] = run.data._metric_objs or ()
    return found


def random_name() -> str:
    """Return a generated name for a run or a model, as a server does."""
    from mlflow.utils.name_utils import _generate_random_name

    name: str = _generate_random_name()
    return name


def refusal(message: str, code: str) -> Exception:
    """Return the exception that MLflow's client raises when a server refuses a request with this message."""
    from mlflow.exceptions import RestException

    return RestException({"error_code": code, "message": message})


def _as_refused(check: Callable[..., T], *values: Any) -> T:
    """Call a check of MLflow's server, and raise its error as a server's client does."""
    from mlflow.exceptions import MlflowException

    try:
        return check(*values)
    except MlflowException as error:
        raise refusal(error.message, error.error_code) from None


def _refuse_missing(name: str, value: Any) -> None:
    if value is None or value == "":
        raise refusal(
            f"Missing value for required parameter '{name}'. See the API docs for more information "
            "about request parameters.",
            "INVALID_PARAMETER_VALUE",
        )


def check_metric(key: Any, value: Any, timestamp: Any, step: Any) -> None:
    """Raise a client's error for a metric that a server would refuse, or that no request can contain."""
    from mlflow.protos.service_pb2 import LogMetric
    from mlflow.utils.validation import _validate_metric

    LogMetric(key=key, value=value, timestamp=timestamp, step=step)
    _refuse_missing("key", key)
    _refuse_missing("value", value)
    _as_refused(_validate_metric, key, value, timestamp, step)


def checked_param(key: Any, value: str) -> tuple[Any, Any]:
    """Return the key and the value of a param as a server would store it, or raise MLflow's error."""
    # Most keys are plain words: MLflow's checks cost twenty times as much and never refuse those.
    if (
        type(key) is str
        and key.isascii()
        and key.isidentifier()
        and len(key) <= _SURELY_SHORT
        and len(value) <= _SURELY_SHORT
    ):
        return key, value
    from mlflow.utils.validation import _validate_param

    _refuse_missing("key", key)
    param = _as_refused(_validate_param, key, value)
    return param.key, param.value


def checked_tag(key: Any, value: Any) -> Any:
    """Return a tag as a server would store it, or raise MLflow's error."""
    from mlflow.utils.validation import _validate_tag

    _refuse_missing("key", key)
    return _as_refused(_validate_tag, key, value)


def check_batch(metrics: Any, params: Any, tags: Any) -> None:
    """Raise MLflow's error for a batch that is too large, or that sets a param twice."""
    if len(params) < 2 and len(metrics) + len(tags) < _SURELY_FEW:
        return
    from mlflow.utils.validation import _validate_batch_log_limits, _validate_param_keys_unique

    _as_refused(_validate_batch_log_limits, metrics, params, tags)
    _as_refused(_validate_param_keys_unique, params)


def check_datasets(datasets: Any) -> None:
    """Raise MLflow's error for invalid datasets."""
    from mlflow.utils.validation import _validate_dataset_inputs

    for each in datasets:
        each.to_proto()
    _as_refused(_validate_dataset_inputs, datasets)


def check_experiment_name(name: Any) -> None:
    """Raise MLflow's error for an invalid experiment name."""
    from mlflow.utils.validation import _validate_experiment_name

    _refuse_missing("name", name)
    _as_refused(_validate_experiment_name, name)


def check_experiment_tag(key: Any, value: Any) -> None:
    """Raise MLflow's error for an invalid experiment tag."""
    from mlflow.utils.validation import _validate_experiment_tag

    _refuse_missing("key", key)
    _as_refused(_validate_experiment_tag, key, value)


def check_model_name(name: Any) -> None:
    """Raise MLflow's error for an invalid name of a logged model."""
    from mlflow.utils.validation import _validate_logged_model_name

    _as_refused(_validate_logged_model_name, name)


def check_registered_name(name: Any) -> None:
    """Raise MLflow's error for an invalid name of a registered model."""
    from mlflow.utils.validation import _validate_model_name

    _refuse_missing("name", name)
    _as_refused(_validate_model_name, name)


def check_alias(name: Any) -> None:
    """Raise MLflow's error for an invalid alias."""
    from mlflow.utils.validation import _validate_model_alias_name

    _refuse_missing("alias", name)
    _as_refused(_validate_model_alias_name, name)


def store_without_server() -> Any:
    """Return a tracking store whose abstract methods may all be missing."""
    from mlflow.store.tracking.abstract_store import AbstractStore

    return type("OfflineStore", (AbstractStore,), {"__abstractmethods__": frozenset()})()


def registry_without_server() -> Any:
    """Return a model registry store whose abstract methods may all be missing."""
    from mlflow.store.model_registry.abstract_store import AbstractStore

    return type("OfflineRegistry", (AbstractStore,), {"__abstractmethods__": frozenset()})()
