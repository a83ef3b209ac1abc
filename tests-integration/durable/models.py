"""Log, register and load a model, as a training with scikit-learn's autologging or with pyfunc does."""

import sys
from importlib import import_module
from typing import Any

mlflow: Any = import_module("mlflow")


class Doubling(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # of no known type
    """A model without dependencies."""

    def predict(self, context: Any, model_input: list[float], params: Any = None) -> list[float]:
        """Double each value."""
        return [2 * x for x in model_input]


def main(experiment: str, registered: str) -> None:
    """Log a model that is registered at once, and use it."""
    mlflow.set_experiment(experiment)
    place = {"name": "model"} if int(mlflow.__version__[0]) > 2 else {"artifact_path": "model"}
    with mlflow.start_run(run_name="modelled"):
        mlflow.log_metric("loss", 0.5)
        info = mlflow.pyfunc.log_model(
            python_model=Doubling(),
            pip_requirements=[],
            registered_model_name=registered,
            **place,
        )
        assert mlflow.pyfunc.load_model(info.model_uri).predict([1.0]) == [2.0]
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(registered, "champion", info.registered_model_version)
    client.set_model_version_tag(registered, info.registered_model_version, "checked", "yes")
    print(info.model_uri)


def load(registered: str) -> None:
    """Load the first version by its number and by its alias, and print what each predicts."""
    for version in ("/1", "@champion"):
        print(mlflow.pyfunc.load_model(f"models:/{registered}{version}").predict([1.0]))


def autolog(experiment: str) -> None:
    """Fit with autologging, child runs included."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    mlflow.set_experiment(experiment)
    mlflow.sklearn.autolog()
    x, y = load_iris(return_X_y=True)
    with mlflow.start_run(run_name="grid"):
        search = GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.1, 1.0]}, cv=2)
        search.fit(x, y)


if __name__ == "__main__":
    if sys.argv[1] == "autolog":
        autolog(sys.argv[2])
    elif sys.argv[1] == "load":
        load(sys.argv[2])
    else:
        main(*sys.argv[1:3])
