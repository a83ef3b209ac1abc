"""The pipelines of this project."""

from kedro.pipeline import Pipeline, node, pipeline

from .nodes import evaluate, split, train


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipeline: split, train, evaluate."""
    return {
        "__default__": pipeline(
            [
                node(split, ["wine", "parameters"], ["training", "testing"], name="split"),
                node(train, ["training", "parameters"], "model", name="train"),
                node(evaluate, ["model", "testing"], "accuracy", name="evaluate"),
            ]
        )
    }
