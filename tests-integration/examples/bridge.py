"""The bridge to MLflow that pages about Snowflake begin with."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from mlflow_connections_sandbox import Sandbox
from mlflow_connections_sandbox._snowflake import BASES
from mlflow_connections_snowflake import load


def build_bridge(sandbox: Sandbox, folder: Path) -> None:
    """Set up the bridge that pages about Snowflake begin with, and let the cloud trust it."""
    role = "arn:aws:iam::123456789012:role/snowflake-mlflow"
    keys = ("experiment_get_by_name", "run_create", "run_update", "run_log_metric")
    section = {
        "experiment_name": "demo-mlops",
        "functions": {key: f"demo.demo.mlflow_{key}" for key in (*keys, "run_log_parameter")},
        "gateway": {"provider": "aws", "url": BASES["aws"], "role_arn": role},
        "storage": {"location": "s3://mlflow-sandbox/", "role_arn": role},
    }
    config = folder / "snowflake.yml"
    folder.mkdir(parents=True)
    config.write_text(yaml.safe_dump({"mlflow": section}))
    account: Any = sandbox["snowflake"]
    subprocess.run(
        [Path(sys.executable).with_name("mlflow-snowflake"), "apply", "--config", config],
        env={**os.environ, **account.environment()},
        check=True,
        capture_output=True,
    )
    setup = load(config)
    account.trust(setup.require_gateway()[0].integration.object)
    assert setup.storage
    account.trust(setup.storage.integration.object)
