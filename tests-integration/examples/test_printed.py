"""Commands on pages that need special preparation: each is run as printed, and prints the page's output."""

import io
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from datetime import datetime, timedelta, timezone
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import pytest
from kedro.pipeline import node, pipeline
from mlflow.models import Model
from rich.console import Console
from snowflake.connector import connect

from mlflow_connections import resolve
from mlflow_connections_outbox import Destination, Event, Outbox, Policy
from mlflow_connections_sandbox import Sandbox
from mlflow_connections_snowflake import _cli as snowflake_cli
from mlflow_connections_snowflake.kedro._plan import plan, read_settings
from mlflow_connections_snowflake.kedro._watch import Progress, TaskRun

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


def databand_uri() -> str:
    """Return the composite URI that the keyword writes for the options of the guide's URI."""
    options = {
        "databand_url": "http://localhost:8080",
        "duplicate_tracking_to": "http://mlflow-store:80/",
    }
    return f"{resolve('databand', {'access_token': 'any'}, options).tracking_uri}\n"


class Account:
    """A session with an account that has one external access integration and no function."""

    def __init__(self) -> None:
        self.statement = ""

    def sql(self, statement: str) -> "Account":
        """Run a statement that shows objects."""
        self.statement = statement
        return self

    def collect(self) -> list[Any]:
        """Return the rows of the last statement."""
        from snowflake.snowpark import Row

        is_shown = self.statement == "SHOW EXTERNAL ACCESS INTEGRATIONS"
        return [Row(name="MLFLOW_ACCESS", enabled="true")] if is_shown else []


def ways_to_mlflow() -> str:
    """Return the last lines of `mlflow-snowflake check` with the guide's section of external access."""
    section = block("docs/snowflake.md", "# conf/base/snowflake.yml\nmlflow:", "yaml")
    Path("snowflake.yml").write_text(section, encoding="utf-8")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(snowflake_cli, "open_session", lambda _name: nullcontext(Account()))
        assert snowflake_cli.main(["check", "--config", "snowflake.yml"]) == 1
    *_, ways = printed.getvalue().partition("Ways to")
    assert ways.splitlines()[-1].endswith(" to fix.")
    return f"Ways to{ways.rpartition(chr(10) + ways.splitlines()[-1])[0]}\n"


def progress_of_the_starter() -> str:
    """Return the lines that a terminal shows during the starter's pipeline, with the guide's seconds.

    A test of tests-integration/snowflake/test_starter_project.py compares the two lines above them.
    """
    shown = block("docs/snowflake-kedro.md", "wine, pipeline", "text")
    names = ("split", "train", "evaluate")
    data = ("raw", "parts", "model", "accuracy")
    nodes = [
        node(lambda given: given, *ends, name=name)
        for name, ends in zip(names, pairwise(data), strict=True)
    ]
    settings = read_settings(
        {
            "database": "DEMO",
            "schema": "DEMO",
            "warehouse": "COMPUTE_WH",
            "mlflow": {
                "experiment_name": "wine",
                "database": "DEMO",
                "schema": "DEMO",
                "external_access": {"url": "https://mlflow.example.com"},
            },
        },
        "snowflake.yml",
    )
    made = plan(settings, "wine", "__default__", "local", {}, {"__default__": pipeline(nodes)})
    tasks = {name: task for task, name in made.tasks.items()}
    began = datetime(2026, 11, 26, tzinfo=timezone.utc)
    seconds = {name: float(took) for name, took in re.findall(r"(\S+) +([\d.]+) s\n", shown)}
    runs = {}
    for name in ("start", "MLflow run", "split"):
        ended = began + timedelta(seconds=seconds[name.split()[-1]])
        task = tasks[name]
        runs[task] = TaskRun(task, "SUCCEEDED", began, ended, "", "", ("1", 1))
    train = tasks["train"]
    runs[train] = TaskRun(train, "EXECUTING", began, None, "", "", ("1", 1))
    progress = Progress(made, Console(file=io.StringIO()))
    progress._since[train, 1] = time.monotonic() - seconds["train"]
    lines = [line.rstrip() for line in progress._table(runs).plain.splitlines()]
    return "".join(shown.splitlines(keepends=True)[:2]) + "\n".join(lines) + "\n"


def start_up_file() -> str:
    """Return the content of the start-up file that a wheel has."""
    (file,) = (ROOT / "packages" / "kedro-import-path").glob("*.pth")
    return file.read_text(encoding="utf-8")


PRINTED: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/databand.md", "dbnd://"): databand_uri,
    ("docs/snowflake.md", "Ways to"): ways_to_mlflow,
    ("docs/snowflake-kedro.md", "wine, pipeline"): progress_of_the_starter,
    ("packages/kedro-import-path/README.md", "import "): start_up_file,
}
ELSEWHERE = {
    ("README.md", "connection  params"),  # test_demo.py
    ("docs/snowflake.md", "CREATE PROCEDURE"),  # the next test but one
}


@pytest.mark.parametrize(
    ("page", "beginning"),
    [
        # Snowpark, which is imported for this block alone, takes half a second.
        pytest.param(*each, marks=pytest.mark.slow if made is ways_to_mlflow else ())
        for each, made in PRINTED.items()
    ],
    ids=lambda each: each.strip(),
)
def test_a_block_of_text_is_what_the_product_prints(
    page: str, beginning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output that a page shows without its command equals what the product's own function returns."""
    monkeypatch.chdir(tmp_path)
    assert PRINTED[page, beginning]() == block(page, beginning, "text")


def test_every_block_of_text_has_a_test() -> None:
    """No page has a block of text that no test compares with the product's output."""
    tested = {*PRINTED, *ELSEWHERE}
    unknown = [
        (page.relative_to(ROOT).as_posix(), text)
        for page in _PAGES
        for text in re.findall(r"(?ms)^ *```text\n(.*?)^ *```", page.read_text(encoding="utf-8"))
        if not any(
            page == ROOT / place and text.startswith(beginning) for place, beginning in tested
        )
    ]
    assert unknown == []


@pytest.mark.slow
def test_a_procedure_with_the_guides_clauses_is_created(
    sandbox: Sandbox, tmp_path: Path, shell: Shell
) -> None:
    """With the integration that `apply` creates, Snowflake accepts the clauses, and the procedure runs."""
    account: Any = sandbox["snowflake"]
    section = block("docs/snowflake.md", "# conf/base/snowflake.yml\nmlflow:", "yaml")
    (tmp_path / "snowflake.yml").write_text(section, encoding="utf-8")
    environment = {**shell(tmp_path), **account.environment()}
    done = terminal("mlflow-snowflake apply --config snowflake.yml", tmp_path, environment)
    assert done.returncode == 0, done.stdout
    clauses = block("docs/snowflake.md", "CREATE PROCEDURE", "text").splitlines()[1:]
    create = (
        "CREATE OR REPLACE PROCEDURE demo.demo.train() RETURNS VARCHAR LANGUAGE PYTHON"
        f" RUNTIME_VERSION = '3.11' {' '.join(clauses)} HANDLER = 'train'"
        " AS $$\nimport mlflow\n\ndef train(session):\n    return 'trained'\n$$"
    )
    with connect(**account.connection()) as session, session.cursor() as cursor:
        cursor.execute(create)
        rows = cursor.execute("CALL demo.demo.train()")
        assert rows
        assert rows.fetchall() == [("trained",)]
