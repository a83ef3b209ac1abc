"""Declared options of a connection: read their values, convert them and refuse mistakes."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ._errors import InvalidOptionError, MissingOptionError
from .secrets import MASK, looks_secret, mask, remember, remember_variable

__all__ = [
    "DEFAULT_SOURCE_NAMES",
    "Option",
    "OptionValue",
    "SourceNames",
    "convert",
    "declared_options",
    "read_options",
    "refuse_misplaced",
    "require",
]

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_CLOSE = 0.75  # how alike a misspelt name is, as difflib's ratio


class Option(NamedTuple):
    """One input of a connection.

    Attributes:
        name: The key under `server.connection`, or in the entry of `credentials.yml`.
        help: One line for people: its meaning, with its unit.
        env: The environment variable that is read if the key is absent.
        default: The value if neither is given.
        required: Whether the connection cannot work without it.
        type: `str`, `bool`, `int`, `float`, `list` or `dict`. Text from the environment is
            converted; lists and dicts are JSON there.
        choices: The allowed values; empty allows any.
        credential: Whether the value is read from the credentials instead of the options.
        secret: Whether the value must never be shown. A secret is always a credential.
        strip: Whether white space around a credential is removed. False if a service may treat it
            as part of the secret, as in a password: it is then refused.
        multiline: Whether a credential may have line breaks, as a private key has.
    """

    name: str
    help: str
    env: str | None = None
    default: Any = None
    required: bool = False
    type: type = str
    choices: tuple[Any, ...] = ()
    credential: bool = False
    secret: bool = False
    strip: bool = True
    multiline: bool = False

    @property
    def in_credentials(self) -> bool:
        """Whether the value is read from the credentials."""
        return self.credential or self.secret


class OptionValue(NamedTuple):
    """The value of one option and its source.

    Attributes:
        option: The option that was read.
        value: Its converted value, or None if it has none.
        source: `options`, `credentials`, `environment` or `default`, or None if there is no value.
    """

    option: Option
    value: Any
    source: str | None

    @property
    def shown(self) -> str:
        """The value in displayable form."""
        if self.value is None:
            return ""
        return MASK if self.option.secret else mask(str(self.value))

    def __repr__(self) -> str:
        """Hide the value of a secret."""
        return f"OptionValue({self.option.name}={self.shown!r} from {self.source})"


class SourceNames(NamedTuple):
    """The wording of messages about the sources of options and credentials.

    Attributes:
        options: For example `server.connection in conf/base/mlflow.yml`.
        credentials: For example `entry 'dev' of credentials.yml`.
        remedy: How to correct a credential among the options.
    """

    options: str = "the connection options"
    credentials: str = "the credentials"
    remedy: str = "pass it with the credentials"


DEFAULT_SOURCE_NAMES = SourceNames()
"""The wording if the caller names no sources."""


def read_options(
    declared: Sequence[Option],
    credentials: Mapping[str, Any],
    options: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
    source_names: SourceNames = DEFAULT_SOURCE_NAMES,
) -> list[OptionValue]:
    """Read every declared option: its mapping, then its environment variable, then its default.

    A missing value is not an error in this function; see `require`.

    Raises:
        InvalidOptionError: A value has the wrong type or is none of the choices.
    """
    environ = os.environ if environ is None else environ
    return [_read_one(option, credentials, options, environ, source_names) for option in declared]


def _read_one(
    option: Option,
    credentials: Mapping[str, Any],
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    source_names: SourceNames,
) -> OptionValue:
    in_credentials = option.in_credentials
    value = (credentials if in_credentials else options).get(option.name)
    variable = ""
    if option.env and (value is None or option.secret):  # both of a secret's are remembered
        variable = environ.get(option.env, "")
    if option.secret:
        remember(value, variable, options.get(option.name), option.default)
    if option.env:
        remember_variable(option.env, secret=option.secret)
    if value is not None:
        source, place = (
            ("credentials", source_names.credentials)
            if in_credentials
            else ("options", source_names.options)
        )
    elif variable.strip() if in_credentials else variable:
        value, source, place = variable, "environment", f"variable {option.env}"
    else:
        value = option.default
        return OptionValue(option, value, None if value is None else "default")
    return OptionValue(option, convert(option, value, place), source)


def declared_options(connection: object) -> tuple[Option, ...]:
    """Return the options that a connection declares; none for an object that only looks like one."""
    return tuple(getattr(connection, "declared", None) or ())


def require(
    readings: Sequence[OptionValue], source_names: SourceNames = DEFAULT_SOURCE_NAMES
) -> None:
    """Refuse, all at once, every required option without a value.

    Raises:
        MissingOptionError: At least one is missing; the message names each with both its places.
    """
    missing = [r.option for r in readings if r.option.required and r.value is None]
    if missing:
        raise MissingOptionError(
            "; ".join(_missing(option, source_names) for option in missing)
            + ("." if len(missing) == 1 else f". {len(missing)} values are missing.")
        )


def _missing(option: Option, source_names: SourceNames) -> str:
    place = source_names.credentials if option.in_credentials else source_names.options
    if option.env:
        return f"'{option.name}' is neither in {place} nor in the environment variable {option.env}"
    return f"'{option.name}' is not in {place}"


def refuse_misplaced(
    declared: Sequence[Option],
    credentials: Mapping[str, Any],
    options: Mapping[str, Any],
    source_names: SourceNames = DEFAULT_SOURCE_NAMES,
) -> None:
    """Refuse a secret among the options, and an unknown key.

    A connection that declares nothing accepts everything but secrets. Undeclared credentials are
    ignored, since one entry of `credentials.yml` often serves other users too, unless they are
    almost identical to a declared one that is missing.

    Raises:
        InvalidOptionError: The message names the key, never its value.
    """
    if not credentials and not options:
        return
    known = {option.name: option for option in declared}
    # An option declared as not secret is shown, whatever its name, such as `token_file`.
    plain = [option.name for option in declared if not option.in_credentials]
    suspects = (key for key in options if key not in plain and looks_secret(str(key)))
    remember(*(options[key] for key in suspects))
    for key in options:
        option = known.get(key)
        if option.in_credentials if option else looks_secret(str(key)):
            variable = f", or set the variable {option.env}" if option and option.env else ""
            raise InvalidOptionError(
                f"'{key}' in {source_names.options} belongs in the credentials: {source_names.remedy}"
                f"{variable}."
            )
        if declared and option is None:
            raise InvalidOptionError(
                f"'{key}' in {source_names.options} is not an option of this connection"
                f"{_suggestion(str(key), plain)}; "
                + (f"it takes {', '.join(plain)}." if plain else "it takes none.")
            )
    absent = [o.name for o in declared if o.in_credentials and o.name not in credentials]
    for key in credentials:
        if key not in known and (close := _suggestion(str(key), absent)):
            raise InvalidOptionError(
                f"'{key}' in {source_names.credentials} is an unknown key{close}."
            )


def _suggestion(name: str, names: Sequence[str]) -> str:
    # difflib's own upper bound of the ratio, from the lengths alone, before it prepares its tables.
    longest, shortest = len(name) * (2 - _CLOSE), len(name) * _CLOSE
    near = [
        each
        for each in names
        if len(each) * _CLOSE <= longest and shortest <= len(each) * (2 - _CLOSE)
    ]
    if not near:
        return ""
    import difflib  # only imported for a key that may be misspelt

    close = difflib.get_close_matches(name, near, n=1, cutoff=_CLOSE)
    return f", did you mean '{close[0]}'?" if close else ""


def convert(option: Option, value: Any, place: str) -> Any:
    """Return a value in the type that an option declares, and a credential without surrounding white space.

    No message repeats the value: a secret may be in the wrong place.

    Args:
        option: The declared option.
        value: The given value, not None.
        place: The place it was given in, for the message.

    Raises:
        InvalidOptionError: The value is empty, has the wrong type, is none of the choices, or has
            white space that its service may treat as part of it.
    """
    if option.in_credentials and isinstance(value, str):
        value = _strip(option, value, place)
    converted = _parse(option.type, value)
    if converted is None:
        if isinstance(value, str) and not value.strip():
            raise InvalidOptionError(
                f"'{option.name}' in {place} is empty: write a value, or leave the option out."
            )
        kinds = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            str: "text",
            list: "a list",
            dict: "a mapping",
        }
        raise InvalidOptionError(
            f"'{option.name}' in {place} must be {kinds.get(option.type, option.type.__name__)}."
        )
    if option.choices and converted not in option.choices:
        allowed = [str(choice) for choice in option.choices]
        raise InvalidOptionError(
            f"'{option.name}' in {place} must be one of {', '.join(allowed)}"
            f"{_suggestion(str(converted), allowed)}."
        )
    return converted


def _strip(option: Option, value: str, place: str) -> str:
    """Return a credential without the surrounding white space that a shell or an editor has added."""
    stripped = value.strip()
    if stripped != value and not option.strip:
        raise InvalidOptionError(
            f"'{option.name}' in {place} begins or ends with white space, such as the line break that "
            "an editor adds: remove it."
        )
    if not option.multiline and any(ord(each) < 32 or ord(each) == 127 for each in stripped):
        raise InvalidOptionError(
            f"'{option.name}' in {place} has a line break or another control character in it: copy it "
            "again as one line."
        )
    return stripped


def _parse(kind: type, value: Any) -> Any:
    """Convert a value; None if it cannot be converted."""
    if kind is bool:
        if isinstance(value, str):
            word = value.strip().lower()
            return True if word in _TRUE else False if word in _FALSE else None
        return value if isinstance(value, bool) else None
    if kind in (list, dict):
        return _parse_json(kind, value) if isinstance(value, str) else _of_kind(kind, value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if kind is str:
        # YAML reads an unquoted ID or token of digits as a number; it was meant as text.
        return str(value) or None
    try:
        return kind(value)
    except (ValueError, OverflowError):
        return None


def _parse_json(kind: type, text: str) -> Any:
    """Parse a list or a mapping from JSON, as in a variable or a flag."""
    import json

    try:
        return _of_kind(kind, json.loads(text))
    except ValueError:
        return None


def _of_kind(kind: type, value: Any) -> Any:
    """Return a plain list or dict for any sequence or mapping (YAML loaders have their own), else None."""
    if kind is dict:
        return dict(value) if isinstance(value, Mapping) else None
    return (
        list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else None
    )
