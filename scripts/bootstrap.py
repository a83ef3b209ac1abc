"""Run nox on a machine that has only Python and pip: `python3 scripts/bootstrap.py [nox arguments]`.

Without arguments it runs the default sessions, as many at once as there are cores, at most four.

Creates `.venv` next to this repository's README on the first call and installs nox into it. It
works on a Debian that has split off `venv`'s pip, or that forbids pip outside of environments.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
# uv creates the sessions' environments: seconds instead of minutes. 2026.10.20 is the first nox whose
# sessions know that others run at the same time.
REQUIREMENT = "nox[uv]>=2026.10.20"
MOST_AT_ONCE = 4


def main() -> int:
    """Create the environment if necessary, then become nox."""
    # Not above: the oldest Pythons cannot read it, and are refused before.
    from side_by_side import exclusive

    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    with exclusive(ROOT / ".nox" / ".cache" / "locks" / "bootstrap", print):
        set_up(python)
    arguments = nox_arguments(sys.argv[1:], cores())
    command = [str(python), "-m", "nox", "-f", str(ROOT / "noxfile.py"), *arguments]
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command, check=False).returncode


def set_up(python: Path) -> None:
    """Create the environment with nox, unless it is there.

    Args:
        python: The environment's interpreter.
    """
    ready = ENVIRONMENT / "ready"
    if not ready.exists() or ready.read_text() != REQUIREMENT:
        print(f"Setting up {ENVIRONMENT.name} with nox ...", flush=True)
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", "--without-pip", ENVIRONMENT], check=True
        )
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--python", python),
                *("--quiet", "--disable-pip-version-check", "install", REQUIREMENT),
            ],
            check=True,
        )
        ready.write_text(REQUIREMENT)


def nox_arguments(given: list[str], cores: int) -> list[str]:
    """Return the arguments for nox: the given ones, or else the number of parallel sessions."""
    return given or ["--parallel", str(min(cores, MOST_AT_ONCE))]


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - a clone may be run by an older one
        sys.exit("This needs Python 3.10 or newer.")
    sys.exit(main())
