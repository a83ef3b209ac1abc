"""The commands about named connections, run as by users."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warm_python import WarmPython

from mlflow_connections import InvalidOptionError
from mlflow_connections._export_formats import export_text, github_masks

PLUGIN = """
from mlflow_connections import Connection, Option

class Declared(Connection):
    declared = (
        Option("workspace", "Which workspace.", env="TEST_WORKSPACE", required=True),
        Option("timeout", "Seconds to wait.", type=float, default=30.0),
        Option("connection", "An option with a name that the file uses itself."),
        Option("region", "Where it is.", choices=("eu", "us"), default="eu"),
        Option("tenant", "Which tenant.", credential=True),
        Option("token", "Opens the door.", env="TEST_TOKEN", secret=True),
    )
    def tracking_uri(self, credentials, options):
        return f"http://{self.values(credentials, options)['workspace']}.example"
    def environment(self, credentials, options):
        return {"TEST_EXPORTED": self.values(credentials, options)["token"] or ""}

connection = Declared()
"""

FILE = """
[connections.prod]
connection = "declared"
workspace = "forecasts"
credentials = { tenant = "t1", token = { env = "ML_SECRET" } }

[connections.slow]
connection = "declared"
workspace = "w"
credentials = { token = { command = ["no-such-program-here"] } }

[connections.plain]
connection = "https://server"
registry = "https://registry"
credentials = { MLFLOW_TRACKING_TOKEN = { env = "ML_SECRET" } }
"""


class Shell:
    """Runs `mlflow-connections` in a project with one plugin and a connections file."""

    def __init__(self, folder: Path, python: WarmPython) -> None:
        self.python = python
        site, self.project = folder / "site", folder / "project"
        self.config = folder / "config"
        for each in (site, self.project):
            each.mkdir()
        (site / "declared_module.py").write_text(PLUGIN)
        info = site / "declared_plugin-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: declared-plugin\nVersion: 1.2\n"
        )
        (info / "entry_points.txt").write_text(
            "[kedro_mlflow.connections]\ndeclared = declared_module:connection\n"
        )
        (self.project / "mlflow-connections.toml").write_text(FILE)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TEST_", "ML", "GITHUB"))}
        self.environment = {
            **kept,
            "PYTHONPATH": str(site),
            "COLUMNS": "120",
            "XDG_CONFIG_HOME": str(self.config),
        }
        # For tests of streams and signals.
        self.command = [sys.executable, "-m", "mlflow_connections"]

    def __call__(
        self, *arguments: str, stdin: str = "", **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        return self.python.run(
            ["-m", "mlflow_connections", *arguments],
            cwd=self.project,
            env={**self.environment, **variables},
            input=stdin,
        )


@pytest.fixture
def shell(tmp_path: Path, warm_python: WarmPython) -> Shell:
    """A shell in the project."""
    return Shell(tmp_path, warm_python)


def test_list_has_the_names(shell: Shell) -> None:
    """Each has its keyword and file; an invalid name is marked."""
    rows = json.loads(shell("list", "--output", "json").stdout)["connections"]
    assert [(row["name"], row["connection"], row["note"]) for row in rows] == [
        ("plain", "https://server", ""),
        ("prod", "declared", ""),
        ("slow", "declared", ""),
    ]
    assert rows[0]["file"] == str(shell.project / "mlflow-connections.toml")
    assert re.search(r"^prod +declared +/", shell("list", COLUMNS="300").stdout, re.MULTILINE)
    (shell.project / "mlflow-connections.toml").write_text(
        '[connections.declared]\nconnection = "http://h"\n'
    )
    (row,) = json.loads(shell("list", "--output", "json").stdout)["connections"]
    assert row["note"] == "also a keyword: rename it"


def test_show_names_the_source_of_each_value_of_a_name(shell: Shell) -> None:
    """Values in the file name the file, secrets their source; no command is run for it."""
    shown = json.loads(shell("show", "prod", "--output", "json", ML_SECRET="hunter2").stdout)
    assert shown["name"] == "prod"
    assert shown["keyword"] == "declared"
    values = {row["option"]: (row["value"], row["from"]) for row in shown["options"]}
    assert values == {
        "workspace": ("forecasts", "mlflow-connections.toml"),
        "timeout": ("30.0", "default"),
        "connection": ("", "not set"),
        "region": ("eu", "default"),
        "tenant": ("t1", "mlflow-connections.toml"),
        "token": ("***", "variable ML_SECRET"),
    }
    text = shell("show", "prod", ML_SECRET="hunter2")
    assert "hunter2" not in text.stdout + text.stderr
    assert "prod: [connections.prod] in " in text.stdout
    slow = json.loads(shell("show", "slow", "--output", "json").stdout)
    token = next(row for row in slow["options"] if row["option"] == "token")
    assert (token["value"], token["from"]) == ("***", "command no-such-program-here")


def test_show_reports_a_source_without_a_value(shell: Shell) -> None:
    """A variable that is not set is missing, even if the option's own variable is set."""
    shown = json.loads(shell("show", "prod", "--output", "json", TEST_TOKEN="other").stdout)
    token = next(row for row in shown["options"] if row["option"] == "token")
    assert (token["value"], token["from"]) == ("", "variable ML_SECRET: missing")


def test_show_of_a_uri_has_its_credentials(shell: Shell) -> None:
    """A name for a URI shows the sources of its credentials."""
    shown = shell("show", "plain", ML_SECRET="hunter2")
    assert shown.returncode == 0
    assert "plain: [connections.plain] in " in shown.stdout
    assert "\nhttps://server\n" in shown.stdout
    assert "MLFLOW_TRACKING_TOKEN  ***    variable ML_SECRET" in shown.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["declared", "--option", "nothing=1"],
        ["declared", "--option", "token=hunter2"],
        ["declared", "--option", "timeout=soon"],
        ["declared", "--option", "region=moon"],
        ["prod", "--option", "nothing=1"],
        ["prod", "--option", "token=hunter2"],
        ["plain", "--option", "nothing=1"],
        ["no-such-name"],
        ["--option", "workspace=w"],
    ],
)
def test_show_refuses_what_check_refuses(words: list[str], shell: Shell) -> None:
    """The error is the same sentence, without a server and without the value."""
    variables = {"ML_SECRET": "s3cret", "TEST_WORKSPACE": "w"}
    shown, checked = shell("show", *words, **variables), shell("check", *words, **variables)
    assert (shown.returncode, checked.returncode) == (1, 1)
    assert "hunter2" not in shown.stdout + shown.stderr + checked.stdout + checked.stderr
    assert shown.stderr == checked.stderr


def test_show_of_a_plain_uri_is_refused(shell: Shell) -> None:
    """A URI has no options."""
    shown = shell("show", "https://u:hunter2@h")
    assert shown.returncode == 1
    assert "'https://***@h' is a URI or path, which has no options" in shown.stderr


def test_run_takes_a_name_and_the_default(shell: Shell) -> None:
    """`run` accepts a name, as in `run prod -- command`, or uses the connection in the variable."""
    code = (
        "import os; print(os.environ['MLFLOW_TRACKING_URI'], os.environ.get('MLFLOW_REGISTRY_URI'))"
    )
    command = ["--", sys.executable, "-c", code]
    assert shell("run", "prod", *command, ML_SECRET="s").stdout == "http://forecasts.example None\n"
    assert (
        shell("run", *command, ML_SECRET="s", MLFLOW_CONNECTIONS_DEFAULT="plain").stdout
        == "https://server https://registry\n"
    )
    shown = shell("run", *command)
    assert shown.returncode == 1
    assert "set the environment variable MLFLOW_CONNECTIONS_DEFAULT" in shown.stderr
    assert "write: mlflow-connections run -- COMMAND" in shell("run").stderr


def test_env_is_for_eval(shell: Shell) -> None:
    """A shell that evaluates it has the endpoint's variables, whatever the secret contains."""
    secret = 'a\'b "c" $HOME `id` \\ \n z'
    script = (
        f'eval "$({sys.executable} -m mlflow_connections env plain)" && '
        'printf "%s|" "$MLFLOW_TRACKING_URI" "$MLFLOW_REGISTRY_URI" "$MLFLOW_TRACKING_TOKEN"'
    )
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=shell.project,
        env={**shell.environment, "ML_SECRET": secret},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"https://server|https://registry|{secret}|"


def test_env_as_json(shell: Shell) -> None:
    """A program reads one object."""
    printed = json.loads(shell("env", "plain", "--format", "json", ML_SECRET="s").stdout)
    assert printed == {
        "MLFLOW_TRACKING_URI": "https://server",
        "MLFLOW_REGISTRY_URI": "https://registry",
        "MLFLOW_TRACKING_TOKEN": "s",
    }


def test_env_in_a_github_workflow(shell: Shell) -> None:
    """Standard output goes to $GITHUB_ENV; the runner is told to hide the values."""
    done = shell("env", "plain", "--format", "github", ML_SECRET="s3cret", GITHUB_ACTIONS="true")
    name, delimiter = done.stdout.splitlines()[0].split("<<")
    assert name == "MLFLOW_TRACKING_URI"
    assert done.stdout.splitlines()[1:3] == ["https://server", delimiter]
    assert "::add-mask::s3cret\n" in done.stderr
    assert "s3cret" not in shell("env", "plain", "--format", "github", ML_SECRET="s3cret").stderr


def test_env_hides_values_on_a_terminal(shell: Shell) -> None:
    """A secret is not shown on a screen by accident."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*shell.command, "env", "plain"],
        cwd=shell.project,
        env={**shell.environment, "ML_SECRET": "hunter2"},
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "hunter2" not in shown + done.stderr
    assert "MLFLOW_TRACKING_TOKEN=***" in shown
    assert 'eval "$(mlflow-connections env plain)"' in done.stderr


def test_an_error_of_env_prints_nothing_to_evaluate(shell: Shell) -> None:
    """`eval "$(...)"` of a failed command evaluates nothing."""
    done = shell("env", "plain")
    assert (done.returncode, done.stdout) == (1, "")
    assert "variable ML_SECRET, which is not set" in done.stderr


NAMES = st.sampled_from(["A", "MLFLOW_TRACKING_TOKEN"])
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(max_examples=20)
@given(st.lists(st.dictionaries(NAMES, TEXT), min_size=1, max_size=20))
def test_a_shell_reads_values_unchanged(written: list[dict[str, str]]) -> None:
    """Quoting for `sh` keeps every value."""
    scripts = []
    for variables in written:
        names = " ".join(f'"${name}"' for name in variables)
        shown = f"printf '%s\\0' {names}\n" if variables else ""
        scripts.append(f"{export_text(variables, 'sh')}{shown}")
    done = subprocess.run(["sh", "-c", "".join(scripts)], capture_output=True, check=True, env={})
    values = [value for variables in written for value in variables.values()]
    assert done.stdout.decode().split("\0")[:-1] == values


@given(st.dictionaries(NAMES, TEXT))
def test_dotenv_is_read_alike_or_refused(variables: dict[str, str]) -> None:
    """A reader of .env files gets every written value."""
    dotenv = pytest.importorskip("dotenv")
    from io import StringIO

    try:
        text = export_text(variables, "dotenv")
    except InvalidOptionError:  # the message is in the next test but one
        return
    assert dict(dotenv.dotenv_values(stream=StringIO(text))) == variables


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("abc-1.2/x", "A=abc-1.2/x"),
        ("", "A=''"),
        ("a b#c", "A='a b#c'"),
        ("pa$$word", "A='pa$$word'"),
        ("it's", 'A="it\'s"'),
        ("a\nb", 'A="a\\nb"'),
    ],
)
def test_dotenv_quotes_for_all_readers(value: str, line: str) -> None:
    """Single quotes are preferred; double quotes are used only if necessary."""
    assert export_text({"A": value}, "dotenv") == f"{line}\n"


@pytest.mark.parametrize("value", ["${HOME}", "back\\slash", 'it\'s "both"', "it's $HOME"])
def test_dotenv_refuses_values_that_readers_interpret_differently(value: str) -> None:
    """The value is not shown."""
    with pytest.raises(InvalidOptionError, match="The value of A has characters") as caught:
        export_text({"A": value}, "dotenv")
    assert value not in str(caught.value)


@given(st.dictionaries(NAMES, TEXT, min_size=1))
def test_github_reads_values_unchanged(variables: dict[str, str]) -> None:
    """A reader like the runner's takes a line with the delimiter, then the lines up to it."""
    read, lines = {}, export_text(variables, "github").split("\n")
    while lines[0]:
        name, _, delimiter = lines.pop(0).partition("<<")
        end = lines.index(delimiter)
        read[name] = "\n".join(lines[:end])
        lines = lines[end + 1 :]
    assert read == variables


def test_github_masks_each_line() -> None:
    """The runner masks by line, and a percent sign is escaped."""
    assert github_masks(["a\nb%", " ", "a"]) == "::add-mask::a\n::add-mask::b%25\n"


def test_init_writes_a_first_file(shell: Shell) -> None:
    """The answers become a usable table; secrets are named by their variable."""
    (shell.project / "mlflow-connections.toml").unlink()
    answers = ["prod", "declared", "my ws", "5", "inner", "us", "t1", "ML_SECRET"]
    done = shell("init", stdin="\n".join(answers) + "\n")
    assert done.returncode == 0, done.stderr
    assert (shell.project / "mlflow-connections.toml").read_text() == (
        "[connections.prod]\n"
        'connection = "declared"\n'
        'workspace = "my ws"\n'
        "timeout = 5.0\n"
        'options.connection = "inner"\n'
        'region = "us"\n'
        'credentials.tenant = "t1"\n'
        'credentials.token = { env = "ML_SECRET" }\n'
    )
    assert "Try: mlflow-connections check prod" in done.stdout
    printed = json.loads(shell("env", "prod", "--format", "json", ML_SECRET="s").stdout)
    assert printed["MLFLOW_TRACKING_URI"] == "http://my ws.example"
    assert printed["TEST_EXPORTED"] == "s"


def test_init_adds_to_a_file_and_omits_empty_answers(shell: Shell) -> None:
    """Existing content stays, and an empty answer leaves an option to its variable or default."""
    before = (shell.project / "mlflow-connections.toml").read_text()
    done = shell("init", stdin="\ndeclared\nw\n\n\n\n\n\n")
    assert done.returncode == 0, done.stderr
    assert (shell.project / "mlflow-connections.toml").read_text() == (
        f'{before}\n[connections.default]\nconnection = "declared"\nworkspace = "w"\n'
    )


def test_init_writes_the_users_file(shell: Shell) -> None:
    """With --user it writes the file in the platform's configuration folder; a URI needs no options."""
    done = shell("init", "--user", stdin="mine\nhttp://h\n")
    assert done.returncode == 0, done.stderr
    path = shell.config / "mlflow-connections" / "connections.toml"
    assert path.read_text() == '[connections.mine]\nconnection = "http://h"\n'


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("a b\n", "'a b' cannot be a name"),
        ("prod\n", "[connections.prod] in "),
        ("x\n\n", "A keyword or a URI is needed"),
        ("x\nhttp://u:hunter2@h\n", "The URI has a secret inside"),
        ("x\ndeclared\nw\nsoon\n", "'timeout' in the answer must be a number"),
        ("x\ndeclared\nw\n\n\n\n\nhunter2!\n", "is not the name of an environment variable"),
        ("x\ndeclared\n", "The answers ended before the last question"),
    ],
)
def test_init_refuses_invalid_answers(answers: str, message: str, shell: Shell) -> None:
    """Nothing is written, and a possible secret is not repeated."""
    before = (shell.project / "mlflow-connections.toml").read_text()
    done = shell("init", stdin=answers)
    assert done.returncode == 1
    assert message in done.stderr
    assert "hunter2" not in done.stderr
    assert (shell.project / "mlflow-connections.toml").read_text() == before


def test_the_schema_follows_the_declared_options(shell: Shell) -> None:
    """The keyword's options have types, choices and help; a secret accepts only a source."""
    schema = json.loads(shell("schema").stdout)
    connection = schema["definitions"]["connection"]
    ours = next(
        each["then"]["properties"]
        for each in connection["allOf"]
        if each["if"]["properties"]["connection"]["const"] == "declared"
    )
    source = {"$ref": "#/definitions/source"}
    assert ours["region"] == {
        "description": "Where it is.",
        "default": "eu",
        "anyOf": [{"enum": ["eu", "us"]}, source],
    }
    assert ours["connection"] is True
    assert set(ours["options"]["properties"]) == {"workspace", "timeout", "connection", "region"}
    assert ours["credentials"]["properties"]["token"] == {
        "description": "Opens the door.",
        "anyOf": [source],
    }


def test_the_schema_accepts_valid_files(shell: Shell) -> None:
    """The example is valid; a misspelled option and a secret in the file are not."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(shell("schema").stdout)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    good = {
        "connection": "declared",
        "workspace": "w",
        "timeout": {"env": "T"},
        "options": {"connection": "x"},
        "credentials": {"tenant": "t", "token": {"command": ["a"], "timeout": 3}},
    }
    assert list(validator.iter_errors({"connections": {"p": good, "q": {"connection": "u"}}})) == []
    for wrong in (
        {**good, "workspce": "w"},
        {**good, "options": {"workspce": "w"}},
        {**good, "region": "moon"},
        {**good, "credentials": {"token": "hunter2"}},
        {**good, "credentials": {"token": {"env": "A", "file": "b"}}},
        {"workspace": "w"},
    ):
        assert list(validator.iter_errors({"connections": {"p": wrong}}))


def test_the_schema_omits_broken_plugins(shell: Shell, tmp_path: Path) -> None:
    """A broken plugin is named on standard error, and the rest is printed."""
    (tmp_path / "site" / "declared_module.py").write_text("raise ImportError('gone')")
    done = shell("schema")
    assert done.returncode == 0
    assert json.loads(done.stdout)["title"]
    assert "'declared' cannot be loaded and is left out" in done.stderr
