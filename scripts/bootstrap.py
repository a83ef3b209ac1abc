"""Run nox on a machine that has nothing but Python and pip: `python3 scripts/bootstrap.py [nox arguments]`.

Makes `.venv` beside this repository's README on the first call and installs nox into it. It works
where Debian has split `venv`'s own pip away, and where Debian forbids pip outside of environments.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
# uv makes the sessions' environments: seconds instead of minutes. 2025.2.9 is the first nox that
# parametrizes with tags as the noxfile does.
REQUIREMENT = "nox[uv]>=2025.2.9"


def main() -> int:
    """Make the environment if need be, then become nox."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (ENVIRONMENT / "ready").exists():
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
        (ENVIRONMENT / "ready").touch()
    command = [str(python), "-m", "nox", "-f", str(ROOT / "noxfile.py"), *sys.argv[1:]]
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - who clones this may have an older one
        sys.exit("This needs Python 3.10 or newer.")
    sys.exit(main())
