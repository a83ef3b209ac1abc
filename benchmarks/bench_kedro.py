"""The cost of the hook and the commands: `kedro --version`, `kedro info` and `kedro run`, with and without them.

Both sides see the same packages through a folder of links. The plain side lacks our metadata,
without which Kedro finds no hook and no command. Python runs with -S, so that it sees nothing else.
"""

import os
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

from _ratio import Row, children_seconds, interleave, median, table

OURS = "mlflow-connections-kedro"
ROUNDS = 20
AIM = 1.01
COMMANDS = {
    "kedro --version": ["-m", "kedro", "--version"],
    "kedro info": ["-m", "kedro", "info"],
    "kedro run": ["-m", "kedro", "run"],
}
FILES = {
    "pyproject.toml": (
        '[tool.kedro]\npackage_name = "shop"\nproject_name = "Shop"\n'
        'kedro_init_version = "1.0.0"\nsource_dir = "src"\n'
    ),
    "src/shop/__init__.py": "",
    "src/shop/settings.py": "",
    "src/shop/pipeline_registry.py": (
        "from kedro.pipeline import node, pipeline\n\n\n"
        "def register_pipelines():\n"
        '    return {"__default__": pipeline([node(abs, "params:one", "two")])}\n'
    ),
    "conf/base/catalog.yml": "{}\n",
    "conf/base/parameters.yml": "one: 1\n",
    "conf/base/mlflow.yml": "server:\n  tracking_uri: sqlite:///mlflow.db\n",
    "conf/local/credentials.yml": "{}\n",
}
PROBE = (
    "import sys\nfrom kedro.framework.cli.cli import main\n"
    "sys.argv = ['kedro', 'run']\n"
    "try:\n    main()\nexcept SystemExit:\n    pass\n"
    "print('mlflow' in sys.modules, 'mlflow_connections_kedro._hooks' in sys.modules)"
)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, ours = linked(folder / "plain", without=True), linked(folder / "ours", without=False)
        project = folder / "shop"
        for file, text in FILES.items():
            (project / file).parent.mkdir(parents=True, exist_ok=True)
            (project / file).write_text(text)
        rows = [compared(what, plain, ours, project, command) for what, command in COMMANDS.items()]
        rows += [imported(what, ours, project, command) for what, command in COMMANDS.items()]
        print(table(rows))
        for side, packages, expected in (
            ("plain", plain, "False False"),
            ("ours", ours, "False True"),
        ):
            found = call(packages, project, ["-c", PROBE]).stdout.split("\n")[-2]
            print(f"{side}: mlflow imported, hook loaded by `kedro run`: {found}")
            if found != expected:
                sys.exit(f"expected {expected}: the two sides are not what they should be")


def linked(folder: Path, *, without: bool) -> Path:
    """Create a folder of links to the installed packages, with our metadata or without."""
    folder.mkdir()
    info = next(str(f) for f in distribution(OURS).files or () if f.name == "METADATA")
    for packages in site.getsitepackages():
        for entry in Path(packages).iterdir():
            if not (without and entry.name == Path(info).parent.name):
                (folder / entry.name).symlink_to(entry)
    return folder


def call(packages: Path, project: Path, arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run this Python with one folder of packages."""
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(packages), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=True,
    )


def compared(what: str, plain: Path, ours: Path, project: Path, arguments: list[str]) -> Row:
    """Measure one command on both sides, alternately, by its CPU time."""

    def side(packages: Path) -> Callable[[], object]:
        return lambda: call(packages, project, arguments)

    side(plain)(), side(ours)()  # both have their bytecode afterwards
    times = interleave(side(plain), side(ours), ROUNDS, children_seconds)
    before, after = (median(each) for each in times)
    return Row(what, before, after, "s", "under 1 %", after / before < AIM)


def imported(what: str, packages: Path, project: Path, arguments: list[str]) -> Row:
    """Add up the durations that Python reports for its imports, with our modules and without.

    Whole commands vary more between runs than our part of them takes.
    """
    sums = []
    for _ in range(ROUNDS // 3):
        report = call(packages, project, ["-X", "importtime", *arguments]).stderr
        lines = [line.split("|") for line in report.splitlines() if line.startswith("import time:")]
        times = [(int(own[12:]) / 1e3, name) for own, _, name in lines[1:]]
        whole = sum(own for own, _ in times)
        own_part = sum(own for own, name in times if "mlflow_connections" in name)
        sums.append((whole - own_part, whole))
    before, after = (median(column) for column in zip(*sums, strict=True))
    return Row(f"{what}, its imports", before, after, "ms", "under 1 %", after / before < AIM)


if __name__ == "__main__":
    main()
