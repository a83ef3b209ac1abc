"""The section `snowflake` of snowflake.yml: defaults, and what cannot be meant is told."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from mlflow_connections import ConnectionsError
from mlflow_connections_snowflake import BridgeConfig
from mlflow_connections_snowflake.kedro._plan import Settings, read_settings


def test_three_keys_are_enough(settings: Callable[..., Settings]) -> None:
    """Database, schema and warehouse must be said; all else has a default."""
    read = settings(mlflow=None)
    assert str(read.home) == "DEMO.PIPES"
    assert str(read.warehouse) == "SMALL"
    assert str(read.stage) == "DEMO.PIPES.KEDRO_PIPELINES"
    assert read.packages == ("snowflake-snowpark-python", "kedro")
    assert str(read.repository) == "SNOWFLAKE.SNOWPARK.PYPI_SHARED_REPOSITORY"
    assert read.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (read.schedule, read.retries, read.timeout_minutes) == ("", 0, None)
    assert (read.credentials, read.mlflow) == (None, None)


def test_mlflows_section_is_the_bridges(settings: Callable[..., Settings]) -> None:
    """The section mlflow is read as `mlflow-snowflake` reads it."""
    setup = settings().mlflow
    assert isinstance(setup, BridgeConfig)
    assert setup.experiment_name == "demo-mlops"
    assert str(setup.functions["run_create"]) == "DEMO.DEMO.MLFLOW_RUN_CREATE"


@pytest.mark.parametrize(
    ("given", "with_mlflow", "packages"),
    [
        ([], True, ("snowflake-snowpark-python", "kedro", "mlflow-skinny")),
        (["mlflow"], True, ("snowflake-snowpark-python", "kedro", "mlflow")),
        (
            ["kedro==1.1.1", "pandas"],
            False,
            ("snowflake-snowpark-python", "kedro==1.1.1", "pandas"),
        ),
    ],
)
def test_what_all_procedures_need_is_added(
    settings: Callable[..., Settings],
    given: list[str],
    with_mlflow: bool,
    packages: tuple[str, ...],
) -> None:
    """Packages that nothing works without need not be named, and a version that is named stays."""
    read = settings(packages=given, **({} if with_mlflow else {"mlflow": None}))
    assert read.packages == packages


def test_anaconda_is_no_repository(settings: Callable[..., Settings]) -> None:
    """Packages of Snowflake's Anaconda channel need no repository."""
    assert settings(repository="anaconda").repository is None


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"warehose": "x"}, "unknown key 'warehose'. Did you mean 'warehouse'?"),
        ({"warehouse": None}, "snowflake.warehouse in snowflake.yml is missing"),
        ({"database": "a.b"}, "which is not the name of a Snowflake object"),
        ({"packages": "pandas"}, "not a list of requirements"),
        ({"packages": [1]}, "not a list of requirements"),
        ({"python": "311"}, "not a version such as '3.11'"),
        ({"python": 3.11}, "put it into quotes"),
        ({"retries": 31}, "not a number from 0 to 30"),
        ({"retries": True}, "not a number from 0 to 30"),
        ({"timeout_minutes": 0}, "not a number from 1 to 10080"),
        ({"repository": "no name"}, "(a repository, or anaconda)"),
        ({"mlflow": {"experiment_name": "x"}}, "mlflow.functions.experiment_get_by_name"),
        (
            {
                "mlflow": {
                    "experiment_name": "x",
                    "external_access": {"url": "https://mlflow.example.com"},
                }
            },
            "through external functions alone",
        ),
        ({"mlflow": []}, "mlflow in snowflake.yml must be a mapping"),
    ],
)
def test_what_cannot_be_meant_is_told(
    settings: Callable[..., Settings], changed: dict[str, Any], sentence: str
) -> None:
    """A mistake is one sentence with its place, and a close match where there is one."""
    with pytest.raises(ConnectionsError) as caught:
        settings(**changed)
    assert sentence in str(caught.value)


def test_a_section_is_a_mapping() -> None:
    """A section that is a text is told as one."""
    with pytest.raises(ConnectionsError, match="must be a mapping"):
        read_settings("x", "snowflake.yml")
