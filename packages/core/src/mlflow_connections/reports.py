"""Reports on connections for command lines: rows to render, and a server's response.

Shared by `mlflow-connections`, `kedro mlflow-connections` and the commands of other distributions.
Rows are plain dictionaries of text, booleans, numbers and None, in which secrets are masked.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ._connection import Connection
from ._endpoint import Endpoint
from ._errors import ConnectionsError, InvalidOptionError, MissingDependencyError, UnreachableError
from ._resolve import (
    DEFAULT,
    find_or_suggest,
    named_connection,
    names_with,
    refuse_for_a_uri,
    refuse_written_secrets,
    resolve,
)
from ._use import Applied
from .deadline import Deadline
from .discovery import (
    MLFLOW_WORDS,
    installed_connections,
    is_keyword,
    is_reserved,
    names_connection,
)
from .options import (
    DEFAULT_SOURCE_NAMES,
    SourceNames,
    declared_options,
    read_options,
    refuse_misplaced,
)
from .secrets import MASK, explain, mask_uri, masker, remember, secret_values

if TYPE_CHECKING:
    from .named import NamedConnection

__all__ = [
    "ProbeResult",
    "Row",
    "connection_rows",
    "describe",
    "named_rows",
    "option_rows",
    "probe",
    "probe_endpoint",
    "table",
]

Row = dict[str, Any]
"""One line of a table: text, booleans, numbers and None by column."""

# One retry and a short wait, unless the user has set them: the defaults of MLflow and of its
# clients retry for minutes, and a refusal is more informative than a deadline.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": "5",
}

_GAP = "  "
_NARROW = 20  # in characters; values are not made narrower


def connection_rows() -> list[Row]:
    """Read one row per registered keyword, without importing connections."""
    found = installed_connections()
    owners = Counter(f.keyword for f in found if not is_reserved(f))
    return [
        {
            "keyword": f.keyword,
            "distribution": f.distribution,
            "version": f.version,
            "target": f.target,
            "note": "MLflow's own word: not used"
            if is_reserved(f)
            else "owned twice: uninstall one"
            if owners[f.keyword] > 1
            else "",
        }
        for f in found
    ]


def option_rows(
    connection: Connection,
    credentials: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    source_names: SourceNames = DEFAULT_SOURCE_NAMES,
) -> list[Row]:
    """Read one row per declared option: its current value, and the source of that.

    Raises:
        InvalidOptionError: A value has the wrong type or is none of the choices.
    """
    return [
        {
            "option": reading.option.name,
            "value": reading.shown,
            "from": reading.source or ("missing" if reading.option.required else "not set"),
            "variable": reading.option.env or "",
            "place": "credentials" if reading.option.in_credentials else "options",
            "required": reading.option.required,
            "help": reading.option.help,
        }
        for reading in read_options(
            declared_options(connection),
            credentials or {},
            options or {},
            source_names=source_names,
        )
    ]


def named_rows() -> list[Row]:
    """Read one row per named connection of the connections files, without reading its secrets.

    Raises:
        InvalidOptionError: A file is invalid.
    """
    from .named import named_connections

    keywords = {f.keyword for f in installed_connections()} | MLFLOW_WORDS
    return [
        {
            "name": named.name,
            "connection": mask_uri(named.tracking),
            "file": named.file,
            "note": "also a keyword: rename it" if named.name in keywords else "",
        }
        for named in named_connections()
    ]


def describe(
    tracking: str = DEFAULT,
    options: Mapping[str, Any] | None = None,
    source_names: SourceNames = DEFAULT_SOURCE_NAMES,
) -> Row:
    """Return the known facts about a keyword or a named connection before it is resolved.

    Variables and files are read, but no command is run and no keyring is opened.

    Returns:
        `title`, a line for people; `keyword`, `target`, `distribution` and `version` of the connection, None for a URI;
        `name` and `place` of a named connection, else None; `options`, the rows of `option_rows`.

    Raises:
        ConnectionsError: The errors of `resolve`, except for missing options.
    """
    from .named import SecretSource, default_connection

    tracking = default_connection() if tracking == DEFAULT else tracking
    options = options or {}
    named = named_connection(tracking)
    keyword = named.tracking if named else tracking
    title = f"{named.name}: {named.place}\n" if named else ""
    found: Row = {
        "name": named.name if named else None,
        "place": named.place if named else None,
        **dict.fromkeys(("keyword", "target", "distribution", "version")),
    }
    if named:
        refuse_written_secrets(named)
        source_names = names_with(named, source_names, given=bool(options))
    if not is_keyword(keyword) or (named and not names_connection(keyword)):
        if named is None:
            raise InvalidOptionError(
                f"{mask_uri(tracking)!r} is a URI or path, which has no options to show."
            )
        refuse_for_a_uri(keyword, named.credentials, {**named.options, **options}, source_names)
        rows = [_named_row(key, value, named) for key, value in named.credentials.items()]
        return {"title": f"{title}{mask_uri(keyword)}", **found, "options": rows}
    connection = find_or_suggest(keyword)
    owner = next(f for f in installed_connections() if f.keyword == keyword and not is_reserved(f))
    title += f"{owner.keyword}: {owner.target}, from {owner.distribution} {owner.version}"
    found |= {
        name: getattr(owner, name) for name in ("keyword", "target", "distribution", "version")
    }
    credentials: Mapping[str, Any] = named.credentials if named else {}
    written: Mapping[str, Any] = named.options if named else {}
    refuse_misplaced(
        declared_options(connection), credentials, {**written, **options}, source_names
    )
    rows = option_rows(
        connection, _plain(credentials), {**_plain(written), **options}, source_names
    )
    if named:
        known = {**named.options, **named.credentials}
        for row in rows:
            if row["option"] in known and row["option"] not in options:
                value = known[row["option"]]
                said = _named_row(row["option"], value, named)
                row["from"] = said["from"]
                if isinstance(value, SecretSource | Mapping):
                    row["value"] = said["value"]
    return {"title": title, **found, "options": rows}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are written in a file, without those that have a source."""
    from .named import is_written_out

    return {k: v for k, v in values.items() if is_written_out(v) and not isinstance(v, Mapping)}


def _named_row(key: str, value: Any, named: "NamedConnection") -> Row:
    """Return a file's value for a key in displayable form, and its source."""
    from .named import SecretSource

    if isinstance(value, Mapping):
        return {"option": key, "value": MASK, "from": Path(named.file).name}
    if not isinstance(value, SecretSource):
        return {"option": key, "value": mask_uri(str(value)), "from": Path(named.file).name}
    if value.has_effects:
        return {"option": key, "value": MASK, "from": value.shown}
    try:
        value.read(key, named.file)
    except ConnectionsError:
        return {"option": key, "value": "", "from": f"{value.shown}: missing"}
    return {"option": key, "value": MASK, "from": value.shown}


class ProbeResult(NamedTuple):
    """The response of a server.

    Attributes:
        tracking_uri: The URI of the request, with secrets masked.
        registry_uri: The registry's URI, masked; None if it is left to MLflow.
        resolve_seconds: The time from the keyword to the URI.
        answer_seconds: The time of one request. It is measured with a second request: during the
            first one MLflow imports half of its modules and its client signs in.
    """

    tracking_uri: str
    registry_uri: str | None
    resolve_seconds: float
    answer_seconds: float

    @property
    def sentence(self) -> str:
        """The same for people."""
        return (
            f"{self.tracking_uri} answered in {self.answer_seconds:.2f} s "
            f"(and took {self.resolve_seconds:.2f} s to resolve)."
        )


def probe(
    tracking: str = DEFAULT,
    credentials: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    registry: str | None = None,
    source_names: SourceNames = DEFAULT_SOURCE_NAMES,
    timeout: float | None = None,
) -> ProbeResult:
    """Resolve a connection and request one experiment. MLflow's state is restored afterwards.

    Args:
        tracking: As for `resolve`.
        credentials: As for `resolve`.
        options: As for `resolve`.
        registry: As for `resolve`.
        source_names: As for `resolve`.
        timeout: The time limit for resolving and all requests together, in seconds; None waits as
            long as the clients do.

    Raises:
        ConnectionsError: The errors of `resolve`.
        MissingDependencyError: MLflow is not installed.
        UnreachableError: The server refused or did not respond in time; the message contains the
            reason, or the request that timed out.
    """
    deadline = Deadline(timeout)
    started = time.perf_counter()
    shown = DEFAULT if tracking == DEFAULT else mask_uri(str(tracking))
    endpoint = deadline.call(
        f"the service of '{shown}' while resolving it",
        lambda: resolve(
            tracking, credentials, options, registry=registry, source_names=source_names
        ),
    )
    resolved = time.perf_counter() - started
    return probe_endpoint(endpoint, resolved, deadline=deadline)


_CHECK_SECONDS = 10.0
"""The time for `Binder.check`, in seconds."""


def probe_endpoint(
    endpoint: Endpoint,
    resolve_seconds: float,
    secrets: Sequence[Any] = (),
    deadline: Deadline | None = None,
) -> ProbeResult:
    """Request one experiment from the server of an endpoint. MLflow's state is restored afterwards.

    Args:
        endpoint: The endpoint.
        resolve_seconds: The time that it took to resolve it.
        secrets: Values that the message of an error must not show.
        deadline: For the requests; by default they take as long as the clients wait.

    Raises:
        MissingDependencyError: MLflow is not installed.
        UnreachableError: The server refused or did not respond in time; the message contains the
            reason.
    """
    deadline = deadline or Deadline(None)
    remember(*secrets)
    remember(*secret_values(endpoint.environment))
    with Applied(endpoint), _patience():
        shown = mask_uri(endpoint.tracking_uri)
        client_class = _client_class()

        def request() -> float:
            for binder in endpoint.binders:
                check = getattr(binder, "check", None)
                if check is not None:
                    check(_CHECK_SECONDS)
            client = client_class(endpoint.tracking_uri)
            client.search_experiments(max_results=1)
            begun = time.perf_counter()
            client.search_experiments(max_results=1)
            return time.perf_counter() - begun

        try:
            seconds = deadline.call(f"the answer of {shown}{_host_behind(endpoint)}", request)
        except ConnectionsError:
            raise
        except Exception as error:  # noqa: BLE001 - stores raise any error of their clients
            raise UnreachableError(
                f"{shown}{_host_behind(endpoint)} did not answer as an MLflow server does: {explain(error)}"
            ) from None
        return ProbeResult(
            shown,
            None if endpoint.registry_uri is None else mask_uri(endpoint.registry_uri),
            resolve_seconds,
            seconds,
        )


def _host_behind(endpoint: Endpoint) -> str:
    """Return the host of a URI without one, such as `databricks`, from its variables."""
    if "://" in endpoint.tracking_uri:
        return ""
    variables = {**os.environ, **endpoint.environment}
    name = f"{endpoint.tracking_uri.upper()}_HOST"
    return f" ({name}={mask_uri(variables[name])})" if variables.get(name) else ""


def _client_class() -> Any:
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise MissingDependencyError(
            "MLflow is not installed here, so no server can be asked: pip install mlflow-skinny."
        ) from None
    return MlflowClient


@contextmanager
def _patience() -> Iterator[None]:
    ours = [name for name in _PATIENCE if name not in os.environ]
    os.environ.update({name: _PATIENCE[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def table(
    rows: Sequence[Row], columns: Iterable[str] | None = None, width: int | None = None
) -> str:
    """Format rows as a table for people, with cells wrapped to fit the terminal.

    If columns would become too narrow to read, each row is a paragraph instead.

    Args:
        rows: The rows, all with the same keys.
        columns: The keys to show, in order, by default all. One without a value in any row is
            omitted.
        width: The width in characters; by default the terminal's.
    """
    import textwrap

    if not rows:
        return ""
    hide = masker()  # before the text is wrapped: half of a secret would not be recognized
    names = [k for k in columns or rows[0] if any(_text(row.get(k)) for row in rows)]
    cells = [[hide(_text(row.get(name))) for name in names] for row in rows]
    columns_of = list(zip(names, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns_of]
    room = (width or shutil.get_terminal_size((120, 24)).columns) - len(_GAP) * (len(names) - 1)
    # No word is broken: people copy names and variables.
    least = [max(map(_longest_word, column)) for column in columns_of]
    if sum(least) > room:
        return _paragraphs(cells, names, room)
    while sum(widths) > room:
        widest = max(range(len(names)), key=lambda at: (widths[at] - least[at], widths[at]))
        widths[widest] -= 1
    lines = []
    for row in (names, ["-" * w for w in widths], *cells):
        wrapped = [
            textwrap.wrap(cell, w, break_on_hyphens=False) or [""]
            for cell, w in zip(row, widths, strict=True)
        ]
        lines += [_line(parts, widths) for parts in zip_longest(*wrapped, fillvalue="")]
    return "\n".join(lines)


def _paragraphs(cells: Sequence[Sequence[str]], names: Sequence[str], room: int) -> str:
    """Format each row as lines of a name and a value."""
    import textwrap

    indent = max(map(len, names)) + len(_GAP)
    lines: list[str] = []
    for row in cells:
        for name, cell in zip(names, row, strict=True):
            words = textwrap.wrap(cell, max(room - indent, _NARROW), break_long_words=False)
            lines += [f"{name if not at else '':<{indent}}{w}" for at, w in enumerate(words)]
        lines.append("")
    return "\n".join(lines[:-1])


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else str(value)
