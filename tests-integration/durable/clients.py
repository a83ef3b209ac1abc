"""Train with MLflow's clients as their users do, one after another: the command line names them.

Each logs to an experiment of its own name.
"""

import os
import sys
import time
from importlib import import_module
from typing import Any

# No MLflow version has all attributes of another; the other clients have no types.
mlflow: Any = import_module("mlflow")

ROWS = 60
RANKS = 2


def sklearn(experiment: str) -> None:
    """Fit a grid search with child runs, whose best model is registered."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    mlflow.set_experiment(experiment)
    mlflow.sklearn.autolog(registered_model_name=f"{experiment} sklearn")
    x, y = load_iris(return_X_y=True)
    with mlflow.start_run(run_name="grid"):
        GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.1, 1.0]}, cv=2).fit(x, y)


def xgboost(experiment: str) -> None:
    """Boost with metrics of each round and a model."""
    import numpy as np

    boosting: Any = import_module("xgboost")
    mlflow.set_experiment(experiment)
    mlflow.xgboost.autolog()
    x = np.linspace(0.0, 1.0, 2 * ROWS).reshape(ROWS, 2)
    data = boosting.DMatrix(x, x[:, 0] > 0.5)
    with mlflow.start_run(run_name="boosted"):
        boosting.train(
            {"objective": "binary:logistic", "max_depth": 2, "nthread": 1, "seed": 7},
            data,
            num_boost_round=20,
            evals=[(data, "train")],
            verbose_eval=False,
        )


def lightning(experiment: str) -> None:
    """Train with PyTorch Lightning's own logger, which uploads each checkpoint."""
    torch: Any = import_module("torch")
    pl: Any = import_module("lightning.pytorch")
    loggers: Any = import_module("lightning.pytorch.loggers")
    pl.seed_everything(7, verbose=False)

    class Line(pl.LightningModule):  # type: ignore[misc]  # of no known type
        def __init__(self, rate: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, _: int) -> Any:
            x, y = batch
            loss = ((self.layer(x) - y) ** 2).mean()
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)

    x = torch.linspace(0, 1, ROWS).reshape(ROWS, 1)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, 2 * x), batch_size=10)
    logger = loggers.MLFlowLogger(experiment, run_name="lightning", log_model="all")
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=3,
        logger=logger,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), data)


def transformers(experiment: str) -> None:
    """Train a tiny model, built from a configuration, with the callback of transformers."""
    torch: Any = import_module("torch")
    hf: Any = import_module("transformers")
    hf.set_seed(7)
    os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment
    os.environ["HF_MLFLOW_LOG_ARTIFACTS"] = "1"
    config = hf.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    row = {"input_ids": [1, 2, 3, 4], "attention_mask": [1] * 4, "labels": 1}
    data = [{key: torch.tensor(value) for key, value in row.items()}] * ROWS
    arguments = hf.TrainingArguments(
        output_dir="trained",
        run_name="transformers",
        report_to=["mlflow"],
        use_cpu=True,
        max_steps=20,
        logging_steps=1,
        save_steps=10,
        per_device_train_batch_size=4,
        disable_tqdm=True,
    )
    model = hf.BertForSequenceClassification(config)
    hf.Trainer(model=model, args=arguments, train_dataset=data).train()
    mlflow.end_run()


def system(experiment: str) -> None:
    """Log MLflow's own metrics of the machine during a training, from a thread."""
    mlflow.set_experiment(experiment)
    mlflow.set_system_metrics_sampling_interval(0.2)
    with mlflow.start_run(run_name="system", log_system_metrics=True):
        for step in range(30):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
            time.sleep(0.1)


def ranks(experiment: str) -> None:
    """Log to one run from several processes, which are spawned and forked."""
    import multiprocessing

    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name="ranks") as run:
        for method in ("spawn", "fork"):
            context: Any = multiprocessing.get_context(method)
            workers = [
                context.Process(target=_rank, args=(run.info.run_id, f"{method}_{rank}"))
                for rank in range(RANKS)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert [worker.exitcode for worker in workers] == [0] * RANKS
        mlflow.log_metric("parent", 1.0)


def _rank(run_id: str, rank: str) -> None:
    client = mlflow.MlflowClient()
    for step in range(30):
        client.log_metric(run_id, f"loss_{rank}", float(step), step=step)
    client.log_param(run_id, f"rank_{rank}", rank)
    client.log_text(run_id, rank, f"rank_{rank}.txt")


def train(experiment: str) -> None:
    """Log as much of MLflow as possible."""
    import_module("train").main(experiment, 0.1)


def traced(experiment: str) -> None:
    """Trace calls, and assess them."""
    import_module("traced").main(experiment)


if __name__ == "__main__":
    for each in sys.argv[1:]:
        globals()[each](each)
        mlflow.autolog(disable=True)
