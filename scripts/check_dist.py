"""Check the archives in a folder: contents, licences, and that each wheel installs and works alone.

`python scripts/check_dist.py dist`, run by `nox -s dist`. Needs uv.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

import uv
from workspace import distributions, with_siblings

ROOT = Path(__file__).resolve().parent.parent
LICENSE = (ROOT / "LICENSE").read_bytes()
FOLDERS = {each.module: each.folder for each in distributions().values()}
MODULES = {folder: module for module, folder in FOLDERS.items()}
# dbnd, Kedro and pytest load these only if they are installed, through an extra or by the user.
LOAD = """
import sys
from importlib.metadata import distribution
for entry in distribution(sys.argv[1]).entry_points:
    if entry.group not in ("dbnd", "kedro.starters", "pytest11"):
        entry.load()
"""


def main() -> int:
    """Check all wheels and source archives of a folder; return the number of faults."""
    folder = Path(sys.argv[1]).resolve()
    wheels = {path.name.split("-")[0]: path for path in sorted(folder.glob("*.whl"))}
    sources = {path.name.rsplit("-", 1)[0]: path for path in sorted(folder.glob("*.tar.gz"))}
    if not wheels or wheels.keys() != sources.keys():
        raise SystemExit(f"Not a wheel for each source archive: {[*wheels]} and {[*sources]}")
    faults = [fault for name in wheels for fault in contents(name, wheels[name], sources[name])]
    for name in wheels:
        faults += alone(name, wheels)
        print(f"  {name}: {'ok' if not any(name in f for f in faults) else 'FAULTY'}", flush=True)
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    return len(faults)


def contents(name: str, wheel: Path, source: Path) -> list[str]:
    """Check the contents of both archives."""
    faults = []
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (licence,) = [n for n in names if n.endswith(".dist-info/licenses/LICENSE")] or [""]
        if not licence or archive.read(licence) != LICENSE:
            faults.append(f"{wheel.name}: the licence is missing or differs from the root's")
        if f"{name}/py.typed" not in names:
            faults.append(f"{wheel.name}: no py.typed, so its types are not seen")
        faults += [f"{wheel.name}: holds {n}" for n in names if "tests/" in n or n.endswith(".pyc")]
        metadata = next(n for n in names if n.endswith(".dist-info/METADATA"))
        requires = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") or []
        needed = [need for need in requires if "extra ==" not in need]
        if name == "mlflow_connections" and needed:
            faults.append(f"{wheel.name}: core must need nothing, it needs {needed}")
    with tarfile.open(source) as tar:
        members = [m for m in tar.getmembers() if Path(m.name).name == "LICENSE"]
        read = tar.extractfile(members[0]) if members else None
        if read is None or read.read() != LICENSE:
            faults.append(f"{source.name}: the licence is missing or differs from the root's")
    return faults


def alone(name: str, wheels: dict[str, Path]) -> list[str]:
    """Install one wheel and the siblings it needs into a clean environment, and load all its entry points."""
    with tempfile.TemporaryDirectory() as environment:
        python = Path(environment) / "bin" / "python"
        run = uv.find_uv_bin()
        subprocess.run(
            [run, "venv", "--quiet", "--python", sys.executable, environment], check=True
        )
        needed = [wheels[MODULES[folder]] for folder in with_siblings(FOLDERS[name])]
        # Installing core without an index proves that it needs nothing.
        options = ["--no-index"] if name == "mlflow_connections" else []
        install = [run, "pip", "install", "--quiet", "--python", str(python), *options]
        load = [str(python), "-c", LOAD, name.replace("_", "-")]
        for command in ([*install, *map(str, needed)], load):
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, cwd=environment
            )
            if done.returncode:
                last = (done.stderr or done.stdout).strip().splitlines()[-1:]
                step = "installing it" if command is not load else "loading its entry points"
                return [f"{name}: alone, {step} failed: {' '.join(last)}"]
    return []


if __name__ == "__main__":
    sys.exit(main())
