"""Make every call of a training once the server is gone, and print how long each one waited.

The command line names the server; the process prints `ready`, and goes on once it is told to by a line.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow_connections

mlflow: Any = import_module("mlflow")

SCHEDULER = Path("/proc/thread-self/schedstat")


def spent() -> float:
    """Return the seconds in which this thread has run or was ready to: a busy machine is no waiting."""
    ran, ready, _ = SCHEDULER.read_text().split()
    return (int(ran) + int(ready)) / 1e9


class Calls:
    """Makes calls and measures them.

    Attributes:
        waited: The seconds that each call waited for something.
        refused: The error code of each call that raised an error of MLflow's.
        raised: Any other error of a call.
    """

    def __init__(self) -> None:
        self.waited: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        self.raised: dict[str, str] = {}

    def make(self, name: str, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Make a call, and return its result, or None if it raised an error."""
        begun, before = time.monotonic(), spent()
        try:
            return call(*args, **kwargs)
        except mlflow.MlflowException as error:
            self.refused[name] = f"{error.error_code}: {error}"
        except Exception as error:  # noqa: BLE001 - it is reported
            self.raised[name] = f"{type(error).__name__}: {error}"
        finally:
            self.waited[name] = time.monotonic() - begun - (spent() - before)
        return None


def log(calls: Calls, experiment: str, registered: str) -> None:
    """Make the calls in the order of a training."""
    make, client = calls.make, mlflow.MlflowClient()
    make("get_tracking_uri", mlflow.get_tracking_uri)
    make("get_registry_uri", mlflow.get_registry_uri)
    make("set_experiment", mlflow.set_experiment, experiment)
    make("set_experiment_tag", mlflow.set_experiment_tag, "team", "wine")
    run = make("start_run", mlflow.start_run, run_name="training", description="A training.")
    run_id = run.info.run_id
    make("active_run", mlflow.active_run)
    make("log_param", mlflow.log_param, "alpha", 1)
    make("log_params", mlflow.log_params, {"beta": 2, "gamma": 3})
    for step in range(20):
        make(f"log_metric {step}", mlflow.log_metric, "loss", 1 / (step + 1), step=step)
    make("log_metrics", mlflow.log_metrics, {"a": 1.0, "b": 2.0}, step=1)
    make("set_tag", mlflow.set_tag, "a", "1")
    make("set_tags", mlflow.set_tags, {"b": "2", "c": "3"})
    make("delete_tag", mlflow.delete_tag, "c")
    log_files(make)
    log_data(make)
    make("get_run", mlflow.get_run, run_id)
    make("get_metric_history", client.get_metric_history, run_id, "loss")
    make("list_artifacts", client.list_artifacts, run_id)
    make("load_text", mlflow.artifacts.load_text, f"runs:/{run_id}/notes/hello.txt")
    make("get_experiment_by_name", mlflow.get_experiment_by_name, experiment)
    make("search_runs", mlflow.search_runs, experiment_names=[experiment])
    make("nested start_run", mlflow.start_run, run_name="child", nested=True)
    make("nested log_metric", mlflow.log_metric, "loss", 1.0)
    make("nested end_run", mlflow.end_run)
    log_models(calls, run_id, registered)
    trace(make)
    make("end_run", mlflow.end_run)
    make("autolog", mlflow.sklearn.autolog)
    make("fit with autolog", fit)
    make("search_experiments", mlflow.search_experiments)
    make("resume start_run", mlflow.start_run, run_id=run_id)
    make("resume log_metric", mlflow.log_metric, "resumed", 1.0)
    make("resume end_run", mlflow.end_run)
    make("delete_experiment", mlflow.delete_experiment, run.info.experiment_id)


def log_files(make: Callable[..., Any]) -> None:
    """Log files of every kind."""
    from matplotlib.figure import Figure

    folder = Path("data")
    folder.mkdir(exist_ok=True)
    (folder / "one.bin").write_bytes(bytes(20_000))
    make("log_text", mlflow.log_text, "hello", "notes/hello.txt")
    make("log_dict", mlflow.log_dict, {"a": 1}, "notes/a.json")
    make("log_artifact", mlflow.log_artifact, str(folder / "one.bin"))
    make("log_artifacts", mlflow.log_artifacts, str(folder), "folder")
    make("log_figure", mlflow.log_figure, Figure(), "figure.png")
    for number in range(2):
        make(f"log_table {number}", mlflow.log_table, {"x": [number]}, "table.json")


def log_data(make: Callable[..., Any]) -> None:
    """Log a dataset and a picture."""
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})
    data = make("from_pandas", mlflow.data.from_pandas, frame, name="wine")
    make("log_input", mlflow.log_input, data, context="training")
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    make("log_image", mlflow.log_image, picture, "picture.png")
    make("log_image of a step", mlflow.log_image, picture, key="seen", step=1)


def log_models(calls: Calls, run_id: str, registered: str) -> None:
    """Log, register and load models."""
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    make, client = calls.make, mlflow.MlflowClient()
    place = "name" if int(mlflow.__version__[0]) > 2 else "artifact_path"
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    arguments = {
        "signature": infer_signature([[0.0]], [0]),
        "pip_requirements": ["scikit-learn"],
    }
    info = make("log_model", mlflow.sklearn.log_model, model, **{place: "plain"}, **arguments)
    make("load_model", mlflow.pyfunc.load_model, info.model_uri)
    info = make(
        "log_model with registration",
        mlflow.sklearn.log_model,
        model,
        **{place: "model"},
        registered_model_name=registered,
        **arguments,
    )
    version = getattr(info, "registered_model_version", None)
    if info is not None:
        make("load_model of a registered one", mlflow.sklearn.load_model, info.model_uri)
        version = make("register_model", mlflow.register_model, info.model_uri, registered)
    number = getattr(version, "version", 1)
    make("create_registered_model", client.create_registered_model, f"{registered}2", {"a": "1"})
    make("update_registered_model", client.update_registered_model, f"{registered}2", "About it.")
    make("set_registered_model_tag", client.set_registered_model_tag, registered, "team", "wine")
    make(
        "set_registered_model_alias",
        *(client.set_registered_model_alias, registered, "champion", number),
    )
    make("set_model_version_tag", client.set_model_version_tag, registered, number, "a", "1")
    make("update_model_version", client.update_model_version, registered, number, "The first.")
    make("get_model_version", client.get_model_version, registered, number)
    make("get_registered_model", client.get_registered_model, registered)
    make("search_model_versions", client.search_model_versions, f"name = '{registered}'")
    make("search_registered_models", client.search_registered_models)
    make("load_model by version", mlflow.pyfunc.load_model, f"models:/{registered}/{number}")
    make("load_model by alias", mlflow.pyfunc.load_model, f"models:/{registered}@champion")
    make("get_run with models", client.get_run, run_id)
    if hasattr(mlflow, "search_logged_models"):
        make("search_logged_models", mlflow.search_logged_models, output_format="list")
        make("get_logged_model", mlflow.get_logged_model, "m-" + 32 * "0")


def trace(make: Callable[..., Any]) -> None:
    """Trace a function."""

    def answer(question: str) -> str:
        return question.upper()

    make("trace", mlflow.trace(answer), "who?")
    if hasattr(mlflow, "flush_trace_async_logging"):
        make("flush_trace_async_logging", mlflow.flush_trace_async_logging)
    make("search_traces", mlflow.search_traces)


def fit() -> None:
    """Fit with a run that autologging begins and ends."""
    from sklearn.linear_model import LogisticRegression

    LogisticRegression().fit([[0.0], [1.0], [2.0]], [0, 1, 1])


def main(server: str, experiment: str, registered: str) -> None:
    """Begin with a healthy server, and make the calls without it."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with mlflow_connections.use("durable", {}, {"server": server}):
        import_module("mlflow.sklearn")
        mlflow.MlflowClient()
        print("ready", flush=True)
        input()
        calls = Calls()
        begun = time.monotonic()
        log(calls, experiment, registered)
        lasted = time.monotonic() - begun
        print(json.dumps({**vars(calls), "lasted": lasted}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
