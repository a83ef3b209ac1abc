"""MLflow's search for Spark, and no other code's, is answered from memory."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_connections import spark, use

MLFLOW = {"__name__": "mlflow.utils._spark_utils"}
ANYBODY = {"__name__": "mlflow_users_program"}


class Searches:
    """A finder that counts the searches that reach it, and finds nothing."""

    def __init__(self) -> None:
        self.count = 0

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Count the search."""
        self.count += name == "pyspark"


@pytest.fixture(autouse=True)
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Searches]:
    """Count the searches for Spark, which must not be installed."""
    others = [finder for finder in sys.meta_path if finder is not spark._absence]
    monkeypatch.setattr(sys, "meta_path", others)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "pyspark", raising=False)
    found = Searches()
    sys.meta_path.insert(0, found)
    spark.remember_absence()
    importlib.invalidate_caches()
    yield found
    sys.modules.pop("pyspark", None)


def imports(who: dict[str, str]) -> None:
    """Import Spark in another module, as MLflow does."""
    exec("from pyspark.sql import SparkSession", dict(who))


def test_mlflow_searches_once(searches: Searches) -> None:
    """Its further imports fail at once, with Python's own error."""
    for _ in range(3):
        with pytest.raises(ModuleNotFoundError, match="No module named 'pyspark'") as caught:
            imports(MLFLOW)
        assert caught.value.name == "pyspark"
    assert searches.count == 1


def test_other_code_searches_each_time(searches: Searches) -> None:
    """A program's own import is unaffected, and so is a check for Spark."""
    with pytest.raises(ModuleNotFoundError):
        imports(MLFLOW)
    with pytest.raises(ModuleNotFoundError):
        imports(ANYBODY)
    assert importlib.util.find_spec("pyspark") is None
    assert searches.count == 3


def test_spark_is_found_once_it_is_there(tmp_path: Path) -> None:
    """Spark is found at once in a new folder of the path, and otherwise once the caches are dropped."""
    with pytest.raises(ModuleNotFoundError):
        imports(MLFLOW)
    sys.path.append(str(tmp_path))
    with pytest.raises(ModuleNotFoundError):
        imports(MLFLOW)
    (tmp_path / "pyspark.py").write_text("sql = None")
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError, match="'pyspark' is not a package"):
        imports(MLFLOW)
    assert "pyspark" in sys.modules


def test_a_connection_remembers_the_absence() -> None:
    """With any connection MLflow's calls are faster, and its registry URI is unchanged."""
    sys.meta_path.remove(spark._absence)
    with use("http://mlflow.example") as endpoint:
        assert sys.meta_path.count(spark._absence) == 1
        assert endpoint.registry_uri is None
