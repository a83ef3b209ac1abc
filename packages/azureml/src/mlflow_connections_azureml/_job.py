"""AzureML jobs: AzureML has set a tracking URI and a token, and both stay."""

import os
from collections.abc import Mapping

from mlflow_connections.secrets import get_logger

from ._options import Workspace

RUN_ID_VARIABLE = "AZUREML_RUN_ID"
"""Set in every job; see RunEnvVars in azureml-mlflow's azureml/mlflow/_common/constants.py."""


def job_uri(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the tracking URI of the AzureML job around this process, or None outside of a job."""
    environ = os.environ if environ is None else environ
    uri = environ.get("MLFLOW_TRACKING_URI", "")
    return uri if uri.startswith("azureml://") and environ.get(RUN_ID_VARIABLE) else None


def warn_of_another_workspace(uri: str, configured: Workspace | None) -> None:
    """Warn if the job belongs to another workspace than the configured one."""
    if configured is None or configured.resource_id.lower() in uri.lower():
        return
    # Imported on use: most sessions log nothing, and `logging` is most of this package's import
    # time.
    get_logger(__name__).warning(
        "This AzureML job keeps its own tracking URI, which does not belong to the workspace '%s' "
        "of the connection's options.",
        configured.name,
    )
