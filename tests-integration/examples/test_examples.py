"""Every example of the documentation and of the READMEs runs, or states why it cannot."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlflow_connections_sandbox import Sandbox
from mlflow_connections_sandbox._page._view import pasted
from mlflow_connections_sandbox._snowflake import BASES

sys.path.insert(0, str(Path(__file__).parent))
import page_environment
from bridge import build_bridge

Shell = Callable[..., dict[str, str]]
ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "README.md",
    *sorted(ROOT.glob("packages/*/README.md")),
]
LANGUAGES = {"console", "ini", "python", "sql", "text", "toml", "yaml"}

TRAIN = """
import mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("rmse", 0.5)
print(run.info.run_id)
"""

# The service whose variables a page's reader has set, by the page's name or its package's.
ACCOUNTS = ("azureml", "databand", "databricks", "http", "snowflake")


def name_of(page: Path) -> str:
    """Return the subject of a page: its name, or the package whose README it is."""
    return page.parent.name if page.name == "README.md" else page.stem


def has_a_sandbox(page: Path) -> bool:
    """Return whether a page starts its own sandbox."""
    return name_of(page).startswith("sandbox")


def is_slow(page: Path) -> bool:
    """Return whether a page is left to the tagged session.

    Such a page is slow because of its own server or sessions with Snowflake, or it is a front page
    of a package or of the site, whose examples repeat those of README.md and of the guides.
    """
    repeats = page == ROOT / "docs" / "index.md" or "packages" in page.relative_to(ROOT).parts
    starts_a_server = has_a_sandbox(page) or name_of(page) == "durable"
    return repeats or starts_a_server or "snowflake" in name_of(page)


def at(page: Path) -> str:
    """Return a page's path, which names its test."""
    return page.relative_to(ROOT).as_posix()


def runs() -> Iterator[Any]:
    """Yield each page, whether its commands start warm, and whether only the tagged session runs it so.

    The front page starts new interpreters, and so does the page that installs a plugin, since a
    running one would not find it. The tagged session runs every page so, in an environment with
    nothing but what the page installs.
    """
    for page in PAGES:
        cold = is_slow(page) or at(page) in {"README.md", "docs/write-a-connection.md"}
        if not cold:
            yield pytest.param(page, True, False, id=at(page))
        slow = is_slow(page) or not cold
        marks = pytest.mark.slow if slow else ()
        name = at(page) if cold else f"{at(page)}-cold"
        yield pytest.param(page, False, slow, marks=marks, id=name)


@pytest.mark.parametrize(("page", "warm", "is_tagged"), list(runs()))
def test_the_examples_of_a_page(
    page: Path,
    warm: bool,
    is_tagged: bool,
    warm_bin: Path,
    sandbox: Sandbox,
    tmp_path: Path,
    fates: list[dict[str, Any]],
    shell: Shell,
) -> None:
    """A page's examples run in order in an empty folder, with only what the page provides."""
    account = next((name for name in ACCOUNTS if name in name_of(page)), "databricks")
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    if account == "snowflake" and not has_a_sandbox(page):
        build_bridge(sandbox, work / "conf" / "base")
    python = Path(warm_bin, "python") if warm else Path(sys.executable)
    wanted = [] if warm else installed_by(page)
    if wanted:
        python = page_environment.build(wanted, tmp_path / "environment")
    environment = {
        **shell(home, python.parent, alone=bool(wanted)),
        "EXAMPLES_CHECKER": str(python if warm else sys.executable),
        # Each is a server of the page's own, which takes seconds to start.
        **({"EXAMPLES_SERVERS": "yes"} if is_tagged else {}),
        **({} if has_a_sandbox(page) else sandbox.environment(account)),
        **own_variables(sandbox, account),
        "EXAMPLES_ADDRESSES": json.dumps(addresses(sandbox, account) | ids(page, sandbox)),
    }
    process = subprocess.Popen(
        [str(python), str(Path(__file__).with_name("run_page.py")), str(page)],
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, error = process.communicate()
    # Servers that a page starts in the background.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if name_of(page) == "write-a-connection":  # it installs what it writes
        pip = [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", "warehouse-connection"]
        subprocess.run(pip, check=True)
    lines = [line for line in out.splitlines() if line.startswith('{"line"')]
    fates += [{**json.loads(line), "page": at(page)} for line in lines]
    assert process.returncode == 0, f"after {len(lines)} examples:\n{out}{error}"


def installed_by(page: Path) -> list[str]:
    """Return the requirements of an environment for a page: none for one that installs no package, or its own."""
    wanted = page_environment.installed_by(page)
    if not wanted or name_of(page) == "write-a-connection":
        return []
    return [*wanted, *page_environment.TOOLS]


TRIED = ("azureml", "databand", "databricks")
_TRY_IT = re.compile(r"(?ms)^## Try it without an account\n.*?(?=^## |\Z)")
_FRONT = re.compile(r"(?s).*?(?=^!\[)", re.MULTILINE)
_LEFT_TO_A_SLOW_TEST = (
    '<!--- skip: next "a slow test of tests-integration/examples/test_examples.py runs it" --->\n'
)


@pytest.mark.slow
@pytest.mark.parametrize("guide", TRIED)
def test_a_guide_works_without_an_account(guide: str, tmp_path: Path, shell: Shell) -> None:
    """The section's script and commands need only the packages that the section installs, sandbox included."""
    (section,) = _TRY_IT.findall((ROOT / "docs" / f"{guide}.md").read_text(encoding="utf-8"))
    assert ran(section, tmp_path, shell) == ["python", "console"]


@pytest.mark.slow
def test_the_first_screens_work_without_an_account(tmp_path: Path, shell: Shell) -> None:
    """The README's scripts run in the sandbox, started by its own commands, with only its installed packages."""
    front = _FRONT.match((ROOT / "README.md").read_text(encoding="utf-8"))
    assert front
    account = "$ python "
    assert front[0].count(account) == 2
    section = front[0].replace(account, "$ mlflow-connections-sandbox run databricks -- python ")
    assert ran(section, tmp_path, shell) == ["python", "console", "console", "python", "console"]


def ran(section: str, tmp_path: Path, shell: Shell) -> list[str]:
    """Run a section, with the parts that are left to this test; return the languages of its examples."""
    assert _LEFT_TO_A_SLOW_TEST in section
    page, home, work = tmp_path / "section.md", tmp_path / "home", tmp_path / "work"
    page.write_text(section.replace(_LEFT_TO_A_SLOW_TEST, ""), encoding="utf-8")
    home.mkdir()
    work.mkdir()
    python = page_environment.build(installed_by(page), tmp_path / "environment")
    done = subprocess.run(
        [str(python), str(Path(__file__).with_name("run_page.py")), str(page)],
        cwd=work,
        env=shell(home, python.parent, alone=True),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"line"')]
    return [line["language"] for line in lines if not line["why"]]


def test_every_such_guide_is_tested() -> None:
    """The guide to Snowflake runs its section itself; that to Kedro pipelines has its own tests."""
    having = {
        page.stem for page in ROOT.glob("docs/*.md") if _TRY_IT.search(page.read_text("utf-8"))
    }
    assert having == {*TRIED, "snowflake", "snowflake-kedro"}


@pytest.mark.parametrize("name", ["databand", "http", "snowflake"])
def test_lines_of_the_sandboxs_page_work_as_printed(
    name: str, sandbox: Sandbox, tmp_path: Path, warm_bin: Path, shell: Shell
) -> None:
    """The exports of the page and its command, pasted into a shell, log a run.

    Databricks and AzureML have this test in their own groups.
    """
    lines = pasted(sandbox[name])
    work = tmp_path / "work"
    if name == "snowflake":
        build_bridge(sandbox, work)
    work.mkdir(exist_ok=True)
    (work / "train.py").write_text(TRAIN)
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        ["sh", "-c", f"{lines['In a shell']}\n{lines['Then run a script']}"],
        cwd=work,
        env=shell(tmp_path / "home", warm_bin),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(sandbox.mlflow_url)
    assert client.get_run(done.stdout.split()[-1]).data.metrics == {"rmse": 0.5}


def own_variables(sandbox: Sandbox, account: str) -> dict[str, str]:
    """Return the variables with a reader's own secrets that pages about a service use."""
    stand_in: Any = sandbox[account]
    if account == "databricks":
        access = stand_in.access
        client = {"MY_CLIENT_ID": access.client_id, "MY_CLIENT_SECRET": access.client_secret}
        return {"MY_TOKEN": access.token, **client}
    if account == "azureml":
        names = ("tenant_id", "client_id", "client_secret")
        return {f"MY_{name.upper()}": getattr(stand_in.account, name) for name in names}
    if account == "http":
        return {"MY_CLIENT_SECRET": stand_in.client.client_secret}
    return {"MY_DATABAND_TOKEN": stand_in.account.token} if account == "databand" else {}


def addresses(sandbox: Sandbox, account: str) -> dict[str, str]:
    """Return the addresses on pages about a service that the sandbox replaces."""
    azure: Any = sandbox["azureml"]
    protected: Any = sandbox["http"]
    company = {
        "https://mlflow.example.com": protected.url,
        "https://id.example.com/realms/ml": protected.issuer,
    }
    return {
        # Snowflake reaches a server of that name only by HTTPS, so it stays as printed.
        **({} if account == "snowflake" else company),
        "my_subscription_id": azure.account.subscription_id,
        "my_resource_group": azure.account.resource_group,
        "my_workspace": azure.account.workspace_name,
        "https://adb-123.4.azuredatabricks.net": sandbox["databricks"].url,
        "https://acme.databand.ai": sandbox["databand"].url,
        "http://mlflow-store:5000": sandbox.mlflow_url,
        "https://mlflow.acme.com": sandbox.mlflow_url,
        "https://abc123.execute-api.eu-central-1.amazonaws.com/prod": BASES["aws"],
        "s3://artifacts/mlflow/": "s3://mlflow-sandbox/",
        "s3%3A%2F%2Fartifacts%2Fmlflow%2F": "s3%3A%2F%2Fmlflow-sandbox%2F",
        **own_server(),
    }


def own_server() -> dict[str, str]:
    """Return a free port in place of MLflow's own, on which pages start servers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"http://127.0.0.1:5000": f"http://127.0.0.1:{port}", "--port 5000": f"--port {port}"}


def ids(page: Path, sandbox: Sandbox) -> dict[str, str]:
    """Return the IDs that a page leaves to its reader: of a run that its process did not end."""
    if "'RUN_ID'" not in page.read_text(encoding="utf-8"):
        return {}
    client = mlflow.MlflowClient(sandbox.mlflow_url)
    experiment = client.create_experiment(f"/Shared/{page.stem}")
    return {"'RUN_ID'": f"'{client.create_run(experiment).info.run_id}'"}


@pytest.mark.parametrize("page", PAGES, ids=at)
def test_every_block_has_a_language(page: Path) -> None:
    """No block of code is skipped because it has no language or is only indented."""
    text = page.read_text(encoding="utf-8")
    opened = re.findall(r"^ *```([^\n]*)\n.*?^ *```$", text, re.MULTILINE | re.DOTALL)
    unknown = [what for what in opened if what not in LANGUAGES and not what.startswith("{")]
    assert unknown == []
    assert (
        re.findall(r"(?<=\n\n)    \S[^\n]*", re.sub(r"```.*?```", "", text, flags=re.DOTALL)) == []
    )


SCRIPTS = [
    script
    for script in entry_points(group="console_scripts")
    if script.dist and script.dist.name.replace("_", "-").startswith("mlflow-connections")
]


def test_there_are_scripts() -> None:
    """Each product with a command is covered by the next tests."""
    assert {script.name for script in SCRIPTS} >= {
        *("mlflow-connections", "mlflow-connections-sandbox", "mlflow-databand", "mlflow-snowflake")
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_command_prints_its_version(script: EntryPoint) -> None:
    """`--version` of each console script prints its name and the installed version."""
    path = Path(sys.executable).with_name(script.name)
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{script.name} {script.dist.version if script.dist else ''}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_command_reports_a_full_disk(script: EntryPoint) -> None:
    """Output that cannot be written is one sentence and exit code 1, not a traceback."""
    path = Path(sys.executable).with_name(script.name)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [path, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    said = f"{script.name}: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)
