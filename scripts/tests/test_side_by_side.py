"""Runs of nox that share a clone."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import side_by_side

SCRIPTS = str(Path(side_by_side.__file__).parent)

RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import side_by_side
print(side_by_side.environments(Path(sys.argv[2])).name, flush=True)
sys.stdin.read()
"""


def run(root: Path) -> "subprocess.Popen[str]":
    """Start the part of a run of nox that concerns others, which lasts until its standard input ends."""
    command = [sys.executable, "-c", RUN, SCRIPTS, str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def environments(process: "subprocess.Popen[str]") -> str:
    """Return the folder of environments that a run uses."""
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a module and a test."""
    folder = tmp_path / "packages" / "core"
    (folder / "src").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "src" / "module.py").write_text("A = 1")
    return folder


def build(out: Path) -> None:
    """Create a file in place of a wheel."""
    out.mkdir()
    (out / "core.whl").touch()


def test_parallel_runs_have_their_own_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run does not use the first one's, and the next run after its end reuses them."""
    monkeypatch.delenv(side_by_side.ENVIRONMENTS, raising=False)
    with run(tmp_path) as first:
        assert environments(first) == ".nox"
        with run(tmp_path) as second:
            assert environments(second) == ".nox-2"
    with run(tmp_path) as third:
        assert environments(third) == ".nox"


def test_the_processes_of_one_run_share_its_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sessions that `nox --parallel` starts read the folder from their environment."""
    monkeypatch.setenv(side_by_side.ENVIRONMENTS, str(tmp_path / ".nox-3"))
    with run(tmp_path) as process:
        assert environments(process) == ".nox-3"


def test_a_wheel_is_built_once(package: Path, tmp_path: Path) -> None:
    """Of several sessions that need a wheel one builds it, and the others wait."""
    built: list[Path] = []

    def build_one(out: Path) -> None:
        built.append(out)
        build(out)

    with ThreadPoolExecutor(4) as pool:
        wheels = list(
            pool.map(lambda _: side_by_side.wheel(package, tmp_path / "cache", build_one), range(4))
        )
    assert len(built) == 1
    assert len(set(wheels)) == 1
    assert wheels[0].name == "core.whl"


def test_a_wheel_has_the_current_files(package: Path, tmp_path: Path) -> None:
    """A changed or renamed file makes another wheel, a changed test does not, and the first stays in place."""
    paths = [side_by_side.wheel(package, tmp_path / "cache", build)]
    (package / "tests" / "test_module.py").write_text("B = 2")
    paths.append(side_by_side.wheel(package, tmp_path / "cache", build))
    (package / "src" / "module.py").write_text("A = 2")
    paths.append(side_by_side.wheel(package, tmp_path / "cache", build))
    (package / "src" / "module.py").rename(package / "src" / "other.py")
    paths.append(side_by_side.wheel(package, tmp_path / "cache", build))
    assert paths[0] == paths[1]
    assert len(set(paths)) == 3
    assert all(path.exists() for path in paths)


def test_a_failed_build_is_retried(package: Path, tmp_path: Path) -> None:
    """A build that ends with an error leaves nothing that looks like a wheel."""

    def fail(out: Path) -> None:
        out.mkdir()
        raise OSError("failed")

    with pytest.raises(OSError, match="failed"):
        side_by_side.wheel(package, tmp_path / "cache", fail)
    assert side_by_side.wheel(package, tmp_path / "cache", build).exists()


def test_one_process_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    """The second one prints that it waits, and continues when the first one has ended."""
    order: list[str] = []

    def second() -> None:
        with side_by_side.exclusive(tmp_path / "lock", order.append):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with side_by_side.exclusive(tmp_path / "lock"):
            waiting = pool.submit(second)
            while not order:
                assert not waiting.done()
            order.append("first")
        waiting.result()
    said, *rest = order
    assert said == "Waiting for another session or run to release 'lock' ..."
    assert rest == ["first", "second"]


def test_a_package_from_another_wheel_is_outdated(tmp_path: Path) -> None:
    """A package is installed again only if the environment has it from another wheel."""
    first, second = (tmp_path / name / "core-0.1.0-py3-none-any.whl" for name in ("one", "two"))
    info = tmp_path / "lib" / "python3.11" / "site-packages" / "core-0.1.0.dist-info"
    assert not side_by_side.is_outdated(tmp_path, first)
    info.mkdir(parents=True)
    (info / "direct_url.json").write_text(json.dumps({"url": first.as_uri(), "archive_info": {}}))
    assert not side_by_side.is_outdated(tmp_path, first)
    assert side_by_side.is_outdated(tmp_path, second)
