"""A project's configuration: `mlflow.yml`, one entry of `credentials.yml`, and the files that contain them.

Everything is read through Kedro's config loader, so that environments, resolvers and values set by
hooks count. Files are named only in messages.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from mlflow_connections import InvalidOptionError, MissingOptionError

PATTERNS = ("mlflow*", "mlflow*/**", "**/mlflow*")
"""The patterns by which kedro-mlflow finds `mlflow.yml`; Kedro's patterns for its own files have this form."""


class ConfigFiles:
    """Names the files of a config loader. Each call reads files again, so call it for messages only.

    Args:
        loader: Kedro's config loader.
        project: The project's folder, to which names are relative.
    """

    def __init__(self, loader: Any, project: Path) -> None:
        self._loader = loader
        self._project = project

    def name(self, key: str, *path: str) -> str:
        """Return the name of the file whose value is in force.

        Args:
            key: `mlflow` or `credentials`.
            path: The keys that lead to the value, for example `server`, `tracking_uri`.

        Returns:
            A path such as `conf/prod/mlflow.yml`, or `mlflow.yml` if the file cannot be determined.
        """
        try:
            found = self._find(key, path)
        except Exception:  # noqa: BLE001 - loaders of any class: naming a file must never fail
            found = None
        return self.shown(found) if found else f"{key}.yml"

    def shown(self, file: PurePath) -> str:
        """Return a file's path, relative to the project if it is inside."""
        try:
            return file.relative_to(self._project).as_posix()
        except ValueError:
            return file.as_posix()

    def unreadable(self, key: str) -> str:
        """Return the name of the first file that cannot be read, or `<key>.yml` if there is none."""
        try:
            file = self._first_unreadable(key)
        except Exception:  # noqa: BLE001 - loaders of any class: naming a file must never fail
            file = None
        return self.shown(file) if file else f"{key}.yml"

    def _first_unreadable(self, key: str) -> PurePath | None:
        for folder in self._folders():
            root = Path(folder)
            files = {
                Path(file)
                for pattern in self._loader.config_patterns[key]
                for file in self._loader._fs.glob(f"{root.as_posix()}/{pattern}")
            }
            for file in sorted(files):
                if file.suffix not in {".yml", ".yaml", ".json"}:
                    continue
                try:
                    self._load(folder, [file.relative_to(root).as_posix()], key, set())
                except Exception:  # noqa: BLE001 - any error of the loader means unreadable
                    return file
        return None

    def _find(self, key: str, path: tuple[str, ...]) -> PurePath | None:
        patterns = list(self._loader.config_patterns[key])
        soft = (getattr(self._loader, "merge_strategy", None) or {}).get(key) == "soft"
        for folder in self._folders():
            files: set[PurePath] = set()
            config = self._load(folder, patterns, key, files)
            # Kedro replaces a top-level key as a whole: the last environment that has it counts.
            if _holds(config, path) or (not soft and _holds(config, path[:1])):
                return self._one(folder, sorted(files), key, path)
        return None

    def _folders(self) -> Iterator[str]:
        loader = self._loader
        for env in (loader.env or loader.default_run_env, loader.base_env):
            if getattr(loader, "_protocol", "file") == "file":
                yield str(Path(loader.conf_source) / env)
            else:
                # Kedro's rule for archives: the last top-level entry contains the environments.
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


def _holds(config: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    value: Any = config
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def add_mlflow_pattern(loader: Any) -> None:
    """Register the patterns of `mlflow.yml` with a config loader, unless the project has done so."""
    patterns = getattr(loader, "config_patterns", None)
    if patterns is not None and "mlflow" not in patterns:
        patterns["mlflow"] = list(PATTERNS)


def read_config(loader: Any, key: str, files: ConfigFiles) -> dict[str, Any] | None:
    """Read one kind of configuration.

    Args:
        loader: Kedro's config loader.
        key: `mlflow` or `credentials`.
        files: Names the file in messages.

    Returns:
        Its content, or None if the project has no such file.

    Raises:
        InvalidOptionError: A file cannot be parsed, or one of its values cannot be resolved.
    """
    from kedro.config import MissingConfigException

    add_mlflow_pattern(loader)
    try:
        return dict(loader[key])
    except MissingConfigException:
        return None
    except Exception as error:
        if type(error) is KeyError:  # a loader that does not know the key
            return None
        if not is_content_fault(error):
            raise
        # Not chained: a parser's error may quote a line with a secret.
        raise unreadable(error, files.unreadable(key)) from None


def is_content_fault(error: Exception) -> bool:
    """Return whether a config loader's error concerns the content of a file, not the loader's code."""
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    return isinstance(error, YAMLError | OmegaConfBaseException | ValueError)


def unreadable(error: Exception, file: str) -> InvalidOptionError:
    """Return the error for a file that a config loader cannot read, with the reason in one line."""
    return InvalidOptionError(f"{file} cannot be read: {_reason(error)}.")


def _reason(error: BaseException) -> str:
    """Return the first line of a parser's or resolver's error, with the line number if it has one."""
    cause: Any = error
    while cause is not None:
        mark = getattr(cause, "problem_mark", None)
        if mark is not None:
            problem = str(getattr(cause, "problem", "") or "invalid YAML").partition("\n")[0]
            return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
        cause = cause.__cause__ or cause.__context__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    where = next((line.partition(":")[2].strip() for line in lines if "full_key" in line), "")
    return (lines[0] if lines else type(error).__name__).rstrip(".") + (
        f" (at {where})" if where else ""
    )


def read_entry(name: str | None, loader: Any, files: ConfigFiles) -> Mapping[str, Any]:
    """Read one entry of the credentials; values set by hooks in the config loader count.

    Args:
        name: The entry's name; None means no credentials.
        loader: Kedro's config loader.
        files: Names the file in messages.

    Raises:
        MissingOptionError: The entry does not exist; the message lists the existing ones.
        InvalidOptionError: The entry is not a mapping, or `credentials.yml` cannot be read.
    """
    if name is None:
        return {}
    entries = read_config(loader, "credentials", files) or {}
    if name not in entries:
        have = ", ".join(sorted(map(str, entries)))
        raise MissingOptionError(
            f"'server.credentials' in {files.name('mlflow', 'server', 'credentials')} names "
            f"'{name}', which is not an entry of the project's credentials "
            + (f"(there are {have})." if have else "(there are none): add it to credentials.yml.")
        )
    entry = entries[name]
    if entry is None:
        return {}
    if not isinstance(entry, Mapping):
        # The value is not shown: it can only be a secret.
        raise InvalidOptionError(
            f"{entry_name(name, files)} must be a mapping of keys to values, as in 'token: ...'."
        )
    return entry


def entry_name(name: str | None, files: ConfigFiles) -> str:
    """Return an entry's name in messages, with its file."""
    if name is None:
        return "the credentials (server.credentials names no entry)"
    return f"entry '{name}' of {files.name('credentials', name)}"
