"""The command `init`: prompt for a connection and its options, write both files, check the result."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mlflow_connections import ConnectionsError, InvalidOptionError, MissingOptionError, Option
from mlflow_connections.discovery import find_connection, installed_connections
from mlflow_connections.options import SourceNames, declared_options, read_options

_TOP_LEVEL = re.compile(r"^(?P<key>[\w.-]+|\"[^\"]*\"|'[^']*')\s*:", re.MULTILINE)


def init_project(
    metadata: Any,
    keyword: str | None,
    given: Sequence[str],
    env: str | None,
    *,
    force: bool,
    ask: bool,
) -> None:
    """Write `server` of mlflow.yml and an entry of credentials.yml, then check them.

    Args:
        metadata: Kedro's `ProjectMetadata`.
        keyword: The connection's keyword, or None to prompt for it.
        given: Options as `NAME=VALUE`.
        env: The environment of mlflow.yml, or None for the base one.
        force: Replace an existing `server` section.
        ask: Prompt for missing values.

    Raises:
        ConnectionsError: The keyword or an option is invalid, a file is in the way, or the check
            failed.
    """
    from kedro.framework.project import settings

    folder = Path(metadata.project_path)
    conf = folder / settings.CONF_SOURCE
    arguments = settings.CONFIG_LOADER_ARGS
    base, local = arguments.get("base_env", "base"), arguments.get("default_run_env", "local")
    mlflow_yml = conf / (env or base) / "mlflow.yml"
    credentials_yml = conf / local / "credentials.yml"
    _refuse_existing(mlflow_yml, folder, force=force)

    keyword = keyword or _ask_keyword(ask=ask)
    declared = declared_options(find_connection(keyword))
    options = _options(declared, _pairs(given), ask=ask)
    secrets = [option for option in declared if option.in_credentials]
    entry = keyword if secrets else None
    _write(mlflow_yml, with_server(_text(mlflow_yml), server_section(keyword, options, entry)))
    click.echo(f"Written to {mlflow_yml.relative_to(folder).as_posix()}.")
    if entry:
        _write_entry(credentials_yml, folder, entry, secrets)
    _check(metadata, env, credentials_yml.relative_to(folder).as_posix())


def _refuse_existing(path: Path, folder: Path, *, force: bool) -> None:
    if not force and "server" in _sections(_text(path)):
        raise InvalidOptionError(
            f"{path.relative_to(folder).as_posix()} has a server section already: add --force to "
            "replace it, the rest of the file stays."
        )


def _ask_keyword(*, ask: bool) -> str:
    keywords = sorted({found.keyword for found in installed_connections()})
    if not keywords:
        raise MissingOptionError(
            "No connection is installed. Try: pip install mlflow-connections-databricks"
        )
    if not ask:
        raise MissingOptionError(f"--connection is missing; it takes one of {', '.join(keywords)}.")
    only = keywords[0] if len(keywords) == 1 else None
    answer: str = click.prompt("Connection", type=click.Choice(keywords), default=only)
    return answer


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise InvalidOptionError(f"--option takes NAME=VALUE, not '{name}'.")
        pairs[name] = value
    return pairs


def _options(declared: Sequence[Option], given: Mapping[str, str], *, ask: bool) -> dict[str, Any]:
    """Return the options to write: the given ones, and the answers to prompts for the others."""
    known = {option.name: option for option in declared}
    for name in given:
        if name in known and known[name].in_credentials:
            raise InvalidOptionError(
                f"'{name}' belongs in credentials.yml, for which a template is written: leave out "
                "this --option."
            )
        if known and name not in known:
            names = ", ".join(o.name for o in declared if not o.in_credentials) or "none"
            raise InvalidOptionError(
                f"'{name}' is not an option of this connection; it takes {names}."
            )
    options: dict[str, Any] = dict(given) if not known else {}
    for option in declared:
        if option.in_credentials:
            continue
        if option.name in given:
            options[option.name] = _converted(option, given[option.name])
        elif ask and (value := _ask_option(option)) is not None:
            options[option.name] = value
    return options


def _ask_option(option: Option) -> Any:
    """Prompt until the answer is valid; an empty answer to an optional question is None."""
    click.echo(f"\n{option.help}")
    if option.choices:
        click.echo(f"One of {', '.join(map(str, option.choices))}.")
    if option.env:
        click.echo(f"If it is left empty, {option.env} is read.")
    needed = option.required and option.default is None and not option.env
    default = "" if option.default is None else str(option.default)
    while True:
        answer = str(
            click.prompt(
                option.name, default=None if needed else default, show_default=bool(default)
            )
        ).strip()
        if not needed and answer in {"", default}:
            return None
        try:
            return _converted(option, answer)
        except ConnectionsError as error:
            click.echo(str(error))


def _converted(option: Option, text: str) -> Any:
    names = SourceNames(options="the answer", credentials="the answer")
    (value,) = read_options([option], {}, {option.name: text}, {}, names)
    return value.value


def server_section(keyword: str, options: Mapping[str, Any], entry: str | None) -> str:
    """Return the section `server` of mlflow.yml as text."""
    lines = ["server:", f"  tracking_uri: {keyword}"]
    if entry:
        lines.append(f"  credentials: {entry}  # an entry of credentials.yml")
    if options:
        lines.append("  connection:")
        lines += [f"    {name}: {_scalar(value)}" for name, value in options.items()]
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        return json.dumps(value)  # a quoted JSON string is also a YAML string
    if isinstance(value, str) and value.lower() in {
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "null",
    }:
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_server(text: str, section: str) -> str:
    """Return the text of mlflow.yml with a new section `server`, otherwise unchanged."""
    starts = [match.start() for match in _TOP_LEVEL.finditer(text)]
    for match in _TOP_LEVEL.finditer(text):
        if match["key"].strip("\"'") == "server":
            end = next((start for start in starts if start > match.start()), len(text))
            # Comments before the next section belong to that section.
            kept = re.search(r"(?:^[ \t]*(?:#.*)?\n)*\Z", text[match.start() : end], re.MULTILINE)
            end -= len(kept[0]) if kept and end < len(text) else 0
            return text[: match.start()] + section + text[end:]
    if not text.strip():
        return section
    return text.rstrip("\n") + "\n\n" + section


def _write_entry(path: Path, folder: Path, entry: str, secrets: Iterable[Option]) -> None:
    shown = path.relative_to(folder).as_posix()
    text = _text(path)
    if entry in _sections(text):
        click.echo(f"{shown} has an entry '{entry}' already; it stays.")
        return
    _write(
        path, (text.rstrip("\n") + "\n\n" if text.strip() else "") + entry_template(entry, secrets)
    )
    click.echo(f"A template of the entry '{entry}' is in {shown}.")


def entry_template(entry: str, secrets: Iterable[Option]) -> str:
    """Return an entry of credentials.yml without values: a key without one counts as absent."""
    lines = [f"{entry}:"]
    for option in secrets:
        variable = f" If it is left empty, {option.env} is read." if option.env else ""
        lines += [f"  # {option.help}{variable}", f"  {option.name}:"]
    return "\n".join(lines) + "\n"


def _check(metadata: Any, env: str | None, credentials: str) -> None:
    from mlflow_connections.deadline import CHECK_SECONDS

    from ._report import answer, read_project

    try:
        click.echo(answer(read_project(metadata, env), CHECK_SECONDS))
    except MissingOptionError as error:
        click.echo(f"Not checked yet: {error}")
        click.echo(f"Add it to {credentials}, then run: kedro mlflow-connections check")


def _sections(text: str) -> set[str]:
    return {match["key"].strip("\"'") for match in _TOP_LEVEL.finditer(text)}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
