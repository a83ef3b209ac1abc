"""The bytecode that nox's environments share."""

import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bytecode


@pytest.fixture
def environments(tmp_path: Path) -> list[Path]:
    """Two environments with the same module, linked as uv does, and a wheel of this repository."""
    both = [tmp_path / name / "lib" / "python3.11" / "site-packages" for name in ("one", "two")]
    for site in both:
        (site / "third").mkdir(parents=True)
        (site / "mlflow_connections").mkdir()
        (site / "mlflow_connections" / "ours.py").write_text("A = 1\n")
    source = both[0] / "third" / "module.py"
    source.write_text("A = 1\n")
    os.link(source, both[1] / "third" / "module.py")
    return [tmp_path / "one", tmp_path / "two"]


def compiled(environment: Path) -> list[str]:
    """Return the names of an environment's compiled modules."""
    return sorted(path.name for path in environment.rglob("*.pyc"))


def run(environment: Path, cache: Path) -> list[str]:
    """Compile everything while bytecode is shared; return the modules that were compiled before."""
    with bytecode.shared(environment, cache):
        before = compiled(environment)
        for path in environment.rglob("*.py"):
            py_compile.compile(str(path))
    return before


def test_a_module_is_compiled_once_for_all_environments(
    environments: list[Path], tmp_path: Path
) -> None:
    """The second environment has the modules that the first one compiled, except those of our own wheels."""
    one, two = environments
    assert run(one, tmp_path / "cache") == []
    assert run(two, tmp_path / "cache") == [f"module.{sys.implementation.cache_tag}.pyc"]


def test_another_source_is_compiled_again(environments: list[Path], tmp_path: Path) -> None:
    """A file of the same name and size with another modification time is not the same."""
    one, two = environments
    run(one, tmp_path / "cache")
    (source,) = two.rglob("module.py")
    copied = tmp_path / "copied.py"
    shutil.copy2(source, copied)
    source.unlink()
    shutil.copy2(copied, source)
    found = source.stat()
    os.utime(source, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    assert run(two, tmp_path / "cache") == []


def test_a_failure_keeps_what_was_compiled(environments: list[Path], tmp_path: Path) -> None:
    """A session whose tests fail leaves its bytecode to the next one."""
    one, two = environments

    def fail() -> None:
        with bytecode.shared(one, tmp_path / "cache"):
            py_compile.compile(str(next(one.rglob("module.py"))))
            raise OSError("failed")

    with pytest.raises(OSError, match="failed"):
        fail()
    assert len(run(two, tmp_path / "cache")) == 1


def test_python_runs_shared_bytecode(environments: list[Path], tmp_path: Path) -> None:
    """A module from the cache is imported as if it were its own, and not compiled again."""
    one, two = environments
    run(one, tmp_path / "cache")
    with bytecode.shared(two, tmp_path / "cache"):
        (module,) = two.rglob("third/module.py")
        (taken,) = two.rglob("module.*.pyc")
        before = taken.stat()
        shown = "import module; print(module.__file__, module.__spec__.cached)"
        done = subprocess.run(
            [sys.executable, "-c", shown],
            cwd=module.parent,
            env={**os.environ, "PYTHONPATH": str(module.parent)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [str(module), str(taken)]
        assert (taken.stat().st_ino, taken.stat().st_mtime_ns) == (
            before.st_ino,
            before.st_mtime_ns,
        )
