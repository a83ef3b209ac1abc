"""The store behind a composite URI."""

import pytest
from outbox_folders import kinds_by_folder

from mlflow_connections_mirror import _composite

URI = "mirror://?primary=http%3A%2F%2Fm&copy=http%3A%2F%2Fc"


def test_a_store_follows_the_folder_of_the_outboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps a store, and the variable may change: later events go to the new folder, with their run."""
    kinds = ["run_started", "tag_deleted"]
    assert kinds_by_folder(_composite, URI, monkeypatch) == {"a": kinds, "b": kinds}
