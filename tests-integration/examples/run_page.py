"""Run the examples of one page in order, as its reader would: `run_page.py PAGE`, in an empty folder.

The kinds of blocks:

- A block whose first line is a comment with a path, `# conf/base/mlflow.yml`, is written to that
  file.
- Python is run; all blocks of a page share their names.
- In a `console` block a shell runs each line after `$`. If the page shows output, all of its lines
  must appear, in that order; `...` and `…` match anything. Folder and variables persist. Each
  command must exit with 0, or with the code in `<!-- exits with 1 -->` before the block. A command
  after `<!-- runs until Ctrl-C -->` is started, and its output is pasted into the shell of the next
  commands; at the end of the page it gets Ctrl-C and must exit with 0.
- YAML is checked with the code that reads it, INI is parsed. The shell steps of a GitHub workflow
  are run, except those that install.

Only Sybil's own comment, `<!--- skip: next "why" --->`, can skip the example after it. One line of
JSON is printed for each example: its kind, and the reason if it did not run.
"""

import configparser
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import SkipTest

import yaml
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.myst import CodeBlockParser, SkipParser

_NAMED = re.compile(r"(?:#|;) (?P<path>[\w./-]+\.\w+)$")
_SERVERS = "servers until Ctrl-C"
"""The name of the page's variable with the processes that serve; no Python can use it."""
_READY = "# It runs until Ctrl-C."
_ENDS_WITHIN = 600.0  # seconds; a command that serves until Ctrl-C would hang the session
_ANYTHING = re.compile(r"(?:\\ )*(?:\\\.\\\.\\\.|…)(?:\\ )*")


def main(page: Path) -> None:
    """Run a page; a failing example raises an error with its place in the page."""
    document = Document.parse(str(page), *PARSERS)
    servers: list[subprocess.Popen[str]] = []
    document.namespace[_SERVERS] = servers
    for example in document.examples():
        language = re.match(r"`+(\w+)", document.text[example.region.start :])
        why = ""
        try:
            example.evaluate()
        except SkipTest as skipped:
            why = str(skipped)
        if language:
            fate = {"line": example.line, "language": language[1], "why": why}
            print(json.dumps(fate), flush=True)
    for server in servers:
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait() == 0, f"{server.args!r} ended with {server.returncode}"


def text_of(example: Example) -> str:
    """Return a block as the reader sees it, with the sandbox's addresses in place of the page's."""
    text = str(example.parsed)
    for written, real in json.loads(os.environ.get("EXAMPLES_ADDRESSES", "{}")).items():
        text = text.replace(written, real)
    return text


def written(text: str) -> Path | None:
    """Write a block that names its file; return None if it names none."""
    if (named := _NAMED.match(text.partition("\n")[0])) is None:
        return None
    path = Path(named["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def evaluate_python(example: Example) -> None:
    """Run Python, or write it to a file."""
    text = text_of(example)
    if path := written(text):
        compile(text, path, "exec")
        return
    example.parsed = type(example.parsed)(text, example.parsed.offset, example.parsed.line_offset)
    PythonEvaluator()(example)


def evaluate_yaml(example: Example) -> None:
    """Check YAML with the code that reads it: mlflow.yml, credentials.yml or snowflake.yml."""
    text = text_of(example)
    written(text)
    content = yaml.safe_load(text)
    if content is None:
        return
    if "jobs" in content:
        run_workflow(content)
        return
    if "snowflake" in content:
        # A partial example extends the page's complete one before it.
        WHOLE_SNOWFLAKE.update(content["snowflake"])
        content = {"snowflake": WHOLE_SNOWFLAKE}
    # Of this Python's own packages not every one may be there that reads YAML.
    checker = os.environ.get("EXAMPLES_CHECKER", sys.executable)
    if checker == sys.executable:
        check_yaml(content)
    else:
        command = [checker, __file__, "--check-yaml"]
        subprocess.run(command, input=json.dumps(content), text=True, check=True)


WHOLE_SNOWFLAKE: dict[str, Any] = {}


def check_yaml(content: Any) -> None:
    """Check the content of a file of YAML."""
    for key, check in CHECKS.items():
        if key in content:
            check(content)
            return
    known = known_credentials()
    for entry, keys in content.items():
        unknown = [key for key in keys if key not in known]
        assert not unknown, f"{unknown} of {entry} are no credentials of any connection"


def check_mlflow(content: Any) -> None:
    """Validate mlflow.yml with the schema that editors use."""
    import jsonschema

    # Not with the command: each start of Kedro takes seconds.
    from mlflow_connections_kedro._schema import mlflow_yml

    schema, left_out = mlflow_yml()
    assert left_out == []
    jsonschema.validate(content, schema)


def check_snowflake(content: Any) -> None:
    """Read snowflake.yml as `mlflow-snowflake` does."""
    from mlflow_connections_snowflake import read

    read(content, "the example")


def run_workflow(content: Any) -> None:
    """Run the shell steps of a GitHub workflow, with secrets from the variables of the same name."""
    for job in content["jobs"].values():
        environment = dict(os.environ)
        for step in job["steps"]:
            command = step.get("run", "")
            if not command or command.startswith("pip install"):
                continue
            secrets = {
                name: re.sub(
                    r"\$\{\{ secrets\.(\w+) \}\}", lambda found: os.environ[str(found[1])], value
                )
                for name, value in step.get("env", {}).items()
            }
            Path("github_env").touch()
            run(
                f"set -eo pipefail\n{command}", environment | secrets | {"GITHUB_ENV": "github_env"}
            )
            environment |= variables_for_later_steps(Path("github_env").read_text())
            Path("github_env").unlink()


def variables_for_later_steps(text: str) -> dict[str, str]:
    """Read the variables in the file that `GITHUB_ENV` names."""
    lines = re.findall(r"(?ms)^(\w+)(?:=([^\n]*)|<<(\S+)\n(.*?)\n\3)$", text)
    return {name: value or several for name, value, _, several in lines}


CHECKS: Mapping[str, Callable[[Any], None]] = {
    "server": check_mlflow,
    "snowflake": check_snowflake,
    "mlflow": check_snowflake,
}


def known_credentials() -> set[str]:
    """Return the names of all credentials that an installed connection declares."""
    from mlflow_connections.discovery import find_connection, installed_connections

    options = (
        option
        for found in installed_connections()
        for option in find_connection(found.keyword).declared
    )
    return {option.name for option in options if option.in_credentials}


def evaluate_ini(example: Example) -> None:
    """Parse INI."""
    configparser.ConfigParser().read_string(text_of(example))


def evaluate_toml(example: Example) -> None:
    """Write TOML, which the next command reads."""
    assert written(text_of(example)), "begin it with the name of its file"


def evaluate_console(example: Example) -> None:
    """Run each command of a terminal session, and look for the output that the page shows."""
    commands: list[tuple[str, list[str]]] = []
    for line in text_of(example).splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        elif line.startswith("> "):
            commands[-1] = (f"{commands[-1][0]}\n{line[2:]}", commands[-1][1])
        elif commands and commands[-1][0].endswith("\\"):
            commands[-1] = (f"{commands[-1][0]}\n{line}", commands[-1][1])
        elif line.strip():
            commands[-1][1].append(line)
    assert commands, "a command begins with '$ '"
    before = example.document.text[: example.region.start]
    if before.endswith("<!-- runs until Ctrl-C -->\n"):
        ((command, _),) = commands
        example.document.namespace[_SERVERS].append(serve(command))
        return
    ends = re.search(r"<!-- exits with (\d+) -->\n$", before)
    for command, shown in commands:
        output, environment = run(command, os.environ, int(ends[1]) if ends else 0)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(environment["PWD"])
        wanted = ".*".join(_ANYTHING.sub(".*", re.escape(line.rstrip())) for line in shown)
        assert re.search(wanted, output, re.DOTALL), f"$ {command}\n{output}\nlacks\n{wanted}"


def serve(command: str) -> "subprocess.Popen[str]":
    """Start a command that serves, and set the variables that it prints, as its user does in the next shell."""
    if not os.environ.get("EXAMPLES_SERVERS"):
        raise SkipTest("it runs until Ctrl-C; the tagged session starts it")
    server = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stdout
    printed = ""
    while _READY not in printed:
        line = server.stdout.readline()
        assert line, f"$ {command}\n{printed}"
        printed += line
    _, environment = run(printed, os.environ)
    os.environ.update(environment)
    return server


def run(command: str, environment: Mapping[str, str], code: int = 0) -> tuple[str, dict[str, str]]:
    """Run a command in a shell, which must exit with a code; return its output and the resulting variables."""
    with tempfile.TemporaryDirectory() as folder:
        after = Path(folder) / "environment"
        script = f"{command}\ncode=$?\nenv -0 > {shlex.quote(str(after))}\nexit $code"
        done = subprocess.run(
            ["bash", "-c", script],
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_ENDS_WITHIN,
        )
        assert done.returncode == code, f"$ {command}\n{done.stdout}"
        pairs = (pair.partition("=") for pair in after.read_text().split("\0") if pair)
        return done.stdout, {name: value for name, _, value in pairs}


PARSERS = (
    SkipParser(),
    CodeBlockParser("python", evaluate_python),
    CodeBlockParser("yaml", evaluate_yaml),
    CodeBlockParser("ini", evaluate_ini),
    CodeBlockParser("toml", evaluate_toml),
    CodeBlockParser("console", evaluate_console),
    CodeBlockParser("sql", lambda example: None),
)

if __name__ == "__main__":
    if sys.argv[1] == "--check-yaml":
        check_yaml(json.load(sys.stdin))
    else:
        main(Path(sys.argv[1]))
