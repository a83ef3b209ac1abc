"""The nodes of the pipeline. They call MLflow as any code does, and do not depend on the server."""

from typing import Any

import matplotlib as mpl
import mlflow
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

mpl.use("Agg")  # a server has no screen
TARGET = "target"


def load() -> pd.DataFrame:
    """Load scikit-learn's wine data: 178 wines of three cultivars, 13 measurements each."""
    frame: pd.DataFrame = load_wine(as_frame=True).frame
    return frame


def split(wine: pd.DataFrame, parameters: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split off a test set with the same share of each cultivar."""
    training, testing = train_test_split(
        wine,
        test_size=parameters["test_size"],
        random_state=parameters["seed"],
        stratify=wine[TARGET],
    )
    return training, testing


def train(training: pd.DataFrame, parameters: dict[str, Any]) -> Pipeline:
    """Train a linear classifier epoch by epoch, and log its loss."""
    mlflow.log_params({k: v for k, v in parameters.items() if v is not None})
    features, target = training.drop(columns=TARGET), training[TARGET]
    scaler = StandardScaler().fit(features)
    # With the default steps, which are large at first, the second epoch is the best.
    classifier = SGDClassifier(
        loss="log_loss",
        alpha=parameters["penalty"],
        learning_rate="constant",
        eta0=0.03,
        random_state=parameters["seed"],
    )
    model = make_pipeline(scaler, classifier)
    for epoch in range(parameters["epochs"]):
        classifier.partial_fit(scaler.transform(features), target, classes=sorted(set(target)))
        loss = log_loss(target, model.predict_proba(features))
        mlflow.log_metric("training_loss", loss, step=epoch)
    mlflow.sklearn.log_model(
        model,
        name="model",
        # Listed explicitly, since MLflow would load the model in another process to find them.
        pip_requirements=["scikit-learn"],
        input_example=features.head(3),
        registered_model_name=parameters["registered_model"],
    )
    return model


def evaluate(model: Pipeline, testing: pd.DataFrame) -> float:
    """Log the accuracy on the test set, and a confusion matrix."""
    features, target = testing.drop(columns=TARGET), testing[TARGET]
    accuracy = float(accuracy_score(target, model.predict(features)))
    mlflow.log_metric("accuracy", accuracy)
    display = ConfusionMatrixDisplay.from_estimator(model, features, target)
    mlflow.log_figure(display.figure_, "confusion_matrix.png")
    mlflow.set_tag("data", "wine")
    return accuracy
