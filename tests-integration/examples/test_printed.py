"""Commands on pages that need special preparation: each is run as printed, and prints the page's output."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.models import Model
from snowflake.connector import connect

from mlflow_connections_outbox import Destination, Event, Outbox, Policy
from mlflow_connections_sandbox import Sandbox

sys.path.insert(0, str(Path(__file__).parent))
import page_environment
from bridge import build_bridge

ROOT = Path(__file__).resolve().parents[2]
_PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("packages/*/README.md")]
Shell = Callable[..., dict[str, str]]
_SKIP = re.compile(r'<!--- skip: next "(.*?)" --->\n\s*```')
_NOT_A_TESTS = {
    "README.md": {"the main job, which is a session of its own", "this is one of them"},
}


def block(page: str, beginning: str, language: str = "console") -> str:
    """Return the one block of a page with this beginning."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(rf"(?ms)^```{language}\n(.*?)^```", text)
    (found,) = [each for each in blocks if each.startswith(beginning)]
    return str(found)


def commands(text: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with the output that the page shows."""
    found = re.findall(r"(?ms)^\$ ([^\n]*)\n(.*?)(?=^\$ |\Z)", text)
    return [(command, shown.strip()) for command, shown in found]


def terminal(
    command: str, folder: Path, environment: dict[str, str], typed: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a command in a shell, with its errors among its output."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_skipped_block_names_its_test() -> None:
    """Every block that is not run on its page, except those that start the tests, names an existing test."""
    unknown = []
    for page in _PAGES:
        name = page.relative_to(ROOT).as_posix()
        for reason in _SKIP.findall(page.read_text(encoding="utf-8")):
            places = re.findall(r"[\w/-]+\.(?:py|md)", reason)
            if not any((ROOT / place).exists() for place in places):
                unknown += [(name, reason)] if reason not in _NOT_A_TESTS.get(name, ()) else []
    assert unknown == []


A_SINK = """
import pathlib
from mlflow_connections_outbox import Unavailable

STATE = pathlib.Path(__file__).with_name("state")


class Sink:
    def send(self, batch):
        if STATE.read_text() == "down":
            raise Unavailable("503")
        for position, event in enumerate(batch):
            if event.kind == "bad":
                batch.reject(position, "it is bad")

    def close(self):
        pass


def open_sink(destination, environ, state):
    return Sink()
"""


def shape(text: str) -> str:
    """Return a text with every number and path as a placeholder."""
    text = re.sub(r"(?m)^(  folder +).*$", r"\1FOLDER", text)
    return re.sub(r"\d[\d,:-]*\d|\d", "N", text)


def test_the_outboxs_four_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    """`status`, `ship`, `retry` and `drop` print the lines of the page, with other numbers."""
    (status, ship, retry, drop) = commands(
        block("docs/outbox.md", "$ mlflow-connections outbox status")
    )
    (tmp_path / "a_sink.py").write_text(A_SINK)
    (tmp_path / "state").write_text("down")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    environment = {
        **shell(tmp_path),
        "PYTHONPATH": str(tmp_path),
        "MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox"),
    }
    outbox = Outbox(
        Destination("databand", "https://databand.example.com", "a_sink:open_sink"),
        policy=Policy(shipper="thread", poll=0.01, backoff=0.01, max_backoff=0.02),
    )
    outbox.append(Event("a run", "good", 0, {"n": 1}))

    def shown(command: str, typed: str = "") -> str:
        return shape(terminal(command, tmp_path, environment, typed).stdout.strip())

    found = ""
    for _ in range(100):
        found = shown(status[0])
        if found == shape(status[1]):
            break
        time.sleep(0.1)
    assert found == shape(status[1])
    (tmp_path / "state").write_text("up")
    assert shown(ship[0]) == shape(ship[1])
    for number in range(3):
        outbox.append(Event("a run", "bad", 0, {"n": number}))
    outbox.close(60)
    for _ in range(100):  # `drop` refuses while the thread that delivers still holds the outbox
        if "shipper   none" in terminal(status[0], tmp_path, environment).stdout:
            break
        time.sleep(0.1)
    assert shown(retry[0]) == shape(retry[1])
    dropped = terminal(drop[0], tmp_path, environment, "y\n")
    assert dropped.returncode == 0, dropped.stdout
    assert dropped.stdout.startswith(drop[1])
    assert "waiting   0 events" in terminal(status[0], tmp_path, environment).stdout


def old_server(uri: str, folder: Path) -> None:
    """Log the data that the guide to the mirror copies: four runs with a model and a registered version."""
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("wine", (folder / "artifacts").as_uri())
    runs = [
        client.create_run(experiment, run_name=name) for name in ("one", "two", "three", "four")
    ]
    for run in runs:
        for step in range(6):
            client.log_metric(run.info.run_id, "loss", 1 / (step + 1), step=step)
    client.log_metric(runs[0].info.run_id, "accuracy", 0.978)
    for name in ("notes.txt", "report.txt"):
        client.log_text(runs[0].info.run_id, "hello", name)
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run(run_id=runs[0].info.run_id):
        model = client.create_logged_model(experiment, "model", runs[0].info.run_id)
        (folder / "model").mkdir()
        Model().save(folder / "model" / "MLmodel")
        client.log_model_artifacts(model.model_id, str(folder / "model"))
        client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("wine")
    client.create_model_version("wine", f"models:/{model.model_id}", runs[0].info.run_id)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/mirror.md", "packages/mirror/README.md"])
def test_the_mirrors_command(page: str, tmp_path: Path, sandbox: Sandbox, shell: Shell) -> None:
    """It copies from one server to another under two local names, and prints the counts of the page."""
    ((command, shown),) = commands(block(page, "$ mlflow-connections mirror"))
    old, new = f"sqlite:///{tmp_path / 'old.db'}", f"sqlite:///{tmp_path / 'new.db'}"
    old_server(old, tmp_path)
    for name, real in {"https://old.acme.com": old, "https://new.acme.com": new}.items():
        command, shown = command.replace(name, real), shown.replace(name, real)
    done = terminal(command, tmp_path, shell(tmp_path))
    assert done.stdout.splitlines()[-1] == shown
    client = mlflow.MlflowClient(new)
    (copied,) = client.search_experiments(filter_string="name = 'wine'")
    assert len(client.search_runs([copied.experiment_id])) == 4


@pytest.mark.slow
def test_the_tutorials_environment(tmp_path: Path, shell: Shell) -> None:
    """Its two commands create an environment and put its `python` and `pip` on the path."""
    text = block("docs/tutorial.md", "$ python3 -m venv .venv")
    script = "\n".join(command for command, _ in commands(text))
    look = "python -c 'import sys; print(sys.prefix)' && command -v pip"
    done = terminal(f"{script}\n{look}", tmp_path, shell(tmp_path, alone=True))
    assert done.stdout.split() == [f"{tmp_path}/.venv", f"{tmp_path}/.venv/bin/pip"]


@pytest.mark.slow
def test_kedros_init_prompts(tmp_path: Path, shell: Shell) -> None:
    """In a project, the page's answer produces the page's lines."""
    ((command, shown),) = commands(block("docs/kedro.md", "$ kedro mlflow-connections init"))
    wanted = page_environment.installed_by(ROOT / "docs" / "kedro.md")
    python = page_environment.build(wanted, tmp_path / "environment")
    environment = {**shell(tmp_path, python.parent, alone=True), "COLUMNS": "200"}
    new = "kedro new --name wine --tools none --example no --telemetry no"
    assert terminal(new, tmp_path, environment).returncode == 0
    question, _, answer = shown.splitlines()[0].partition(": ")
    # Enter for each further question.
    done = terminal(command, tmp_path / "wine", environment, f"{answer}\n" + "\n" * 9)
    assert question in done.stdout
    assert all(line in done.stdout for line in shown.splitlines()[2:]), done.stdout
    # The page states that the check fails without a secret.
    assert done.returncode == 1


@pytest.mark.slow
def test_snowflakes_sql(sandbox: Sandbox, tmp_path: Path) -> None:
    """The statements of the guide run, with an experiment, a run and a table in place of the reader's."""
    build_bridge(sandbox, tmp_path / "conf")
    account: Any = sandbox["snowflake"]
    client = mlflow.MlflowClient(sandbox.mlflow_url)
    found = client.get_experiment_by_name("demo-mlops")
    experiment = found.experiment_id if found else client.create_experiment("demo-mlops")
    run_id = client.create_run(experiment).info.run_id
    text = block("docs/snowflake.md", "SELECT", "sql")
    text = text.replace("<run id>", run_id).replace("(42)", f"({experiment})")
    training = (
        "CREATE OR REPLACE TABLE demo.demo.training AS SELECT 0.5 AS loss, 1000 AS ts, 1 AS epoch"
    )
    with connect(**account.connection()) as session, session.cursor() as cursor:
        for statement in [training, "USE SCHEMA demo.demo", *text.split(";\n")[:-1]]:
            cursor.execute(statement)
    run = client.get_run(run_id)
    assert run.data.metrics == {"rmse": 0.25, "loss": 0.5}
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_the_benchmark_since_a_commit_prints_its_ratios(shell: Shell, tmp_path: Path) -> None:
    """The script of `nox -s bench_since` compares two environments, in this test one with itself."""
    script = [sys.executable, "benchmarks/since.py", sys.prefix, sys.prefix, "--only", "uri"]
    done = terminal(shlex.join(script), ROOT, shell(tmp_path))
    assert done.returncode == 0, done.stdout
    heading, row = done.stdout.splitlines()
    assert heading.split() == ["what", "plain", "ours", "ratio", "aim"]
    assert re.fullmatch(r"resolve a URI +\S+ \S+ +\S+ \S+ +\d+\.\d+ *", row)


_IN_A_SENTENCE = re.compile(
    r"`((?:mlflow-connections(?:-sandbox)?|mlflow-snowflake|mlflow-databand) [^`\n]+)`"
)


def in_sentences() -> list[str]:
    """Return the commands in the text of the pages, outside of blocks."""
    texts = [
        re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8")) for page in _PAGES
    ]
    return sorted({command for text in texts for command in _IN_A_SENTENCE.findall(text)})


@pytest.mark.parametrize("command", in_sentences())
def test_a_command_in_a_sentence_exists(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its help is that of the named subcommand, and lists each of its options."""
    words = shlex.split(command.partition(" -- ")[0])
    flags = [word for word in words if word.startswith("--")]
    named = words[1:3] if words[1] == "outbox" else words[1:2]
    (script,) = entry_points(group="console_scripts", name=words[0])
    monkeypatch.setattr("sys.argv", [words[0], *named, "--help"])
    with pytest.raises(SystemExit) as ended:
        sys.exit(script.load()())
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert f"usage: {' '.join([words[0], *named])}" in shown
    assert [flag for flag in flags if flag not in shown] == []
