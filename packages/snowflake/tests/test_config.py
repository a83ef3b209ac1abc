"""Reading snowflake.yml: accepted values, refused values and their messages."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections_snowflake import BridgeConfig, load, read, statements

FUNCTIONS = {
    key: f"demo.demo.mlflow_{key}"
    for key in (
        "experiment_get_by_name",
        "run_create",
        "run_update",
        "run_log_metric",
        "run_log_parameter",
    )
}


def mlflow(**changes: Any) -> dict[str, Any]:
    """The section as the specification shows it, with changes."""
    return {
        "mlflow": {
            "experiment_name": "demo-mlops",
            "stage": "@MLFLOW_STAGE",
            "functions": FUNCTIONS,
            **changes,
        }
    }


def test_the_section_of_the_specification() -> None:
    """The specification's example is accepted unchanged, with or without `snowflake:` around it."""
    example = yaml.safe_load("""
  mlflow:
    # MLflow experiment name for tracking runs
    experiment_name: demo-mlops
    stage: "@MLFLOW_STAGE"
    # Snowflake external functions needed for calling MLflow instance
    functions:
      experiment_get_by_name: demo.demo.mlflow_experiment_get_by_name
      run_create: demo.demo.mlflow_run_create
      run_update: demo.demo.mlflow_run_update
      run_log_metric: demo.demo.mlflow_run_log_metric
      run_log_parameter: demo.demo.mlflow_run_log_parameter
""")
    setup = read(example)
    assert setup == read({"snowflake": example})
    assert setup.experiment_name == "demo-mlops"
    assert str(setup.stage) == "DEMO.DEMO.MLFLOW_STAGE"
    assert str(setup.functions["run_log_parameter"]) == "DEMO.DEMO.MLFLOW_RUN_LOG_PARAMETER"
    # Keys that the specification does not name are next to those that it does.
    assert str(setup.functions["run_log_batch"]) == "DEMO.DEMO.MLFLOW_RUN_LOG_BATCH"


def test_the_generator_names_missing_keys() -> None:
    """Without a gateway there is a client but no SQL, and the message names the missing keys."""
    with pytest.raises(MissingOptionError, match=r"lacks mlflow.gateway, which the SQL needs"):
        statements(read(mlflow()))


def test_the_three_examples_differ_only_by_cloud(setup: BridgeConfig, setup_files: Path) -> None:
    """The three examples are read from files, and differ only in what is specific to each cloud."""
    assert setup == load(setup_files / f"{setup.require_gateway()[0].provider}.yml")


GATEWAY = {
    "provider": "aws",
    "url": "https://abc.execute-api.eu-west-1.amazonaws.com/prod",
    "role_arn": "arn:aws:iam::123456789012:role/mlflow",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": "x"}, "unknown key 'experiment'. Did you mean 'experiment_name'?"),
        ({"functions": {}}, "mlflow.functions.experiment_get_by_name in .* is missing"),
        ({"functions": {**FUNCTIONS, "run_crate": "x"}}, "Did you mean 'run_create'"),
        ({"functions": {**FUNCTIONS, "run_update": "a b"}}, "not the name of a Snowflake object"),
        (
            {"functions": {**FUNCTIONS, "run_update": FUNCTIONS["run_create"].upper()}},
            "run_update .*MLFLOW_RUN_CREATE, which is already the name of run_create",
        ),
        ({"functions": ["x"]}, "must be a mapping of keys, not list"),
        ({"experiment_name": " "}, "experiment_name in .* is empty"),
        ({"experiment_name": 5}, "is 5, not text: put it into quotes"),
        ({"experiment_name": None}, "experiment_name in .* is missing"),
        ({"stage": "@a b"}, "mlflow.stage in .* not the name of a Snowflake object"),
        ({"database": "a.b"}, "mlflow.database in .* not the name"),
        ({"roles": {"owner": "x; DROP"}}, "mlflow.roles.owner in .* not the name"),
        ({"gateway": {**GATEWAY, "provider": "ibm"}}, "is 'ibm', not one of aws, "),
        ({"gateway": {**GATEWAY, "url": "http://x.y"}}, "must be an https URL"),
        ({"gateway": {**GATEWAY, "url": "https://u:p@x.y"}}, "must be an https URL"),
        ({"gateway": {**GATEWAY, "url": "https://x.y/a?b=c"}}, "must be an https URL"),
        ({"gateway": {**GATEWAY, "url": "https://x.y/a'b"}}, "must be an https URL"),
        ({"gateway": {**GATEWAY, "url": "https://x.y/api/2.0/mlflow"}}, "must end before"),
        ({"gateway": {**GATEWAY, "role_arn": None}}, "gateway.role_arn in .* is missing"),
        ({"gateway": {**GATEWAY, "role_arn": "x' OR"}}, "not of the form arn:aws:iam"),
        ({"gateway": {**GATEWAY, "audience": "x"}}, "is not used with the provider aws"),
        ({"gateway": {**GATEWAY, "api_key": "x"}}, "unknown key 'api_key'"),
        (
            {
                "gateway": {
                    "provider": "azure",
                    "url": "https://x.y",
                    "tenant_id": "contoso",
                    "application_id": "1",
                }
            },
            "tenant_id .* is 'contoso', not of the form 01234567-",
        ),
        ({"storage": {"location": "https://x/y"}}, "not s3://"),
        ({"storage": {"location": "s3://x/y' Z='"}}, "not s3://"),
        ({"storage": {"location": "s3://x/y"}}, "storage.role_arn in .* is missing"),
        ({"storage": {"location": "s3://x/y", "role_arn": "me"}}, "not of the form arn:aws:iam"),
    ],
)
def test_invalid_sections_are_refused(changes: dict[str, Any], message: str) -> None:
    """Each mistake is reported with its place in the file, before any other work."""
    with pytest.raises((InvalidOptionError, MissingOptionError), match=message):
        read(mlflow(**changes), "conf/snowflake.yml")


@pytest.mark.parametrize("content", [None, [], "x", {}, {"snowflake": None}, {"snowflake": {}}])
def test_a_file_without_the_section(content: object) -> None:
    """A file without the section is named in the error."""
    with pytest.raises(MissingOptionError, match=r"here has no section 'mlflow'"):
        read(content, "here")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and one that is not YAML get different errors."""
    with pytest.raises(MissingOptionError, match="cannot be read"):
        load(tmp_path / "none.yml")
    (tmp_path / "bad.yml").write_text("a: [")
    with pytest.raises(InvalidOptionError, match=r"bad.yml is not YAML"):
        load(tmp_path / "bad.yml")


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    """YAML tags that would create Python objects are refused."""
    evil = tmp_path / "evil.yml"
    evil.write_text('mlflow: !!python/object/apply:os.mkdir ["made"]')
    with pytest.raises(InvalidOptionError, match="is not YAML"):
        load(evil)
