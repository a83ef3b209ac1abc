"""Code that runs inside an AzureML job: the job brings its own tracking URI, and a token with it."""

import logging
import os
from collections.abc import Mapping

from ._options import Workspace

logger = logging.getLogger(__name__)

RUN_ID_VARIABLE = "AZUREML_RUN_ID"
"""Set in every job, see RunEnvVars in azureml-mlflow's azureml/mlflow/_common/constants.py."""


def job_uri(environ: Mapping[str, str] | None = None) -> str | None:
    """Give the tracking URI that the job around this process was given; None outside of a job."""
    environ = os.environ if environ is None else environ
    uri = environ.get("MLFLOW_TRACKING_URI", "")
    return uri if uri.startswith("azureml://") and environ.get(RUN_ID_VARIABLE) else None


def warn_of_another_workspace(uri: str, configured: Workspace | None) -> None:
    """Say so where the job belongs to another workspace than the one that is configured."""
    if configured is None or configured.resource_id.lower() in uri.lower():
        return
    logger.warning(
        "This AzureML job keeps its own tracking URI, which does not belong to the workspace '%s' "
        "of the connection's options.",
        configured.name,
    )
