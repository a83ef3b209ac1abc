"""`mlflow-connections init`: write the first connection of a file, prompting for its values."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ._errors import InvalidOptionError
from ._resolve import named_connection
from .discovery import find_connection, installed_connections, is_keyword, is_reserved
from .named import PROJECT_FILE, find_named_connection, user_file
from .options import Option, convert, declared_options
from .secrets import mask_uri

Ask = Callable[[str], str]

_OWN_KEYS = ("connection", "registry", "credentials", "options")


def write_first(ask: Ask, *, for_user: bool) -> tuple[str, Path]:
    """Prompt for a name, a connection and its options, and add them to the project's or the user's file.

    Args:
        ask: Shows a question and returns the line that the user types.
        for_user: Whether the file is the user's.

    Returns:
        The name, and the path of the file.

    Raises:
        InvalidOptionError: An answer is invalid, or the file already has the name.
        ConnectionsError: The connection cannot be loaded.
    """
    path = Path(user_file()) if for_user else Path.cwd() / PROJECT_FILE
    name = ask("Name of the connection [default]: ").strip() or "default"
    if not is_keyword(name):
        raise InvalidOptionError(f"'{name}' cannot be a name: use letters, digits, '_' and '-'.")
    known = named_connection(name)
    if known is not None and known.file == str(path):
        raise InvalidOptionError(f"{known.place} exists: edit it, or choose another name.")
    table = "".join(_table(name, ask))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(("\n" if stream.tell() else "") + table)
    find_named_connection(name)  # check that the result can be read
    return name, path


def _table(name: str, ask: Ask) -> Iterator[str]:
    keywords = sorted({f.keyword for f in installed_connections() if not is_reserved(f)})
    choice = f" ({', '.join(keywords)})" if keywords else ""
    tracking = ask(f"Keyword of a connection{choice}, or a URI: ").strip()
    if not tracking:
        raise InvalidOptionError("A keyword or a URI is needed.")
    if mask_uri(tracking) != tracking:
        raise InvalidOptionError("The URI has a secret inside: leave it out of the file.")
    yield f"[connections.{_key(name)}]\nconnection = {_toml(tracking)}\n"
    declared = declared_options(find_connection(tracking)) if tracking in keywords else ()
    plain = [option for option in declared if not option.in_credentials]
    for option in plain:
        value = _value(option, ask)
        if value is not None:
            key = f"options.{option.name}" if option.name in _OWN_KEYS else _key(option.name)
            yield f"{key} = {_toml(value)}\n"
    for option in declared:
        if option.in_credentials and (text := _credential(option, ask)):
            yield f"credentials.{_key(option.name)} = {text}\n"


def _value(option: Option, ask: Ask) -> Any:
    """Prompt for a value; an empty answer leaves it to its variable or its default."""
    known = [f"variable {option.env}"] if option.env else []
    if option.default is not None:
        known.append(f"default {option.default}")
    answer = ask(f"{option.name}: {option.help} [{', '.join(known) or 'none'}] ").strip()
    return convert(option, answer, "the answer") if answer else None


def _credential(option: Option, ask: Ask) -> str:
    if not option.secret:
        value = _value(option, ask)
        return "" if value is None else _toml(value)
    variable = ask(
        f"{option.name}: {option.help} A secret: which environment variable holds it? "
        f"[{option.env or 'none'}] "
    ).strip()
    if not variable or variable == option.env:
        return ""  # the connection reads its own variable anyway
    if not variable.replace("_", "a").isalnum() or not variable.isascii() or variable[0].isdigit():
        # Not repeated: it may be the secret itself.
        raise InvalidOptionError(
            f"The answer for '{option.name}' is not the name of an environment variable. "
            "Never type a secret here."
        )
    return f"{{ env = {_toml(variable)} }}"


def _key(name: str) -> str:
    return (
        name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else _toml(name)
    )


def _toml(value: Any) -> str:
    """Format a value as TOML; a basic string has JSON's escapes, and one more."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
