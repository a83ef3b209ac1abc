"""SageMaker's tracking server, whose plugin reads its ARN from the tracking URI for each request."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mlflow_connections_sandbox import MlflowServer, StandIn
from mlflow_connections_sandbox.databand import Databand, compare

ARN = "arn:aws:sagemaker:eu-central-1:123456789012:mlflow-tracking-server/wine"
SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-central-1/sagemaker-mlflow/aws4_request, "
    r"SignedHeaders=[\w;-]*x-mlflow-sm-tracking-server-arn[\w;-]*, Signature=[0-9a-f]{64}"
)


class SageMaker(StandIn):
    """Accepts requests that are signed for SageMaker and name its tracking server; signatures are not recomputed."""

    name = "sagemaker"

    def app(self) -> Starlette:
        """Create the application."""
        return Starlette(
            routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "DELETE", "PATCH"])]
        )

    def environment(self) -> Mapping[str, str]:
        """Return the variables that the plugin and boto3 read."""
        return {
            "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": self.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _answer(self, request: Request) -> Response:
        headers = request.headers
        if headers.get("x-mlflow-sm-tracking-server-arn") != ARN or not SIGNED.fullmatch(
            headers.get("authorization", "")
        ):
            return JSONResponse({"message": "not signed for this tracking server"}, 403)
        return self.mlflow.forward(request)


@pytest.fixture
def sagemaker(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[SageMaker]:
    """A SageMaker tracking server in front of the real MLflow server."""
    stand_in = SageMaker(mlflow_server.url, tmp_path / "sagemaker")
    stand_in.start()
    yield stand_in
    stand_in.close()


def test_an_arn_stays_the_tracking_uri_and_is_copied(
    sagemaker: SageMaker, mlflow_server: MlflowServer, tracker: Databand, tmp_path: Path
) -> None:
    """The plugin signs for the ARN in the tracking URI, and the tracker has the run."""
    script = Path(__file__).with_name("log_copied.py")
    environment = {
        **os.environ,
        **sagemaker.environment(),
        "MY_SERVER": ARN,
        "MY_DATABAND": tracker.url,
        "MY_DATABAND_TOKEN": tracker.account.token,
        "MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox"),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    assert read["tracking_uri"] == ARN
    assert [run["name"] for run in tracker.runs()] == ["copied"]
    assert compare(mlflow_server.url, tracker, "copied") == []
    assert sagemaker.journal.requests("/runs/log-metric")
