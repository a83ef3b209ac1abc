"""Traces: MLflow's own carry a token, those of an OTLP exporter do not, as the guide states."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest

KNOWN = {"authorization", "proxy-authorization", "cookie", "x-access-secret"}
# From 3.5 on, MLflow exports by OTLP in addition to its own export.
HAS_BOTH = int(mlflow.__version__.partition(".")[0]) >= 3


@pytest.mark.skipif(not HAS_BOTH, reason="MLflow 2 exports in one way at a time")
def test_an_otlp_exporter_carries_no_credential(protected: Any, foreign: Any) -> None:
    """The server refuses it and a collector receives no secret, while MLflow's own export of the same trace arrives."""
    endpoints = [f"{server.url}/v1/traces" for server in (protected, foreign)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("export_traces.py")), *endpoints],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            **protected.environment(),
            "MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT": "true",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        },
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [["step-0"], ["step-1"]]
    # MLflow itself may use the same path, with a token.
    refused = [r.status for r in protected.journal.requests("/v1/traces") if r.status >= 300]
    assert set(refused) == {302}  # to the login page, like any client
    assert foreign.headers
    assert not [headers for headers in foreign.headers if KNOWN & headers.keys()]
    assert protected.client.client_secret not in str(foreign.headers)
