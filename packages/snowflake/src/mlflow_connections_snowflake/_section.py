"""Read one section of a YAML file, with messages that name the place."""

from collections.abc import Mapping

from mlflow_connections import InvalidOptionError, MissingOptionError


class Section:
    """A mapping in a file.

    Args:
        content: The mapping.
        path: Its dotted path in the file.
        where: The file.
    """

    def __init__(self, content: object, path: str, where: str) -> None:
        self.path = path
        self.where = where
        if not isinstance(content, Mapping):
            raise InvalidOptionError(
                f"{path} in {where} must be a mapping of keys, not {type(content).__name__}."
            )
        self.content: Mapping[str, object] = content

    def place(self, key: str) -> str:
        """Return a key as messages name it."""
        return f"{self.path}.{key} in {self.where}"

    def invalid(self, key: str, fault: str) -> InvalidOptionError:
        """Return the error for an invalid value."""
        return InvalidOptionError(f"{self.place(key)} {fault}.")

    def only(self, *known: str) -> None:
        """Refuse unknown keys, which are usually misspelt.

        Raises:
            InvalidOptionError: There is one.
        """
        import difflib

        for key in self.content:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f" Did you mean '{close[0]}'?" if close else ""
                raise InvalidOptionError(
                    f"{self.path} in {self.where} has the unknown key {key!r}.{hint} "
                    f"Known keys are {', '.join(known)}."
                )

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text. Numbers and booleans are refused, since YAML may have changed them.

        Raises:
            MissingOptionError: The key is missing and has no default.
            InvalidOptionError: The value is not text.
        """
        value = self.content.get(key)
        if value is None:
            value = default
        if value is None:
            raise MissingOptionError(f"{self.place(key)} is missing.")
        if not isinstance(value, str):
            raise self.invalid(key, f"is {value!r}, not text: put it into quotes")
        return value

    def section(self, key: str) -> "Section":
        """Return the mapping at a key, or an empty one if there is none."""
        content = self.content.get(key)
        return Section({} if content is None else content, f"{self.path}.{key}", self.where)
