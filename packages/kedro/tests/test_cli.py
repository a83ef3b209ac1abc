"""`kedro mlflow-connections`: its output, and that it hides secrets."""

import json
import socket
import threading
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from mlflow_connections_kedro._cli import commands

if TYPE_CHECKING:
    from packages.kedro.tests.conftest import Project


def call(project: "Project | None", *arguments: str) -> Result:
    """Call a command as Kedro does, with the metadata of the project that it found."""
    found = project and metadata(project)
    runner = CliRunner(env={"COLUMNS": "300"})  # a table wraps at the width of the terminal
    return runner.invoke(commands, ["mlflow-connections", *arguments], obj=found)


def metadata(project: "Project") -> SimpleNamespace:
    """Return the metadata that Kedro passes to commands."""
    return SimpleNamespace(project_path=project.folder, project_name="Shop")


def test_list(project: "Project") -> None:
    """`list` names every keyword with its package, also outside a project."""
    done = call(None, "list")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()[2:]] == [
        "declared",
        "empty",
        "lake",
    ]


def test_show(project: "Project", monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` names the source of each value, and masks secrets."""
    project.write(
        "base/credentials.yml", {"dev": {"token": "t-0815", "MLFLOW_TRACKING_TOKEN": "x"}}
    )
    project.server("prod", tracking_uri="declared", connection={"region": "eu"}, credentials="dev")
    monkeypatch.setenv("DECLARED_WORKSPACE", "w-1")
    done = call(project, "show", "--env", "prod")
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert "project Shop (environment prod)" in lines
    assert "tracking connection declared (server.tracking_uri in conf/prod/mlflow.yml)" in lines
    assert "exported MLFLOW_TRACKING_TOKEN" in lines
    table = "\n".join(lines)
    assert "region eu server.connection in conf/prod/mlflow.yml Where it is." in table
    assert "workspace w-1 variable DECLARED_WORKSPACE DECLARED_WORKSPACE Its name." in table
    assert "retries 3 default How often." in table
    assert "token *** entry 'dev' of conf/base/credentials.yml DECLARED_TOKEN Opens it." in table
    assert "t-0815" not in done.output


def test_show_of_an_option_that_is_missing(project: "Project") -> None:
    """`show` explains a setting that `kedro run` would refuse."""
    project.server(tracking_uri="declared")
    assert "missing" in call(project, "show").output


@pytest.mark.parametrize("command", ["show", "check"])
def test_outside_of_a_project(command: str) -> None:
    """A command that needs a project fails with one line and exit code 1 outside of one."""
    done = call(None, command)
    assert done.exit_code == 1
    assert done.output.startswith("Error: This is not the folder of a Kedro project")


def test_check_without_a_uri(project: "Project") -> None:
    """`check` of a project without a URI names the place to write one."""
    done = call(project, "check")
    assert done.exit_code == 1
    assert "write server.tracking_uri into conf/base/mlflow.yml" in done.output


def test_check_of_an_unavailable_server(project: "Project") -> None:
    """`check` fails if the server does not respond; kedro-mlflow's resolver is supported."""
    settings = {"tracking_uri": "http://u:t-0815@127.0.0.1:9"}
    run = {"run": {"name": "${km.random_name:}"}}
    project.write("base/mlflow.yml", {"server": settings, "tracking": run})
    done = call(project, "check")
    assert done.exit_code == 1
    assert "http://***@127.0.0.1:9 did not answer" in done.output
    assert "t-0815" not in done.output


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(secret=st.text(st.characters(codec="utf-8", exclude_characters="$\x00"), max_size=20))
def test_no_command_shows_a_hostile_secret(project: "Project", secret: str) -> None:
    """No command prints any part of a secret, whatever quotes, line breaks or alphabets it has."""
    secret = f"zq9~{secret}~zq9"
    project.write("local/credentials.yml", {"dev": {"token": secret, "LAKE_TOKEN": secret}})
    servers: list[dict[str, Any]] = [
        {"tracking_uri": "declared", "connection": {"region": "eu", "workspace": "127.0.0.1:9"}},
        {"tracking_uri": "declared", "connection": {"region": secret, "workspace": "w"}},
        {"tracking_uri": "declared", "connection": {"region": "eu", "retries": secret}},
    ]
    for server in servers:
        project.server(**server, credentials="dev")
        for command in ("show", "check", "list"):
            assert "zq9" not in call(project, command).output


def test_check_has_a_time_limit(project: "Project") -> None:
    """`check --timeout` stops and names the server that did not respond."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        project.server(tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
        done = call(project, "check", "--timeout", "0.5")
    assert done.exit_code == 1
    assert "Gave up after 0.5 s, waiting for the " in done.output
    for thread in threading.enumerate():
        if thread.name == "mlflow-connections-check":
            # its warning about the closed server would appear in the next test's output
            thread.join()


def test_error_is_one_line(project: "Project") -> None:
    """An error is one line that names the file, with exit code 1."""
    project.server(tracking_uri="nobody")
    done = call(project, "check")
    assert done.exit_code == 1
    assert done.output.startswith("Error: server.tracking_uri in conf/base/mlflow.yml: 'nobody'")
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "mlflow",
            "server: {a: 1\n  b: 2",
            "conf/base/mlflow.yml cannot be read: line 2, column 4",
        ),
        ("mlflow", "server:\n  a: 1\n  a: 2\n", "conf/base/mlflow.yml cannot be read: line 3"),
        (
            "mlflow",
            'server: {tracking_uri: "${oc.env:HOME}"}',
            "conf/base/mlflow.yml cannot be read",
        ),
        (
            "mlflow",
            'server: {tracking_uri: "${runtime_params:uri}"}',
            "conf/base/mlflow.yml cannot be read: Runtime parameter 'uri' not found",
        ),
        ("mlflow", 'server: {tracking_uri: "${nothing}"}', "conf/base/mlflow.yml cannot be read"),
        ("credentials", "dev: [t-0815", "conf/base/credentials.yml cannot be read: line 2"),
        (
            "credentials",
            "dev: {a: t-0815, a: 2}",
            "conf/base/credentials.yml cannot be read: line 1",
        ),
        ("globals", "a: [1", "globals.yml cannot be read: line 2"),
    ],
)
@pytest.mark.parametrize("command", ["show", "check"])
def test_a_file_that_cannot_be_read(
    project: "Project", command: str, file: str, text: str, said: str
) -> None:
    """Invalid YAML, duplicate keys and interpolations without a value are one line with file and place."""
    project.server(tracking_uri="lake", credentials="dev")
    project.write(f"base/{file}.yml", text)
    done = call(project, command)
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {said}")
    assert len(done.output.splitlines()) == 1
    assert "t-0815" not in done.output


def test_the_same_key_in_two_files(project: "Project") -> None:
    """A key in two files of one environment is one line too."""
    project.server(tracking_uri="lake")
    project.write("base/more/mlflow.yml", {"server": {}})
    done = call(project, "show")
    assert done.exit_code == 1
    assert done.output.startswith("Error: mlflow.yml cannot be read: Duplicate keys found in ")
    assert len(done.output.splitlines()) == 1


def test_params(project: "Project") -> None:
    """`--params` gives values to `${runtime_params:...}`, as in `kedro run`."""
    project.write("base/mlflow.yml", 'server: {tracking_uri: "${runtime_params:uri}"}')
    done = call(project, "show", "--params", "uri=http://a")
    assert done.exit_code == 0, done.output
    assert "http://a (server.tracking_uri in conf/base/mlflow.yml)" in done.output


def test_init(project: "Project") -> None:
    """`init` prompts for the keyword and its options, writes both files and checks them."""
    answers = "declared\nmars\neu\n\n\n"
    done = CliRunner().invoke(
        commands, ["mlflow-connections", "init"], obj=metadata(project), input=answers
    )
    assert done.exit_code == 0, done.output
    assert (project.folder / "conf/base/mlflow.yml").read_text() == (
        "server:\n"
        "  tracking_uri: declared\n"
        "  credentials: declared  # an entry of credentials.yml\n"
        "  connection:\n"
        "    region: eu\n"
    )
    assert (project.folder / "conf/local/credentials.yml").read_text() == (
        "declared:\n  # Opens it. If it is left empty, DECLARED_TOKEN is read.\n  token:\n"
    )
    assert "'region' in the answer must be one of eu, us" in done.output
    assert "Not checked yet: 'workspace' is neither in server.connection" in done.output
    assert "then run: kedro mlflow-connections check" in done.output


def test_init_without_questions(project: "Project") -> None:
    """`--no-input` uses the given values, and keeps the rest of the files."""
    project.write("base/mlflow.yml", "# Ours.\nserver:\n  a: 1\n# The UI.\nui:\n  port: 1\n")
    project.write("local/credentials.yml", "declared:\n  token: t-0815\n")
    arguments = ["init", "--connection", "declared", "--no-input", "--option", "region=us"]
    refused = call(project, *arguments)
    assert refused.exit_code == 1
    assert "conf/base/mlflow.yml has a server section already: add --force" in refused.output
    done = call(
        project, *arguments, "--option", "workspace=w: 1", "--option", "retries=5", "--force"
    )
    assert "Written to conf/base/mlflow.yml." in done.output
    assert "has an entry 'declared' already; it stays." in done.output
    assert "https://w: 1 did not answer" in done.output
    assert (project.folder / "conf/base/mlflow.yml").read_text() == (
        "# Ours.\nserver:\n"
        "  tracking_uri: declared\n"
        "  credentials: declared  # an entry of credentials.yml\n"
        "  connection:\n"
        "    region: us\n"
        '    workspace: "w: 1"\n'
        "    retries: 5\n"
        "# The UI.\nui:\n  port: 1\n"
    )
    assert (project.folder / "conf/local/credentials.yml").read_text() == (
        "declared:\n  token: t-0815\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--connection", "nobody"], "'nobody' is not the keyword of an installed connection"),
        (["--no-input"], "--connection is missing; it takes one of declared, empty, lake"),
        (["--connection", "declared", "--option", "region"], "--option takes NAME=VALUE"),
        (
            ["--connection", "declared", "--option", "token=t-0815"],
            "'token' belongs in credentials",
        ),
        (
            ["--connection", "declared", "--option", "x=1"],
            "'x' is not an option of this connection",
        ),
        (["--connection", "declared", "--option", "region=mars"], "'region' in the answer must be"),
    ],
)
def test_init_refuses(project: "Project", arguments: list[str], said: str) -> None:
    """An invalid answer is one line of error, and no file is written."""
    done = call(project, "init", *arguments)
    assert done.exit_code == 1
    assert said in done.output
    assert "t-0815" not in done.output
    assert list(project.folder.rglob("*.yml")) == []


@pytest.fixture
def schema(tmp_path: Path) -> Draft7Validator:
    """Let the command write the schema to a file, as a user does."""
    path = tmp_path / "schema.json"
    done = call(None, "schema", "-o", str(path))
    assert done.exit_code == 0, done.output
    made = json.loads(path.read_text())
    Draft7Validator.check_schema(made)
    return Draft7Validator(made)


@pytest.mark.parametrize(
    "server",
    [
        None,
        {},
        {"tracking_uri": "http://a", "credentials": "dev"},
        {"mlflow_tracking_uri": "runs", "request_header_provider": {"type": "a.B"}},
        {"tracking_uri": "declared", "connection": {"region": "eu", "workspace": 17}},
        {
            "tracking_uri": "declared",
            "connection": {"region": "${globals:region}", "retries": None},
        },
        {"tracking_uri": "lake", "connection": {"whatever": [1]}},
        {"tracking_uri": "${globals:uri}", "connection": {"region": "eu"}},
        {"registry_uri": "lake", "tracking_uri": "http://a", "connection": {"database": "x"}},
        {
            "tracking_uri": "declared",
            "registry_uri": "lake",
            "connection": {"region": "eu", "database": "x"},
        },
        {"connection": {"region": "eu"}},
        {"tracking_uri": "./runs", "registry_uri": "databricks-uc"},
        {"tracking_uri": "declared", "connection": {"<<": {"region": "eu"}}},
        {"tracking_uri": None, "mlflow_tracking_uri": "runs"},
    ],
)
def test_schema_accepts(schema: Draft7Validator, server: object) -> None:
    """Settings that work in a project are valid."""
    assert [error.message for error in schema.iter_errors({"server": server, "tracking": {}})] == []


@pytest.mark.parametrize(
    "server",
    [
        [],
        {"tracking_uri": 5},
        {"traking_uri": "http://a"},
        {"credentials": {"token": "x"}},
        {"tracking_uri": "http://a", "connection": {"region": "eu"}},
        {"tracking_uri": "declared"},
        {"tracking_uri": "declared", "connection": {"workspace": "w"}},
        {"mlflow_registry_uri": "declared", "connection": {"region": "mars"}},
        {"tracking_uri": "declared", "connection": {"region": "eu", "retries": "often"}},
        {"tracking_uri": "declared", "connection": {"region": "eu", "token": "t"}},
        {"tracking_uri": "declared", "connection": {"region": "eu", "regoin": "eu"}},
        {"tracking_uri": "lakee"},
        {"registry_uri": "runs"},
        {"tracking_uri": "http://a", "mlflow_tracking_uri": "http://b"},
    ],
)
def test_schema_refuses(schema: Draft7Validator, server: object) -> None:
    """Settings that fail in a project are invalid."""
    assert not schema.is_valid({"server": server})


def test_schema_offers_the_keywords(schema: Draft7Validator) -> None:
    """Editors can offer the installed keywords, and describe an option."""
    made: Any = schema.schema
    server = made["properties"]["server"]
    offered = server["properties"]["tracking_uri"]["anyOf"][0]["enum"]
    assert {"declared", "empty", "lake", "databricks"} <= set(offered)
    assert "Read from DECLARED_WORKSPACE" in json.dumps(server)


def test_schema_omits_a_broken_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that cannot be loaded is reported, and the rest of the schema is created."""
    info = tmp_path / "more" / "broken-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[kedro_mlflow.connections]\nbroken = nowhere:at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path / "more"))
    # Click 8.1 joins both streams by default; later versions never do.
    apart: dict[str, Any] = (
        {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    )
    done = CliRunner(**apart).invoke(commands, ["mlflow-connections", "schema"])
    assert done.exit_code == 0
    assert "Left out: Failed to load KedroMlflowConnection plugin 'broken'" in done.stderr
    assert (
        "declared"
        in json.loads(done.stdout)["properties"]["server"]["properties"]["tracking_uri"]["anyOf"][
            0
        ]["enum"]
    )
