"""A tracking store that does nothing, as a plugin of MLflow: the minimum cost of a call.

Its folder goes on `PYTHONPATH`, and `floor://x` is its tracking URI.
"""

from pathlib import Path

URI = "floor://x"

_METADATA = "Metadata-Version: 2.1\nName: bench-floor\nVersion: 1\n"
_ENTRY_POINTS = """
[mlflow.tracking_store]
floor = bench_floor:tracking_store
[mlflow.model_registry_store]
floor = bench_floor:registry_store
[mlflow.artifact_repository]
floor = bench_floor:Nowhere
"""
_MODULE = """
import time
import uuid

from mlflow.store.artifact.artifact_repo import ArtifactRepository


class Nowhere(ArtifactRepository):
    def log_artifact(self, local_file, artifact_path=None): pass
    def log_artifacts(self, local_dir, artifact_path=None): pass
    def list_artifacts(self, path=None): return []


def tracking_store(store_uri, artifact_uri=None):
    from mlflow.entities import Experiment, Run, RunData, RunInfo, RunTag
    from mlflow.store.tracking.abstract_store import AbstractStore

    experiment = Experiment("0", "Default", "floor://nowhere", "active", [])
    runs = {}

    class Nothing(AbstractStore):
        def get_experiment(self, experiment_id): return experiment
        def get_experiment_by_name(self, experiment_name): return experiment
        def get_run(self, run_id): return runs[run_id]
        def log_metric(self, run_id, metric): pass
        def log_param(self, run_id, param): pass
        def log_batch(self, run_id, metrics, params, tags): pass
        def update_run_info(self, run_id, run_status, end_time, run_name):
            return runs[run_id].info
        def create_run(self, experiment_id, user_id, start_time, tags, run_name):
            run_id = uuid.uuid4().hex
            info = RunInfo(
                run_id=run_id, experiment_id="0", user_id=user_id, status="RUNNING",
                start_time=start_time, end_time=None, lifecycle_stage="active",
                artifact_uri="floor://nowhere", run_name=run_name,
            )
            runs[run_id] = Run(info, RunData([], [], tags))
            return runs[run_id]

    Nothing.__abstractmethods__ = frozenset()
    return Nothing()


def registry_store(store_uri, tracking_uri=None):
    raise NotImplementedError("The floor registers no models.")
"""


def floor(folder: Path) -> str:
    """Write the plugin into a folder, and return the folder for `PYTHONPATH`."""
    described = folder / "bench_floor-1.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text(_METADATA, encoding="utf-8")
    (described / "entry_points.txt").write_text(_ENTRY_POINTS, encoding="utf-8")
    (folder / "bench_floor.py").write_text(_MODULE, encoding="utf-8")
    return str(folder)
