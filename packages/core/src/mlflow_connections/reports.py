"""What a command line shows of connections: rows to render, and the question whether a server answers.

Shared by `mlflow-connections`, `kedro mlflow-connections` and whoever brings a command of its own.
Rows are plain dictionaries of text, true, false, numbers and None; secrets are masked in them.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ._connection import Connection
from ._errors import ConnectionsError, MissingDependencyError, UnreachableError
from ._resolve import Endpoint, resolve
from ._use import Applied
from .discovery import installed_connections, is_reserved
from .options import declared_options, read_options
from .secrets import explain, looks_secret, mask_uri, masker, remember

__all__ = [
    "ProbeResult",
    "Row",
    "connection_rows",
    "option_rows",
    "probe",
    "probe_endpoint",
    "table",
]

Row = dict[str, Any]
"""One line of a table: text, booleans, numbers and None by column."""

# One try and a short wait, where the user has set nothing: MLflow's own defaults retry for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def connection_rows() -> list[Row]:
    """Give a row per registered keyword; nothing is imported for it."""
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
) -> list[Row]:
    """Give a row per declared option: its value, and where that comes from now.

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
        for reading in read_options(declared_options(connection), credentials or {}, options or {})
    ]


class ProbeResult(NamedTuple):
    """A server that answered.

    Attributes:
        tracking_uri: Where, with secrets masked.
        registry_uri: Where the registry is asked for, masked; None where it is left to MLflow.
        resolve_seconds: From the keyword to the URI.
        answer_seconds: From the question to the server's answer, MLflow's import not counted.
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
    tracking: str,
    credentials: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    registry: str | None = None,
) -> ProbeResult:
    """Resolve, and ask the server for one experiment. What was set before is put back.

    Raises:
        ConnectionsError: What `resolve` raises.
        MissingDependencyError: MLflow is not installed.
        UnreachableError: The server did not answer, or refused; the message says how.
    """
    started = time.perf_counter()
    endpoint = resolve(tracking, credentials, options, registry=registry)
    resolved = time.perf_counter() - started
    return probe_endpoint(endpoint, resolved)


def probe_endpoint(
    endpoint: Endpoint, resolve_seconds: float, secrets: Sequence[Any] = ()
) -> ProbeResult:
    """Ask the server of an endpoint for one experiment. What was set before is put back.

    Args:
        endpoint: Where to ask.
        resolve_seconds: How long it took to find out.
        secrets: Values that the message of an error must not show.

    Raises:
        MissingDependencyError: MLflow is not installed.
        UnreachableError: The server did not answer, or refused; the message says how.
    """
    remember(*secrets)
    remember(*(value for name, value in endpoint.environment.items() if looks_secret(name)))
    with Applied(endpoint), _patience():
        shown = mask_uri(endpoint.tracking_uri)
        client = _client_class()
        asked = time.perf_counter()
        try:
            client(endpoint.tracking_uri).search_experiments(max_results=1)
        except ConnectionsError:
            raise
        except Exception as error:  # noqa: BLE001 - stores raise whatever their clients raise
            raise UnreachableError(
                f"{shown} did not answer as an MLflow server does: {explain(error)}"
            ) from None
        return ProbeResult(
            shown,
            None if endpoint.registry_uri is None else mask_uri(endpoint.registry_uri),
            resolve_seconds,
            time.perf_counter() - asked,
        )


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
    """Lay rows out as a table for people, its last column wrapped to the terminal.

    Args:
        rows: All with the same keys.
        columns: Which keys, in order; by default those with any value in them.
        width: In characters; by default the terminal's.
    """
    import textwrap

    if not rows:
        return ""
    hide = masker()  # before the text is wrapped: half a secret would not be found
    cells = [{key: hide(_text(value)) for key, value in row.items()} for row in rows]
    names = list(columns or (k for k in rows[0] if any(r[k] for r in cells)))
    widths = [max(len(n), *(len(r[n]) for r in cells)) for n in names]
    room = (
        (width or shutil.get_terminal_size((120, 24)).columns) - sum(widths[:-1]) - 2 * len(names)
    )
    widths[-1] = min(widths[-1], max(room, 24))
    lines = [_line(names, widths), _line(["-" * w for w in widths], widths)]
    for row in cells:
        last = textwrap.wrap(row[names[-1]], widths[-1]) or [""]
        lines.append(_line([*(row[n] for n in names[:-1]), last[0]], widths))
        lines += [_line([""] * (len(names) - 1) + [more], widths) for more in last[1:]]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else str(value)
