"""Parse PUT, GET, LIST, REMOVE and COPY FILES."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow_connections_sandbox._snowflake._errors import Name, compilation

from ._clauses import read_clauses
from ._reader import SqlReader

_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "PUT": {
        "PARALLEL": "integer",
        "AUTO_COMPRESS": "boolean",
        "SOURCE_COMPRESSION": "word",
        "OVERWRITE": "boolean",
    },
    "GET": {"PARALLEL": "integer", "PATTERN": "string"},
    "LIST": {"PATTERN": "string"},
    "REMOVE": {"PATTERN": "string"},
    "COPY FILES": {"FILES": "strings", "PATTERN": "string", "DETAILED_OUTPUT": "boolean"},
}
MAX_FILES = 1000
"""The maximum number of names in FILES of COPY FILES."""
_VERBS = {
    "PUT": "PUT",
    "GET": "GET",
    "LIST": "LIST",
    "LS": "LIST",
    "REMOVE": "REMOVE",
    "RM": "REMOVE",
}


@dataclass(frozen=True)
class StageRef:
    """A location on a stage: the name of the stage as written, and the path on it."""

    name: Name
    path: str


@dataclass(frozen=True)
class FileCommand:
    """A statement about files.

    Attributes:
        verb: PUT, GET, LIST, REMOVE or COPY FILES.
        stage: The stage; the target of COPY FILES.
        source: The source of COPY FILES.
        query: The query of COPY FILES that returns the files, and their new names in a second column.
        local: The client's path for PUT and GET.
        options: The other clauses.
    """

    verb: str
    stage: StageRef
    source: StageRef | None = None
    local: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""


def parse_file_command(reader: SqlReader, bound: str | None = None) -> FileCommand | None:
    """Parse a statement about the files of a named stage, or return None for another statement.

    Args:
        reader: At the beginning of the statement.
        bound: The bound value that replaces `?` in place of a stage.

    Raises:
        SqlError: The syntax is invalid, or the stand-in does not support this form.
    """
    if reader.accept("COPY", "FILES"):
        reader.expect("INTO")
        target = _stage(reader, bound)
        reader.expect("FROM")
        if reader.word() == "(":
            query = reader.parenthesized()
            found = read_clauses(reader, {"DETAILED_OUTPUT": "boolean"}, "COPY FILES")
            return FileCommand("COPY FILES", target, options=found, query=query)
        source = _stage(reader, bound)
        options = _options(reader, "COPY FILES")
        if len(options.get("FILES", ())) > MAX_FILES:
            raise compilation(f"COPY FILES takes no more than {MAX_FILES} FILES.", 1008)
        return FileCommand("COPY FILES", target, source, options=options)
    verb = _VERBS.get(reader.word())
    if verb is None:
        return None
    reader.accept(reader.word())
    if verb == "PUT":
        local = _local(reader)
        return FileCommand(verb, _stage(reader, bound), local=local, options=_options(reader, verb))
    stage = _stage(reader, bound)
    local = _local(reader) if verb == "GET" else ""
    return FileCommand(verb, stage, local=local, options=_options(reader, verb))


def parse_stage(text: str) -> StageRef:
    """Parse a reference such as `@db.schema."My stage"/a/b`.

    Raises:
        SqlError: The text is not a reference to a stage.
    """
    if not text.startswith("@"):
        raise compilation(f"'{text}' is no stage: a stage begins with @.")
    quoted = False
    end = len(text)
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == "/" and not quoted:
            end = index
            break
    name, path = text[1:end], text[end + 1 :]
    if any(part == ".." for part in path.split("/")):
        raise compilation(f"The path '{path}' leaves the stage.")
    if name[:1] in {"~", "%"} or ".%" in name:
        return StageRef((name,), path)
    reader = SqlReader(name)
    parts = reader.name()
    reader.end()
    return StageRef(parts, path)


def _stage(reader: SqlReader, bound: str | None) -> StageRef:
    text = reader.run()
    if text == "?" and bound is not None:
        text = bound
    return parse_stage(text)


def _local(reader: SqlReader) -> str:
    text = reader.run()
    if not text.lower().startswith("file://"):
        raise compilation(f"'{text}' is no local file: it begins with file://.")
    return text[len("file://") :]


def _options(reader: SqlReader, verb: str) -> Mapping[str, Any]:
    return read_clauses(reader, _OPTIONS[verb], verb)
