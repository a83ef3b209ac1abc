"""The tracking URI of a bridge, and artifact URIs on its stage."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from mlflow_connections import InvalidOptionError
from mlflow_connections_snowflake._config import BridgeConfig
from mlflow_connections_snowflake._functions import FUNCTIONS
from mlflow_connections_snowflake._names import Identifier, name, stage

SCHEME = "snowflake"
"""The scheme of the URIs of a bridge."""
FLUSH_SECONDS = 5.0
"""The default time that a logged value waits for others, in seconds."""

_STAGE, _UPLOADS = "MLFLOW_STAGE", "MLFLOW_UPLOADS"
_PLACES = ("schema", "stage", "uploads", "location", "connection", "flush_seconds", "burst", "root")


@dataclass(frozen=True)
class Bridge:
    """The external functions and stages of a bridge.

    Attributes:
        functions: The name of each external function, by its key.
        stage: The stage of the artifacts.
        uploads: The internal stage through which files pass to and from an external `stage`; None
            if `stage` is internal itself.
        location: The URL of the external stage: `s3://…/`, `gcs://…/` or `azure://…/`.
        connection: A connection in `connections.toml`; None for the active session, or the
            environment's parameters.
        flush_seconds: The maximum age of a logged value before the next call sends it; 0 sends
            everything at once.
        burst: The number of batches that are sent although no value has waited so long, so that a
            process that logs rarely holds nothing back. One more every `flush_seconds`.
        root: The part of MLflow's own artifact URI before the path on the stage.
    """

    functions: Mapping[str, Identifier] = field(hash=False)
    stage: Identifier
    uploads: Identifier | None = None
    location: str = ""
    connection: str | None = None
    flush_seconds: float = FLUSH_SECONDS
    burst: int = 0
    root: str = ""

    @classmethod
    def of(cls, setup: BridgeConfig, **changed: Any) -> "Bridge":
        """Return the bridge of a configuration.

        Args:
            setup: The configuration.
            changed: Attributes with other values.
        """
        storage = setup.storage
        given: dict[str, Any] = {"functions": dict(setup.functions), "stage": setup.stage}
        if storage:
            given |= {"uploads": storage.internal_stage, "location": storage.location}
        return cls(**(given | changed))

    @classmethod
    def named(cls, database_and_schema: Identifier | None, **changed: Any) -> "Bridge":
        """Return a bridge whose functions and stages have their default names.

        Args:
            database_and_schema: Their database and schema; None leaves them to the session.
            changed: Attributes with other values.
        """
        given: dict[str, Any] = {
            "functions": {
                function.key: _inside(database_and_schema, function.default_name)
                for function in FUNCTIONS
            },
            "stage": _inside(database_and_schema, _STAGE),
        }
        if changed.get("location"):
            given["uploads"] = _inside(database_and_schema, _UPLOADS)
        return cls(**(given | changed))

    @classmethod
    def from_uri(cls, uri: str) -> "tuple[Bridge, str]":
        """Parse a `snowflake:` URI into its bridge and artifact path, which is empty for tracking URIs.

        Raises:
            InvalidOptionError: It has an unknown part, or a part that is not a name.
        """
        parts = urlsplit(uri)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = [key for key in given if key not in {*_PLACES, *(f.key for f in FUNCTIONS)}]
        if parts.scheme != SCHEME or parts.netloc or unknown:
            what = f"the unknown {', '.join(map(repr, unknown))}" if unknown else "a host"
            raise InvalidOptionError(
                f"The tracking URI {SCHEME}:// has {what}. Let the connection '{SCHEME}' write it, or "
                "mlflow_connections_snowflake.store.Bridge.uri()."
            )
        where = f"the URI's {{}}, {SCHEME}://?{{}}=…"
        changed: dict[str, Any] = {
            key: stage(given[key], where.format(key, key))
            for key in ("stage", "uploads")
            if given.get(key)
        }
        changed |= {key: given[key] for key in ("location", "connection", "root") if given.get(key)}
        if given.get("flush_seconds"):
            changed["flush_seconds"] = _seconds(given["flush_seconds"])
        if given.get("burst"):
            changed["burst"] = _count(given["burst"])
        home = (
            name(given["schema"], where.format("schema", "schema"), 2)
            if "schema" in given
            else None
        )
        bridge = cls.named(home, **changed)
        functions = {
            key: name(given[key], where.format(key, key)) if key in given else default
            for key, default in bridge.functions.items()
        }
        return bridge.changed(functions=functions), unquote(parts.path.lstrip("/"))

    def changed(self, **changed: Any) -> "Bridge":
        """Return the same bridge with other values."""
        return type(self)(**({**self.__dict__} | changed))

    def uri(self, path: str = "") -> str:
        """Return the tracking URI, or with a path the URI of an artifact on the stage."""
        first = self.functions["run_create"]
        home = Identifier(first.parts[:-1]) if len(first.parts) > 1 else None
        plain = self.named(home, location=self.location)
        query: dict[str, str] = {} if home is None else {"schema": str(home)}
        if self.stage != plain.stage:
            query["stage"] = str(self.stage)
        if self.uploads is not None and self.uploads != plain.uploads:
            query["uploads"] = str(self.uploads)
        texts = {"location": self.location, "connection": self.connection, "root": self.root}
        query |= {key: text for key, text in texts.items() if text}
        if self.flush_seconds != FLUSH_SECONDS:
            query["flush_seconds"] = f"{self.flush_seconds:g}"
        if self.burst:
            query["burst"] = str(self.burst)
        query |= {
            key: str(function)
            for key, function in self.functions.items()
            if function != plain.functions[key]
        }
        place = f"/{quote(path)}" if path else ""
        return f"{SCHEME}://{place}" + (f"?{urlencode(query)}" if query else "")


def _inside(home: Identifier | None, object_name: str) -> Identifier:
    return Identifier(((*home.parts,) if home else ()) + (object_name,))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidOptionError(f"flush_seconds is {text!r}, not a number of seconds from 0 on.")
    return seconds


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise InvalidOptionError(f"burst is {text!r}, not a number from 0 on.")
    return int(text)


def on_stage(bridge: Bridge, uri: str) -> str:
    """Return the URI on the stage for MLflow's own URI of an artifact.

    If the artifact is not on the stage, the result has no path and is refused on use: a procedure
    that only logs metrics must not fail.

    Args:
        bridge: The bridge, whose `location` is that of the stage.
        uri: MLflow's URI: `mlflow-artifacts:/…` if the server keeps artifacts, or the cloud's.
    """
    if not uri or urlsplit(uri).scheme == "snowflake":
        return uri
    for root in _roots(bridge, uri):
        if uri.startswith(root):
            path = uri[len(root) :].strip("/")
            # MLflow quotes the paths of its own scheme only.
            plain = unquote(path) if root.startswith("mlflow-artifacts:") else path
            return bridge.changed(root=root).uri(plain)
    return bridge.changed(root=uri).uri()


def original(bridge: Bridge, path: str) -> str:
    """Return MLflow's own URI of a path on the stage, the inverse of `on_stage`."""
    return bridge.root + path


def _roots(bridge: Bridge, uri: str) -> list[str]:
    """Return the beginnings of MLflow's URIs of artifacts on the stage."""
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts":
        # With or without the server's name: mlflow-artifacts:/…, mlflow-artifacts://host:5000/….
        match = re.match(r"mlflow-artifacts:(//[^/]*)?/+", uri)
        return [match[0]] if match else []
    if not bridge.location:
        # MLflow does not know an internal stage: only the path must be the same each time.
        match = re.match(r"[\w+.-]+:(//[^/]*)?/+|/+", uri)
        return [match[0]] if match else []
    scheme, _, rest = bridge.location.partition("://")
    if scheme == "azure":
        account, _, path = rest.partition("/")
        container, _, below = path.partition("/")
        lake = account.replace(".blob.", ".dfs.")
        return [f"wasbs://{container}@{account}/{below}", f"abfss://{container}@{lake}/{below}"]
    return [{"gcs": "gs", "s3gov": "s3"}.get(scheme, scheme) + "://" + rest]
