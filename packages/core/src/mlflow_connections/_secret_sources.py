"""Sources of a secret that a connections file may name: a variable, a file, a command, the keyring."""

import os
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

from ._errors import AccessError, InvalidOptionError, MissingDependencyError, MissingOptionError

COMMAND_SECONDS = 30.0
"""The time limit in seconds of a command that prints a secret, unless its table has a `timeout`."""

_KEYS = {
    "env": ("env",),
    "file": ("file",),
    "command": ("command", "timeout"),
    "keyring": ("keyring", "username"),
}
_EXAMPLES = (
    '{ env = "VARIABLE" }, { file = "PATH" }, { command = ["PROGRAM", "ARGUMENT"] } or '
    '{ keyring = "SERVICE", username = "NAME" }'
)


class SecretSource(NamedTuple):
    """The source of a value.

    Attributes:
        kind: `env`, `file`, `command` or `keyring`.
        target: The variable, the path, the words of the command, or the service and user name.
        timeout: For a command, in seconds.
    """

    kind: str
    target: tuple[str, ...]
    timeout: float = COMMAND_SECONDS

    @property
    def shown(self) -> str:
        """The source for people. For a command only the program: arguments may contain a secret."""
        kinds = {"env": "variable", "file": "file", "command": "command", "keyring": "keyring"}
        return f"{kinds[self.kind]} {self.target[0]}"

    @property
    def has_effects(self) -> bool:
        """Whether reading it runs a program or may ask the user to unlock a keyring."""
        return self.kind in {"command", "keyring"}

    def read(self, what: str, file: str) -> str:
        """Read the value, without trailing line breaks.

        Args:
            what: The value and the table that names the source, for messages.
            file: The file that names the source. A relative path is relative to its folder, and a
                command is run only if no other user can write the file.

        Raises:
            MissingOptionError: The variable, the file or the keyring has no value.
            AccessError: The file cannot be read, or the command may not be run or failed.
            MissingDependencyError: The keyring needs a distribution that is not installed.
        """
        readers = {
            "env": self._read_variable,
            "file": self._read_file,
            "command": self._read_command,
            "keyring": self._read_keyring,
        }
        value = readers[self.kind](what, file).rstrip("\r\n")
        if not value:
            raise MissingOptionError(f"{what} is read from the {self.shown}, which is empty.")
        return value

    def _read_variable(self, what: str, _file: str) -> str:
        (name,) = self.target
        if name not in os.environ:
            raise MissingOptionError(f"{what} is read from the variable {name}, which is not set.")
        return os.environ[name]

    def _read_file(self, what: str, file: str) -> str:
        path = os.path.join(os.path.dirname(file), os.path.expanduser(self.target[0]))
        try:
            with open(path, encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            raise MissingOptionError(
                f"{what} is read from the file {path}, which does not exist."
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise AccessError(
                f"{what} is read from the file {path}, which cannot be read: {why}."
            ) from None

    def _read_command(self, what: str, file: str) -> str:
        import subprocess

        _refuse_foreign(what, file)
        said = f"{what} is printed by the command {self.target[0]}"
        try:
            # Its standard error and input are the user's: it may prompt for a passphrase.
            done = subprocess.run(
                self.target,
                cwd=os.path.dirname(file),
                stdout=subprocess.PIPE,
                timeout=self.timeout,
                check=False,
                encoding="utf-8",
            )
        except subprocess.TimeoutExpired:
            raise AccessError(
                f"{said}, which did not end within {self.timeout:g} s; "
                "a 'timeout' next to 'command' allows more."
            ) from None
        except UnicodeDecodeError:
            raise AccessError(f"{said}, whose output is not UTF-8.") from None
        except OSError as error:
            raise AccessError(f"{said}, which cannot be run: {error.strerror}.") from None
        if done.returncode:
            raise AccessError(f"{said}, which failed with exit code {done.returncode}.")
        return done.stdout

    def _read_keyring(self, what: str, _file: str) -> str:
        from importlib import import_module

        service, user = self.target
        said = f"{what} is read from the keyring (service '{service}', user name '{user}')"
        try:
            keyring: Any = import_module("keyring")
        except ImportError:
            raise MissingDependencyError(
                f"{said}: pip install 'mlflow-connections[keyring]'."
            ) from None
        try:
            value: str | None = keyring.get_password(service, user)
        except Exception as error:  # noqa: BLE001 - backends raise their own
            # Not chained: a backend's message may contain anything.
            raise AccessError(f"{said}, which refused with {type(error).__name__}.") from None
        if value is None:
            raise MissingOptionError(f"{said}, which has no such entry; run: keyring set.")
        return value


def names_source(table: Mapping[str, Any]) -> bool:
    """Return whether a table has a key that occurs only in the table of a source."""
    return any(kind in table for kind in _KEYS)


def parse_source(table: Mapping[str, Any], what: str) -> SecretSource:
    """Return the source that a table names.

    Raises:
        InvalidOptionError: It names none, more than one, or has keys that do not belong to it.
    """
    kinds = [kind for kind in _KEYS if kind in table]
    if len(kinds) != 1 or set(table) - set(_KEYS[kinds[0]]):
        raise InvalidOptionError(f"{what} must name one source: {_EXAMPLES}.")
    (kind,) = kinds
    if kind == "command":
        words = table["command"]
        right = isinstance(words, list) and words and all(isinstance(w, str) for w in words)
        target = tuple(words) if right else ()
    elif kind == "keyring":
        target = (table["keyring"], table.get("username"))
    else:
        target = (table[kind],)
    timeout = table.get("timeout", COMMAND_SECONDS)
    if (
        not target
        or not all(isinstance(word, str) and word for word in target[:1])
        or not all(isinstance(word, str) for word in target)
        or isinstance(timeout, bool)
        or not isinstance(timeout, int | float)
        or not timeout > 0
    ):
        raise InvalidOptionError(f"{what} must name one source: {_EXAMPLES}.")
    return SecretSource(kind, target, float(timeout))


def _refuse_foreign(what: str, file: str) -> None:
    """Refuse a command in a file that another user could have written."""
    if os.name != "posix":
        return
    status = os.stat(file)
    if status.st_uid not in {0, os.getuid()} or status.st_mode & stat.S_IWOTH:
        raise AccessError(
            f"{what} names a command, but other users can write {file}: make the file yours "
            "(chown, chmod o-w) before its commands are run."
        )
