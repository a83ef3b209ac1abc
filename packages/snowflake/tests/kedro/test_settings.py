"""The section `snowflake` of snowflake.yml: defaults, and invalid values."""

import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest

from mlflow_connections import ConnectionsError
from mlflow_connections_snowflake import BridgeConfig
from mlflow_connections_snowflake.kedro._plan import Settings, read_settings


def test_three_keys_are_enough(settings: Callable[..., Settings]) -> None:
    """Database, schema and warehouse are required; everything else has a default."""
    read = settings(mlflow=None)
    assert str(read.home) == "DEMO.PIPES"
    assert str(read.warehouse) == "SMALL"
    assert str(read.stage) == "DEMO.PIPES.KEDRO_PIPELINES"
    assert read.packages == pinned("snowflake-snowpark-python", "kedro")
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
def test_required_packages_are_added(
    settings: Callable[..., Settings],
    given: list[str],
    with_mlflow: bool,
    packages: tuple[str, ...],
) -> None:
    """Packages that every procedure needs need not be named, and a pinned version stays."""
    read = settings(packages=given, **({} if with_mlflow else {"mlflow": None}))
    assert read.packages == pinned(*packages)


def pinned(*requirements: str) -> tuple[str, ...]:
    """Return requirements, pinned to the installed versions if they have none."""
    return tuple(one if "=" in one else f"{one}=={metadata.version(one)}" for one in requirements)


def test_given_versions_stay(settings: Callable[..., Settings]) -> None:
    """A requirement with its own condition is unchanged; extras are pinned as well."""
    read = settings(mlflow=None, packages=["pandas>=1,<9", "kedro[ipython]", "unknown-x==1"])
    assert "pandas>=1,<9" in read.packages
    assert "unknown-x==1" in read.packages
    assert f"kedro[ipython]=={metadata.version('kedro')}" in read.packages


def test_a_package_without_a_version_is_reported(settings: Callable[..., Settings]) -> None:
    """A package that is not installed cannot be pinned, which is reported before a deployment."""
    with pytest.raises(ConnectionsError, match=r"no version for unknown-x, which is not installed"):
        settings(packages=["unknown-x"])


def test_the_repository_is_always_named(settings: Callable[..., Settings]) -> None:
    """The default repository differs between accounts, so it is named even for Anaconda."""
    assert (
        str(settings(repository="anaconda").repository)
        == "SNOWFLAKE.SNOWPARK.ANACONDA_SHARED_REPOSITORY"
    )
    assert str(settings(repository="a.b.mine").repository) == "A.B.MINE"


def test_stages_and_secrets_replace_credentials(settings: Callable[..., Settings]) -> None:
    """Unqualified names belong to the pipeline's database and schema, as everywhere in the section."""
    read = settings(
        stages={"s3://bucket/raw/": "@files", "gcs://other/": "a.b.c"},
        secrets={"bucket": {"secret": "bucket_key", "integration": "bucket_access"}},
    )
    assert {key: str(one) for key, one in read.stages.items()} == {
        "s3://bucket/raw/": "DEMO.PIPES.FILES",
        "gcs://other/": "A.B.C",
    }
    assert str(read.secrets["bucket"].secret) == "DEMO.PIPES.BUCKET_KEY"
    assert str(read.secrets["bucket"].integration) == "BUCKET_ACCESS"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"stages": {"s3://bucket": "@files"}}, "not a URL that ends with a slash"),
        ({"stages": {"/data/": "@files"}}, "not a URL that ends with a slash"),
        ({"stages": {"s3://b/": "not a name!"}}, "not the name of a Snowflake object"),
        ({"secrets": {"x": {"secret": "a"}}}, r"secrets\.x\.integration .* is missing"),
        (
            {"secrets": {"x": {"secret": "a", "integration": "b", "value": "c"}}},
            "unknown key 'value'",
        ),
        ({"secrets": {"x": "a"}}, "must be a mapping"),
    ],
)
def test_an_invalid_replacement_of_credentials_is_reported(
    settings: Callable[..., Settings], keys: dict[str, Any], sentence: str
) -> None:
    """A mistake in `stages` or `secrets` is reported with its key."""
    with pytest.raises(ConnectionsError, match=sentence):
        settings(**keys)


KEDRO_SNOWFLAKE: dict[str, Any] = {
    "connection": {
        "account": "abc-123",
        "user": "USER",
        "password_from_env": "SNOWFLAKE_PASSWORD",
        "role": None,
        "database": "DEMO",
        "schema": "PIPES",
        "warehouse": "SMALL",
    },
    "runtime": {
        "schedule": "11520 minute",
        "stored_procedure_name_suffix": "",
        "stage": "@KEDRO_SNOWFLAKE_STAGE",
        "temporary_stage": "@KEDRO_SNOWFLAKE_TEMP_DATA_STAGE",
        "dependencies": {
            "imports": ["kedro", "kedro_datasets", "kedro_snowflake"],
            "packages": ["snowflake-snowpark-python", "pandas"],
        },
        "pipeline_name_mapping": {"__default__": "default_one"},
    },
    "mlflow": {
        "experiment_name": "demo-mlops",
        "stage": "@MLFLOW_STAGE",
        "functions": {
            key: f"mlflow_{key}"
            for key in (
                *("experiment_get_by_name", "run_create", "run_update"),
                *("run_log_metric", "run_log_parameter"),
            )
        },
    },
}


def test_kedro_snowflakes_own_file_is_read() -> None:
    """Its sections connection and runtime, and names without database and schema, have the same meaning."""
    read = read_settings(KEDRO_SNOWFLAKE, "snowflake.yml")
    assert (str(read.home), str(read.warehouse)) == ("DEMO.PIPES", "SMALL")
    assert str(read.stage) == "DEMO.PIPES.KEDRO_SNOWFLAKE_STAGE"
    assert read.schedule == "11520 minute"
    assert read.connection == {
        "account": "abc-123",
        "user": "USER",
        "password_from_env": "SNOWFLAKE_PASSWORD",
    }
    assert {one.partition("==")[0] for one in read.packages} == {
        *("snowflake-snowpark-python", "kedro", "pandas", "kedro-datasets", "mlflow-skinny")
    }
    assert read.names == {"__default__": "default_one"}
    assert read.mlflow is not None
    assert str(read.mlflow.functions["run_create"]) == "DEMO.PIPES.MLFLOW_RUN_CREATE"
    assert str(read.mlflow.stage) == "DEMO.PIPES.MLFLOW_STAGE"


def test_places_come_from_the_credentials_too() -> None:
    """kedro-snowflake's starter names an entry of credentials.yml that contains database, schema and warehouse."""
    section = {**KEDRO_SNOWFLAKE, "connection": {"credentials": "mine"}}
    entry = {"account": "a", "database": "db", "schema": "s", "warehouse": "w"}
    read = read_settings(section, "snowflake.yml", {"mine": entry})
    assert (str(read.home), str(read.warehouse), read.credentials) == ("DB.S", "W", "mine")
    with pytest.raises(ConnectionsError, match=r"snowflake\.database in snowflake.yml is missing"):
        read_settings(section, "snowflake.yml", {})


def test_its_template_without_an_experiment_has_no_mlflow() -> None:
    """An experiment without a name disables MLflow, as in kedro-snowflake."""
    section = {**KEDRO_SNOWFLAKE, "mlflow": {"experiment_name": None, "functions": {}}}
    assert read_settings(section, "snowflake.yml").mlflow is None


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"warehose": "x"}, "unknown key 'warehose'. Did you mean 'warehouse'?"),
        ({"warehouse": None}, "snowflake.warehouse in snowflake.yml is missing"),
        ({"database": "a.b"}, "which is not the name of a Snowflake object"),
        ({"packages": "pandas"}, "not a list of requirements"),
        ({"packages": [1]}, "not a list of requirements"),
        ({"python": "311"}, "not a version from 3.10 on such as '3.11'"),
        ({"python": 3.11}, "put it into quotes"),
        ({"retries": 31}, "not a number from 0 to 30"),
        ({"retries": True}, "not a number from 0 to 30"),
        ({"timeout_minutes": 0}, "not a number from 1 to 10080"),
        ({"repository": "no name"}, "(a repository, pypi or anaconda)"),
        ({"mlflow": {"experiment_name": "x"}}, "mlflow.functions.experiment_get_by_name"),
        ({"mlflow": []}, "mlflow in snowflake.yml must be a mapping"),
    ],
)
def test_an_invalid_setting_is_reported(
    settings: Callable[..., Settings], changed: dict[str, Any], sentence: str
) -> None:
    """A mistake is one sentence with its place, and a close match if there is one."""
    with pytest.raises(ConnectionsError) as caught:
        settings(**changed)
    assert sentence in str(caught.value)


def test_external_access_needs_no_functions(settings: Callable[..., Settings]) -> None:
    """Pipelines use MLflow directly if external access is configured, with or without functions."""
    access = {"experiment_name": "x", "external_access": {"url": "https://mlflow.example.com"}}
    read = settings(mlflow=access)
    assert read.external_access
    assert read.mlflow is not None
    assert read.mlflow.external_access is not None
    assert str(read.mlflow.external_access.secret) == "DEMO.PIPES.MLFLOW_TOKEN"
    assert not settings().external_access


def test_a_section_is_a_mapping() -> None:
    """A section that is plain text is reported."""
    with pytest.raises(ConnectionsError, match="must be a mapping"):
        read_settings("x", "snowflake.yml")
