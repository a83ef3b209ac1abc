"""Log a run through a connection and end at once, as jobs do: prints the run's ID.

Copies and later deliveries are left to another process, which outlives this one.
"""

import sys

import mlflow

from mlflow_connections import use

if __name__ == "__main__":
    with use(sys.argv[1]):
        mlflow.set_experiment("composed")
        with mlflow.start_run(run_name=sys.argv[2]) as run:
            mlflow.log_metric("m", 1.0)
            mlflow.log_text("kept", "a.txt")
    print(run.info.run_id)
