"""Trace once per given exporter endpoint, through the connection: prints the traces that arrived."""

import json
import os
import sys

import mlflow

from mlflow_connections import use


def main(endpoints: list[str]) -> list[list[str]]:
    """Trace to each endpoint with OpenTelemetry, and to the server with MLflow itself; return the names read back."""
    found = []
    for number, endpoint in enumerate(endpoints):
        os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = endpoint
        with use("http"):
            experiment = mlflow.set_experiment(f"traced-{os.getpid()}-{number}").experiment_id
            with mlflow.start_span(f"step-{number}"):
                pass
            # Flush MLflow's own queue, and that of OpenTelemetry's exporter.
            mlflow.flush_trace_async_logging()
            mlflow.tracing.reset()
            traces = mlflow.MlflowClient().search_traces([experiment])
            found.append([span.name for trace in traces for span in trace.data.spans])
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
