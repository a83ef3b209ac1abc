"""The console script, run as by users."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from warm_python import WarmPython

from mlflow_connections import Connection, MissingDependencyError, Option
from mlflow_connections._commands import load_command
from mlflow_connections.reports import option_rows, table

CONNECTION = """
from mlflow_connections import Connection, Option

class Declared(Connection):
    declared = (
        Option("workspace", "Which workspace.", env="TEST_WORKSPACE", required=True),
        Option("token", "A personal token.", env="TEST_TOKEN", secret=True),
    )
    def tracking_uri(self, credentials, options):
        return f"http://{self.values(credentials, options)['workspace']}.example"
    def environment(self, credentials, options):
        return {"TEST_EXPORTED": self.values(credentials, options)["token"] or ""}

connection = Declared()
"""


class Shell:
    """Runs `mlflow-connections` in an environment where one plugin is installed."""

    def __init__(self, folder: Path, python: WarmPython) -> None:
        self.python = python
        (folder / "declared_module.py").write_text(textwrap.dedent(CONNECTION))
        info = folder / "declared_plugin-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: declared-plugin\nVersion: 1.2\n"
        )
        (info / "entry_points.txt").write_text(
            "[kedro_mlflow.connections]\ndeclared = declared_module:connection\n"
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TEST_", "MLFLOW_"))}
        self.environment = {**kept, "PYTHONPATH": str(folder), "COLUMNS": "100"}
        # For tests of streams and signals.
        self.command = [sys.executable, "-m", "mlflow_connections"]

    def __call__(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        return self.python.run(
            ["-m", "mlflow_connections", *arguments], env={**self.environment, **variables}
        )


@pytest.fixture
def shell(tmp_path: Path, warm_python: WarmPython) -> Shell:
    """A shell with one plugin."""
    return Shell(tmp_path, warm_python)


def test_list_shows_the_owner_of_each_keyword(shell: Shell) -> None:
    """The output is a table for people, JSON for programs."""
    shown = shell("list")
    assert shown.returncode == 0
    assert re.search(r"^declared +declared-plugin +1\.2$", shown.stdout, re.MULTILINE)
    rows = json.loads(shell("list", "--output", "json").stdout)["keywords"]
    assert {"keyword": "declared", "distribution": "declared-plugin"}.items() <= next(
        r for r in rows if r["keyword"] == "declared"
    ).items()


def test_show_names_the_source_of_each_value(shell: Shell) -> None:
    """Each option has its current value and its source; a secret is masked."""
    shown = shell("show", "declared", "--option", "workspace=dev", TEST_TOKEN="hunter2")
    assert shown.returncode == 0
    assert "declared_module:connection, from declared-plugin 1.2" in shown.stdout
    rows = json.loads(shell("show", "declared", "--output", "json", TEST_TOKEN="hunter2").stdout)[
        "options"
    ]
    assert [(r["option"], r["value"], r["from"]) for r in rows] == [
        ("workspace", "", "missing"),
        ("token", "***", "environment"),
    ]
    assert "hunter2" not in shown.stdout + shown.stderr


def test_an_error_is_one_line_and_exit_code_1(shell: Shell) -> None:
    """An error is on standard error, and for programs also JSON."""
    shown = shell("check", "declared", "--output", "json")
    assert shown.returncode == 1
    assert shown.stderr.startswith("mlflow-connections: 'workspace' is neither in")
    assert len(shown.stderr.splitlines()) == 1
    assert json.loads(shown.stdout) == {
        "ok": False,
        "error": "MissingOptionError",
        "message": shown.stderr.removeprefix("mlflow-connections: ").strip(),
    }


def test_a_secret_as_an_option_is_refused_and_not_shown(shell: Shell) -> None:
    """A secret on a command line, which others can read, is refused."""
    shown = shell("run", "declared", "--option", "token=hunter2", "--", "true")
    assert shown.returncode == 1
    assert "TEST_TOKEN" in shown.stderr
    assert "hunter2" not in shown.stderr


def test_run_gives_the_command_the_resolved_environment(shell: Shell) -> None:
    """The command gets MLflow's variables and those that the connection exports."""
    code = "import os; print(*(os.environ.get(n) for n in ('MLFLOW_TRACKING_URI', 'MLFLOW_REGISTRY_URI', 'TEST_EXPORTED')))"
    shown = shell(
        "run",
        "declared",
        "--option",
        "workspace=dev",
        "--registry",
        "http://r",
        "--",
        sys.executable,
        "-c",
        code,
        TEST_TOKEN="t1",
    )
    assert shown.stdout.split() == ["http://dev.example", "http://r", "t1"]


def test_run_leaves_the_commands_own_options_alone(shell: Shell) -> None:
    """Arguments after `--` belong to the command, even if they look like this script's options."""
    code = "import sys; print(sys.argv[1:])"
    shown = shell(
        "run", "http://h", "--", sys.executable, "-c", code, "--output", "json", "--", "x"
    )
    assert shown.stdout.strip() == "['--output', 'json', '--', 'x']"


@pytest.mark.parametrize("code", ["0", "3", "255"])
def test_run_passes_on_the_exit_code(code: str, shell: Shell) -> None:
    """The command's exit code is the script's."""
    assert shell("run", "http://h", "--", "sh", "-c", f"exit {code}").returncode == int(code)


def test_run_passes_on_signals(shell: Shell) -> None:
    """A signal reaches the command, which ends in its own way."""
    running = subprocess.Popen(
        [
            *shell.command,
            "run",
            "http://h",
            "--",
            "sh",
            "-c",
            "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done",
        ],
        env=shell.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout
    assert running.stdout.readline() == "up\n"
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 7
    assert running.stdout.read() == "bye\n"
    running.stdout.close()


def test_run_reports_a_missing_command(shell: Shell) -> None:
    """A command that does not exist has a shell's exit code."""
    shown = shell("run", "http://h", "--", "no-such-command-here")
    assert shown.returncode == 127
    assert "no-such-command-here: No such file" in shown.stderr
    assert shell("run", "http://h").returncode == 1


def test_run_reports_a_command_that_cannot_be_executed(shell: Shell, tmp_path: Path) -> None:
    """A file without execute permission, a folder or an unknown format exits with 126."""
    plain = tmp_path / "plain"
    plain.write_text("no program")
    unknown = tmp_path / "unknown"
    unknown.write_bytes(b"\x00\x01")
    unknown.chmod(0o755)
    for command in (plain, tmp_path, unknown):
        shown = shell("run", "http://h", "--", str(command))
        assert shown.returncode == 126
        assert shown.stderr.startswith(f"mlflow-connections: {command}: ")
        assert len(shown.stderr.splitlines()) == 1


def test_an_option_without_a_value_is_refused_without_showing_it(shell: Shell) -> None:
    """An `--option` without `=` is not repeated, since it may be a secret."""
    shown = shell("show", "declared", "--option", "hunter2")
    assert shown.returncode == 1
    assert "NAME=VALUE" in shown.stderr
    assert "hunter2" not in shown.stderr


def test_a_closed_pipe_shows_no_traceback(shell: Shell) -> None:
    """`mlflow-connections list | head -0` ends quietly."""
    listing = subprocess.Popen(
        [*shell.command, "list"],
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert listing.stdout
    assert listing.stderr
    listing.stdout.close()
    told = listing.stderr.read()
    listing.stderr.close()
    listing.wait()
    assert b"Traceback" not in told


def test_the_version_is_that_of_the_distribution(shell: Shell) -> None:
    """`--version` prints the installed version and exits with 0."""
    shown = shell("--version")
    assert shown.returncode == 0
    assert shown.stdout == f"mlflow-connections {version('mlflow-connections')}\n"


ADDED = """
import sys
from mlflow_connections import InvalidOptionError

def main(arguments):
    if arguments == ["fail"]:
        raise InvalidOptionError("It cannot work.")
    if arguments == ["interrupt"]:
        raise KeyboardInterrupt
    print(arguments)
    return len(arguments)
"""


@pytest.fixture
def added(shell: Shell, tmp_path: Path) -> Callable[[str], None]:
    """Install a distribution that adds commands."""

    def install(name: str, command: str = "extra", target: str = "added_module:main") -> None:
        (tmp_path / "added_module.py").write_text(ADDED)
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(
            f"[mlflow_connections.commands]\n{command} = {target}\n"
        )

    return install


def test_another_distribution_adds_a_command(shell: Shell, added: Callable[[str], None]) -> None:
    """Its function gets every argument after the command, and its result is the exit code."""
    added("adding")
    shown = shell("extra", "--output", "x", "--", "-h")
    assert shown.stdout == "['--output', 'x', '--', '-h']\n"
    assert shown.returncode == 4
    assert shell("extra").returncode == 0
    failed = shell("extra", "fail")
    assert (failed.returncode, failed.stderr) == (1, "mlflow-connections: It cannot work.\n")
    interrupted = shell("extra", "interrupt")
    assert (interrupted.returncode, interrupted.stderr) == (130, "")
    assert "  extra               from adding" in shell("--help").stdout


def test_an_added_command_has_one_owner(shell: Shell, added: Callable[[str], None]) -> None:
    """Two distributions with the same command are refused by name."""
    added("adding")
    added("adding_too")
    shown = shell("extra")
    assert shown.returncode == 1
    assert "'extra' is added by adding and adding_too" in shown.stderr


def test_an_invalid_added_command_is_named(shell: Shell, added: Callable[..., None]) -> None:
    """An entry point that fails to load or is not a function is one sentence."""
    added("gone", "gone", "no_such_module:main")
    added("thing", "thing", "added_module:ADDED_NOT")
    added("module", "module", "added_module")
    assert "Failed to load the command 'gone'" in shell("gone").stderr
    assert "Failed to load the command 'thing'" in shell("thing").stderr
    shown = shell("module")
    assert shown.returncode == 1
    assert "'module' from module is a module, not a function" in shown.stderr


def test_no_distribution_replaces_a_command_of_core(
    shell: Shell, added: Callable[..., None]
) -> None:
    """A distribution that registers `list` is never called."""
    added("thief", "list")
    shown = shell("list", "--output", "json")
    assert json.loads(shown.stdout)


def test_an_unknown_command_is_wrong_usage(shell: Shell) -> None:
    """An unregistered command is refused with the list of commands."""
    shown = shell("no-such-command")
    assert shown.returncode == 2
    assert "invalid choice: 'no-such-command'" in shown.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("words", [["list"], ["--help"], ["--version"]])
def test_a_full_disk_is_one_sentence(words: list[str], shell: Shell) -> None:
    """`mlflow-connections list > /dev/full` exits with 1 and no traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*shell.command, *words],
            env=shell.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "mlflow-connections: No space left on device\n")


def test_check_needs_mlflow_and_reports_it(shell: Shell, tmp_path: Path) -> None:
    """Without MLflow the check is a clear error, not a traceback."""
    (tmp_path / "mlflow.py").write_text("raise ImportError('none here')")
    shown = shell("check", "http://h")
    assert shown.returncode == 1
    assert "pip install mlflow-skinny" in shown.stderr


WAITING = """
import os, threading, time
class MlflowClient:
    def __init__(self, uri): self.uri = uri
    def search_experiments(self, max_results):
        print("asked", flush=True)
        threading.Thread(target=time.sleep, args=(60,)).start()  # as a client's pool would wait
        time.sleep(60)
"""


def test_check_names_the_server_that_timed_out(shell: Shell, tmp_path: Path) -> None:
    """After its timeout it ends, whatever the client does, and names the server."""
    (tmp_path / "mlflow.py").write_text(WAITING)
    shown = shell("check", "http://h", "--timeout", "0.5")
    assert shown.returncode == 1
    assert shown.stderr == (
        "mlflow-connections: Gave up after 0.5 s, waiting for the answer of http://h. "
        "Use --timeout to wait longer.\n"
    )


def test_check_reports_slow_resolving(shell: Shell, tmp_path: Path) -> None:
    """The time limit includes resolving, which may contact a service."""
    module = tmp_path / "declared_module.py"
    module.write_text(
        module.read_text().replace("return f", "import time; time.sleep(60); return f")
    )
    shown = shell("check", "declared", "--option", "workspace=w", "--timeout", "0.5")
    assert shown.returncode == 1
    assert "waiting for the service of 'declared' while resolving it" in shown.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan", "soon"])
def test_check_refuses_an_invalid_timeout(seconds: str, shell: Shell) -> None:
    """A timeout is a number of seconds above zero."""
    assert shell("check", "http://h", "--timeout", seconds).returncode == 2


def test_ctrl_c_ends_quietly(shell: Shell, tmp_path: Path) -> None:
    """Ctrl-C while a server is contacted exits with 130 and no traceback."""
    (tmp_path / "mlflow.py").write_text(WAITING)
    # A background job of a script inherits an ignored SIGINT.
    listening = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", listening, *shell.command, "check", "http://h"],
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout
    assert running.stdout.readline() == "asked\n"
    running.send_signal(signal.SIGINT)
    _, told = running.communicate()
    assert (running.returncode, told) == (130, "")


def test_check_contacts_the_server_and_masks_its_response(shell: Shell, tmp_path: Path) -> None:
    """A server's refusal is one sentence without secrets; a success has its duration."""
    (tmp_path / "mlflow.py").write_text(
        textwrap.dedent(
            """
            import os
            class MlflowClient:
                def __init__(self, uri): self.uri = uri
                def search_experiments(self, max_results):
                    assert max_results == 1
                    assert os.environ["MLFLOW_TRACKING_URI"] == self.uri
                    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
                    if "refuse" in self.uri: raise ValueError("no\\n " + self.uri + os.environ["TEST_EXPORTED"])
            """
        )
    )
    told = shell("check", "declared", "--option", "workspace=refuse", TEST_TOKEN="hunter2")
    assert told.returncode == 1
    assert told.stderr == (
        "mlflow-connections: http://refuse.example did not answer as an MLflow server does: "
        "no http://refuse.example***\n"
    )
    answered = json.loads(
        shell("check", "declared", "--option", "workspace=ok", "--output", "json").stdout
    )
    assert answered["ok"] is True
    assert answered["tracking_uri"] == "http://ok.example"
    assert 0 <= answered["answer_seconds"] < time.monotonic()


def test_a_table_wraps_its_text() -> None:
    """A long text stays within the terminal, in separate lines."""
    rows = [{"option": "a", "empty": "", "help": "word " * 20}]
    lines = table(rows, width=50).splitlines()
    assert lines[0].split() == ["option", "help"]
    assert max(map(len, lines)) <= 50
    assert len(lines) > 3
    assert table([]) == ""


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_a_table_fits_any_terminal(width: int) -> None:
    """No line is wider than the terminal, and no word is broken: people copy names and values."""
    rows = [
        {"option": f"option_{n}", "value": "v" * n, "variable": f"VARIABLE_{n}" * 2, "help": "so it is " * n}
        for n in range(1, 9)
    ]  # fmt: skip
    shown = table(rows, width=width)
    assert max(map(len, shown.splitlines())) <= width
    words = set(shown.split())
    for row in rows:
        assert {row["option"], row["value"], row["variable"]} <= words


def test_rows_of_options_need_no_plugin_to_be_installed() -> None:
    """Rows are created from the connection itself."""

    class Here(Connection):
        """Declared in a test."""

        declared = (Option("verify", "Check it.", type=bool, default=True),)

        def tracking_uri(self, credentials: object, options: object) -> str:
            """Return the same each time."""
            return "http://h"

    (row,) = option_rows(Here())
    assert (row["value"], row["from"], row["place"]) == ("True", "default", "options")


def test_a_command_of_this_family_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its package, `outbox` is one sentence with the command that installs it."""
    monkeypatch.setattr("mlflow_connections._commands.installed_commands", list)
    with pytest.raises(MissingDependencyError, match="pip install mlflow-connections-outbox"):
        load_command("outbox")
    assert load_command("outboxes") is None
