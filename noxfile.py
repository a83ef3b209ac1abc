"""What a user installs, tested: each session builds wheels and installs them into its own environment.

Default sessions: lint, workspace, types, unit (each package alone), integration, dist. The wider matrix runs
by tag, `nox -t matrix`. `nox -s demo` is the main job, `nox -s bench` prints ratios.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import nox
import uv

ROOT = Path(__file__).parent
PACKAGES = ("core", "kedro", "databricks", "azureml", "databand", "snowflake", "sandbox")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# Beside a package's own wheel its unit tests may need these, and nothing that its users would miss.
UNIT_NEEDS: dict[str, tuple[str, ...]] = {}
# What each group of integration tests installs: our packages by folder, then others by requirement.
INTEGRATION: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sandbox": (("sandbox",), ()),
    "databricks": (("core", "databricks", "sandbox"), ()),
    "kedro": (("core", "kedro", "databricks", "sandbox"), ()),
    "kedro-mlflow": (("core", "kedro", "databricks", "sandbox"), ("kedro-mlflow==2.0.3",)),
}
PYTEST = ("pytest>=8", "hypothesis>=6.100")
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "workspace", "types", "unit", "integration", "dist"]
nox.options.error_on_missing_interpreters = False

_wheels: dict[str, Path] = {}


def wheels(session: nox.Session, folders: Sequence[str]) -> list[str]:
    """Give the wheels of packages by their paths, each built once in a run of nox."""
    out = Path(session.cache_dir) / "wheels"
    if not _wheels:
        shutil.rmtree(out, ignore_errors=True)
    for folder in folders:
        if folder not in _wheels:
            session.run_install(
                *(uv.find_uv_bin(), "build", "--quiet", "--wheel"),
                *("--out-dir", str(out / folder), str(ROOT / "packages" / folder)),
                external=True,
                silent=True,
            )
            (_wheels[folder],) = (out / folder).glob("*.whl")
    return [str(_wheels[folder]) for folder in folders]


def extras(session: nox.Session, folder: str, *names: str) -> str:
    """Give a package's wheel with extras, as an installer takes it."""
    return f"{wheels(session, [folder])[0]}[{','.join(names)}]"


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest, with what stands behind `--` on the command line."""
    session.run("pytest", "-q", *arguments, *session.posargs, env=QUIET)


def with_core(folder: str) -> list[str]:
    """Give the packages without which one cannot be installed."""
    return [folder] if folder in {"core", "sandbox"} else ["core", folder]


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, its rules and its format."""
    session.install("ruff>=0.14")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def workspace(session: nox.Session) -> None:
    """The rules of the workspace, and the scripts of its maintainers."""
    session.install("pytest>=8", "packaging>=24")
    pytest(session, "scripts/tests")


@nox.session
def types(session: nox.Session) -> None:
    """Strict mypy over the code and the tests."""
    session.install(
        *wheels(session, PACKAGES),
        *PYTEST,
        *{need for needs in UNIT_NEEDS.values() for need in needs},
        *("mypy>=1.18", "nox[uv]", "types-requests", "types-PyYAML", "kedro-mlflow==2.0.3"),
    )
    session.run("mypy", "noxfile.py", "scripts", "benchmarks", "examples", "tests-integration")
    for folder in PACKAGES:
        session.run("mypy", f"packages/{folder}/src", f"packages/{folder}/tests")


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def unit(session: nox.Session, package: str) -> None:
    """The tests of one package, with only that package and what it needs installed."""
    session.install(*wheels(session, with_core(package)), *PYTEST, *UNIT_NEEDS.get(package, ()))
    pytest(session, f"packages/{package}/tests")


@nox.session
@nox.parametrize("group", list(INTEGRATION), ids=list(INTEGRATION))
def integration(session: nox.Session, group: str) -> None:
    """Real clients against the sandbox; Kedro both with and without kedro-mlflow."""
    integrate(session, group)


def integrate(session: nox.Session, group: str, *more: str) -> None:
    """Install a group's packages, with further requirements, and run its tests."""
    folders, requirements = INTEGRATION[group]
    session.install(*wheels(session, folders), *PYTEST, *requirements, *more)
    pytest(session, f"tests-integration/{group.removesuffix('-mlflow')}", "-m", "not slow")


@nox.session
def dist(session: nox.Session) -> None:
    """Build with Hatch, check what is in each archive, and install every wheel alone."""
    session.install("hatch>=1.16", "twine>=6")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for folder in PACKAGES:
        with session.chdir(ROOT / "packages" / folder):
            # Hatch makes its build environment with nox's interpreter only when this is unset.
            session.run("hatch", "build", str(ROOT / "dist"), env={"UV_PYTHON": None}, silent=True)
    session.run("twine", "check", "--strict", *map(str, sorted((ROOT / "dist").iterdir())))
    session.run("python", "scripts/check_dist.py", "dist")


@nox.session
def demo(session: nox.Session) -> None:
    """The main job: one Kedro project through every connection, and a table of what arrived where."""
    session.install(
        *wheels(session, ["core", "kedro", "databricks", "sandbox"]),
        *("-r", "examples/wine/requirements.txt"),
    )
    session.run("python", "examples/demo.py", *session.posargs, env=QUIET)


@nox.session
def bench(session: nox.Session) -> None:
    """Ratios, each measured side by side in one run. Names behind `--` choose among them."""
    chosen = session.posargs or sorted(
        path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")
    )
    for name in chosen:
        session.log(f"benchmark {name}")
        folders, requirements = BENCHMARKS[name]
        session.install(*wheels(session, folders), *requirements)
        session.run("python", f"benchmarks/bench_{name}.py", env=QUIET)


BENCHMARKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "core": (("core",), ("mlflow-skinny",)),
    "kedro": (("core", "kedro", "databricks"), ()),
}


def newest(name: str, version: str) -> str:
    """Give a requirement: any version, or one of a minor release."""
    return name if version == "newest" else f"{name}=={version}.*"


@nox.session(python=PYTHONS, tags=["matrix"])
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def matrix_python(session: nox.Session, package: str) -> None:
    """Each package alone on every Python that is found."""
    unit.func(session, package)


@nox.session(tags=["matrix"])
@nox.parametrize("group", ["databricks", "kedro"])
@nox.parametrize("mlflow", ["2.22", "3.5", "newest"])
def matrix_mlflow(session: nox.Session, mlflow: str, group: str) -> None:
    """Real clients on the oldest MLflow that is supported, one between, and the newest."""
    integrate(session, group, newest("mlflow", mlflow))


@nox.session(tags=["matrix"])
@nox.parametrize("group", ["kedro", "kedro-mlflow"])
@nox.parametrize("kedro", ["1.0", "newest"])
def matrix_kedro(session: nox.Session, kedro: str, group: str) -> None:
    """Kedro projects on the oldest Kedro that is supported, and the newest."""
    integrate(session, group, newest("kedro", kedro))


@nox.session(tags=["matrix"])
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def matrix_lowest(session: nox.Session, package: str) -> None:
    """Each package alone with the lowest versions that it says it works with."""
    session.install(
        *("--resolution", "lowest-direct"),
        *wheels(session, with_core(package)),
        *PYTEST,
        *UNIT_NEEDS.get(package, ()),
    )
    pytest(session, f"packages/{package}/tests")
