"""The command, for everything that needs no account."""

import json
from pathlib import Path

import pytest

from mlflow_connections_snowflake import load, script, statements
from mlflow_connections_snowflake._cli import main


def test_sql_is_what_the_generator_writes(
    setup_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sql` writes the whole script, `--part` one part of it, and a dry run the same."""
    config = setup_files / "aws.yml"
    written = statements(load(config))
    assert main(["sql", "--config", str(config)]) == 0
    assert capsys.readouterr().out == script(written)
    assert main(["sql", "--config", str(config), "--part", "owner"]) == 0
    assert capsys.readouterr().out == script([s for s in written if s.run_as == "owner"])
    assert main(["apply", "--config", str(config), "--dry-run"]) == 0
    assert capsys.readouterr().out == script(written)


def test_drop_can_be_previewed(setup_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run of `drop` shows the affected objects, and costly ones only on request."""
    config = str(setup_files / "aws.yml")
    assert main(["drop", "--config", config, "--dry-run"]) == 0
    spared = capsys.readouterr().out
    assert main(["drop", "--config", config, "--dry-run", "--stages", "--integrations"]) == 0
    everything = capsys.readouterr().out
    assert "DROP FUNCTION" in spared
    assert "DROP STAGE" not in spared
    assert "DROP INTEGRATION" not in spared
    assert "DROP STAGE" in everything
    assert "DROP INTEGRATION" in everything


def test_gateways_are_written(setup_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`gateway` writes JSON, and for Azure the policy too."""
    config = str(setup_files / "azure.yml")
    assert main(["gateway", "--config", config, "--backend", "http://mlflow"]) == 0
    assert json.loads(capsys.readouterr().out)["paths"]
    assert main(["gateway", "--config", config, "--backend", "http://mlflow", "--policy"]) == 0
    assert capsys.readouterr().out.startswith("<policies>")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sql", "--config", "none.yml"], "none.yml cannot be read"),
        (["gateway", "--config", "{aws}", "--backend", "mlflow"], "The backend must be the URL"),
        (["check", "--config", "{aws}", "--connection", "none"], "No session with Snowflake"),
        (["check", "--config", "{aws}"], "No session with Snowflake"),
    ],
)
def test_errors_are_one_line(
    setup_files: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    """An error is one line on stderr, with exit code 2 and no traceback."""
    for name in ("SNOWFLAKE_ACCOUNT", "SNOWFLAKE_CONNECTIONS", "SNOWFLAKE_DEFAULT_CONNECTION_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SNOWFLAKE_HOME", str(tmp_path))
    given = [argument.format(aws=setup_files / "aws.yml") for argument in arguments]
    assert main(given) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


@pytest.mark.parametrize("arguments", [[], ["sqll"], ["sql", "--part", "all"], ["gateway"]])
def test_misspelt_commands_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser lists the expected commands, with its own exit code."""
    assert main(arguments) == 2
    assert "usage: mlflow-snowflake" in capsys.readouterr().err
