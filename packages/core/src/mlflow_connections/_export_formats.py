"""Environment variables as text for a shell, a .env file, a program or a GitHub workflow."""

import json
import re
import shlex
from collections.abc import Mapping

from ._errors import InvalidOptionError

FORMATS = ("sh", "dotenv", "json", "github")

_PLAIN = re.compile(r"[\w./:@%+,=-]+", re.ASCII)


def export_text(variables: Mapping[str, str | None], form: str) -> str:
    """Return variables in one of `FORMATS`, with a trailing line break.

    Args:
        variables: By name; None unsets a variable. A .env file and $GITHUB_ENV cannot do that, so
            they omit it.
        form: One of `FORMATS`.

    Raises:
        InvalidOptionError: A value cannot be written in that format.
    """
    writers = {"sh": _sh, "dotenv": _dotenv, "json": _json, "github": _github}
    for name, value in variables.items():
        if value and "\0" in value:
            raise InvalidOptionError(
                f"The value of {name} has a null character, which no environment variable can hold."
            )
    return writers[form](variables)


def _sh(variables: Mapping[str, str | None]) -> str:
    return "".join(
        f"unset {name}\n" if value is None else f"export {name}={shlex.quote(value)}\n"
        for name, value in variables.items()
    )


def _dotenv(variables: Mapping[str, str | None]) -> str:
    return "".join(
        f"{name}={_dotenv_value(name, value)}\n"
        for name, value in variables.items()
        if value is not None
    )


def _dotenv_value(name: str, value: str) -> str:
    """Quote a value so that python-dotenv, Docker Compose and dotenv for Node read it alike."""
    if _PLAIN.fullmatch(value):
        return value
    if not re.search(r"['\\\r\n]|\$\{", value):
        return f"'{value}'"
    if re.search(r'["\\\r$]', value):
        raise InvalidOptionError(
            f"The value of {name} has characters that readers of .env files understand "
            "differently: use --format json or --format sh."
        )
    return '"' + value.replace("\n", "\\n") + '"'


def _json(variables: Mapping[str, str | None]) -> str:
    return json.dumps(dict(variables), indent=2) + "\n"


def _github(variables: Mapping[str, str | None]) -> str:
    """Write the lines of the file $GITHUB_ENV; a random delimiter cannot be inside a value."""
    import secrets

    lines = []
    for name, value in variables.items():
        if value is None:
            continue
        delimiter = f"end_{secrets.token_hex(16)}"
        lines.append(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")
    return "".join(lines)


def github_masks(values: list[str]) -> str:
    """Return the commands with which a GitHub workflow hides values in its log, line by line."""
    lines = sorted({line for value in values for line in value.splitlines() if line.strip()})
    return "".join(f"::add-mask::{_escape(line)}\n" for line in lines)


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
