"""Which file of a project's configuration a value was read from, for messages that name it."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

PATTERNS = ("mlflow*", "mlflow*/**", "**/mlflow*")
"""Where kedro-mlflow looks for `mlflow.yml`, as Kedro does for its own files."""


class ConfigFiles:
    """Names files of a config loader. Reads them again, so it is asked for messages only.

    Args:
        loader: Kedro's config loader.
        project: The project's folder, to which names are relative.
    """

    def __init__(self, loader: Any, project: Path) -> None:
        self._loader = loader
        self._project = project

    def name(self, key: str, *path: str) -> str:
        """Name the file that holds what is in force at a path.

        Args:
            key: `mlflow` or `credentials`.
            path: The keys that lead to the value, for example `server`, `tracking_uri`.

        Returns:
            For example `conf/prod/mlflow.yml`; just `mlflow.yml` where it cannot be found out.
        """
        try:
            found = self._find(key, path)
        except Exception:  # noqa: BLE001 - a loader of any kind: a message must not fail for its wording
            found = None
        return self._shown(found) if found else f"{key}.yml"

    def _find(self, key: str, path: tuple[str, ...]) -> PurePath | None:
        patterns = list(self._loader.config_patterns[key])
        soft = (getattr(self._loader, "merge_strategy", None) or {}).get(key) == "soft"
        for folder in self._folders():
            files: set[PurePath] = set()
            config = self._load(folder, patterns, key, files)
            # Kedro replaces a top-level key whole: where it stands last is where it is read.
            if _holds(config, path) or (not soft and _holds(config, path[:1])):
                return self._one(folder, sorted(files), key, path)
        return None

    def _folders(self) -> Iterator[str]:
        loader = self._loader
        for env in (loader.env or loader.default_run_env, loader.base_env):
            if getattr(loader, "_protocol", "file") == "file":
                yield str(Path(loader.conf_source) / env)
            else:
                # Kedro's own rule for archives: what is last at the top holds the environments.
                yield str(Path(loader._fs.ls("", detail=False)[-1]) / env)

    def _load(
        self, folder: str, patterns: list[str], key: str, files: set[PurePath]
    ) -> Mapping[str, Any]:
        secret = key == "credentials"
        config = self._loader.load_and_merge_dir_config(folder, patterns, key, files, secret)
        return config if isinstance(config, Mapping) else {}

    def _one(
        self, folder: str, files: list[PurePath], key: str, path: tuple[str, ...]
    ) -> PurePath | None:
        for file in files:
            pattern = PurePath(file).relative_to(folder).as_posix() if len(files) > 1 else ""
            if not pattern or _holds(self._load(folder, [pattern], key, set()), path[:1]):
                return file
        return None

    def _shown(self, file: PurePath) -> str:
        try:
            return file.relative_to(self._project).as_posix()
        except ValueError:
            return file.as_posix()


def _holds(config: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    value: Any = config
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def know_mlflow_yml(loader: Any) -> None:
    """Tell a config loader where mlflow.yml is, unless the project's settings do."""
    patterns = getattr(loader, "config_patterns", None)
    if patterns is not None and "mlflow" not in patterns:
        patterns["mlflow"] = list(PATTERNS)


def read_config(loader: Any, key: str) -> dict[str, Any] | None:
    """Read one kind of configuration, None where a project has no file of it."""
    from kedro.config import MissingConfigException

    know_mlflow_yml(loader)
    try:
        return dict(loader[key])
    except (MissingConfigException, KeyError):
        return None
