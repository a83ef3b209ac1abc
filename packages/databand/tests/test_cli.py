"""The command `mlflow-databand`."""

import pytest

from mlflow_connections_databand._cli import main


def test_the_outbox_is_an_alias(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mlflow-databand outbox` is `mlflow-connections outbox`; other words are wrong usage."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path))
    assert main(["outbox", "status"]) == 0
    assert capsys.readouterr().out == "There is no outbox.\n"
    assert main(["inbox"]) == 2
