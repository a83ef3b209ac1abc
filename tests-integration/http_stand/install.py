"""Install the stand's programs below one folder, without root: `python install.py FOLDER`.

npm provides the OpenID provider, apt Apache and its two modules, which are unpacked and not
installed. Exits with code 3 and one sentence if the machine lacks a requirement: the stand's tests
did not run then.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROVIDER = "oidc-provider@9.13.3"
PACKAGES = ("apache2-bin", "libapache2-mod-oauth2", "libapache2-mod-auth-openidc")
PROGRAMS = {
    "node": "Node.js",
    "npm": "npm",
    "apt-get": "apt, as Debian and Ubuntu have it",
    "dpkg": "dpkg, as Debian and Ubuntu have it",
}
MISSING = 3


def main(folder: Path) -> int:
    """Install everything that is not there yet."""
    lacking = [name for program, name in PROGRAMS.items() if shutil.which(program) is None]
    if lacking:
        return missing(" and ".join(lacking))
    try:
        install_provider(folder)
        install_apache(folder)
    except subprocess.CalledProcessError as error:
        lines = f"{error.stdout}{error.stderr}".strip().splitlines()[-1:]
        return missing(f"what `{' '.join(error.cmd[:3])} ...` fetches ({' '.join(lines)})")
    return 0


def missing(what: str) -> int:
    """Print that a requirement is missing."""
    print(f"The stand of the connection `http` was NOT TESTED: it needs {what}.", file=sys.stderr)
    return MISSING


def install_provider(folder: Path) -> None:
    """Install the OpenID provider with npm."""
    if not (folder / "node_modules" / "oidc-provider").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), PROVIDER])


def install_apache(folder: Path) -> None:
    """Unpack Apache, its modules and the libraries that this machine lacks."""
    root, archives = folder / "root", folder / "archives"
    if (root / "complete").exists():
        return
    archives.mkdir(parents=True, exist_ok=True)
    plan = run(["apt-get", "install", "--simulate", "--no-install-recommends", *PACKAGES])
    # Installed packages need not be unpacked, but these three must be in the folder.
    wanted = dict.fromkeys([*PACKAGES, *re.findall(r"^Inst (\S+)", plan, re.MULTILINE)])
    run(["apt-get", "download", *wanted], archives)
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg", "--extract", str(archive), str(root)])
    (root / "complete").touch()


def run(command: Sequence[str], folder: Path | None = None) -> str:
    """Run a program and return its output."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]).resolve()))
