"""The nodes of the pipeline.{% if cookiecutter.__mlflow %} MLflow is called as usual: no node depends on where it runs.{% endif %}"""

import logging
from typing import Any

{% if cookiecutter.__mlflow -%}
import mlflow
{% endif -%}
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

logger = logging.getLogger(__name__)

TARGET = "cultivar"


def split(wine: pd.DataFrame, parameters: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the data, with the same share of each cultivar in both parts."""
    training, testing = train_test_split(
        wine,
        test_size=parameters["test_size"],
        random_state=parameters["seed"],
        stratify=wine[TARGET],
    )
    return training, testing


def train(training: pd.DataFrame, parameters: dict[str, Any]) -> Pipeline:
    """Train a linear classifier{% if cookiecutter.__mlflow %}, and log it with its parameters{% endif %}."""
    features, target = training.drop(columns=TARGET), training[TARGET]
    classifier = LogisticRegression(C=parameters["inverse_penalty"], max_iter=1000)
    model = make_pipeline(StandardScaler(), classifier).fit(features, target)
{%- if cookiecutter.__mlflow %}
    mlflow.log_params(parameters)
    mlflow.log_metric("training_accuracy", model.score(features, target))
    mlflow.sklearn.log_model(
        model,
        "model",
        input_example=features.head(3),
        # Without them MLflow loads the model again, in another process, to find them.
        pip_requirements=["scikit-learn", "pandas"],
    )
{%- endif %}
    return model


def evaluate(model: Pipeline, testing: pd.DataFrame) -> float:
    """Measure the accuracy on the test data{% if cookiecutter.__mlflow %}, and log it{% endif %}."""
    features, target = testing.drop(columns=TARGET), testing[TARGET]
    accuracy = float(accuracy_score(target, model.predict(features)))
{%- if cookiecutter.__mlflow %}
    mlflow.log_metric("accuracy", accuracy)
{%- endif %}
    logger.info("The accuracy is %.3f.", accuracy)
    return accuracy
