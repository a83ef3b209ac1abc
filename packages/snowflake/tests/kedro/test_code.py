"""The archives contain the code and the configuration in use, and no credentials."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mlflow_connections_snowflake.kedro._code import OWN_ARCHIVE, project_files, write
from mlflow_connections_snowflake.kedro._task_names import PROJECT_ARCHIVE

FILES = (
    *("pyproject.toml", "README.md", "conf/logging.yml", "conf/credentials.yml"),
    *("conf/base/catalog.yml", "conf/base/credentials/x.yml", "conf/base/credentials_prod.yml"),
    *("conf/local/credentials.yml", "conf/prod/parameters.yml", "conf/other/parameters.yml"),
    *("src/wine/nodes.py", "src/wine/__pycache__/nodes.pyc", "src/wine.egg-info/PKG-INFO"),
    *("data/01_raw/wine.csv", "data/02_other/secret.csv"),
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder."""
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def read(project: Path, *environments: str) -> dict[str, bytes]:
    """Read the files that go to Snowflake."""
    data = [project / "data/01_raw/wine.csv"]
    return project_files(project, project / "src", project / "conf", environments, data)


def test_used_files_are_uploaded_without_credentials(project: Path) -> None:
    """Code, the environments in use and the files that are read are uploaded; credentials never are."""
    assert set(read(project, "base", "prod")) == {
        *("pyproject.toml", "conf/logging.yml", "conf/base/catalog.yml", "conf/base/.gitkeep"),
        *("conf/prod/parameters.yml", "conf/prod/.gitkeep", "src/wine/nodes.py"),
        "data/01_raw/wine.csv",
    }
    # Kedro needs the folder of an environment, even if none of its files may be uploaded.
    assert "conf/local/.gitkeep" in read(project, "base", "local")


def test_the_same_code_is_the_same_archive(project: Path, tmp_path: Path) -> None:
    """The digest changes with the content, and with nothing else."""
    first = write(tmp_path / "one", read(project, "base"))
    (project / "src/wine/nodes.py").touch()
    again = write(tmp_path / "two", read(project, "base"))
    assert first.digest == again.digest
    (project / "src/wine/nodes.py").write_text("changed")
    assert write(tmp_path / "three", read(project, "base")).digest != first.digest
    assert first.size > 0


def test_own_packages_work_from_their_archive(tmp_path: Path) -> None:
    """From the zip alone Python imports both packages, and MLflow would find the scheme."""
    archives = write(tmp_path, {})
    with zipfile.ZipFile(archives.own) as archive:
        names = archive.namelist()
    assert not [name for name in names if "starter/" in name or "__pycache__" in name]
    assert "mlflow_connections_snowflake/py.typed" in names
    code = (
        "import importlib.metadata as metadata\n"
        "import mlflow_connections, mlflow_connections_snowflake as ours\n"
        "import mlflow_connections_snowflake.kedro.procedures\n"
        f"assert {OWN_ARCHIVE!r} in ours.__file__ and {OWN_ARCHIVE!r} in mlflow_connections.__file__\n"
        "found = metadata.Distribution.discover(path=[sys.path[0]])\n"
        "entries = [e.name for d in found for e in d.entry_points if e.group == 'mlflow.tracking_store']\n"
        "print(entries)\n"
    )
    start = f"import sys; sys.path.insert(0, {str(archives.own)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "['snowflake']\n", done.stderr
    assert archives.project.name == PROJECT_ARCHIVE
