"""The objects of an account, with their owners and clauses."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from mlflow_connections_sandbox._snowflake._errors import Name, already_exists, does_not_exist
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.sql._clauses import KINDS
from mlflow_connections_sandbox._snowflake.sql._statements import Parameter, Target
from mlflow_connections_sandbox._snowflake.sql._types import SqlType

Key = tuple[str, Name, tuple[str, ...] | None]


@dataclass
class CatalogEntry:
    """One object.

    Attributes:
        kind: Its full kind, such as EXTERNAL FUNCTION.
        key: Domain, full name and signature.
        owner: The owning role.
        parameters: The declared arguments.
        returns: The declared return type.
        properties: Its clauses, and the properties that the server added.
        created: The time of its creation.
    """

    kind: str
    key: Key
    owner: str
    parameters: tuple[Parameter, ...] = ()
    returns: SqlType | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    created: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def domain(self) -> str:
        """Return the kind as in grants."""
        return self.key[0]

    @property
    def name(self) -> Name:
        """Return the full name."""
        return self.key[1]


class Catalog:
    """All objects of an account, by domain, full name and signature."""

    def __init__(self) -> None:
        self._entries: dict[Key, CatalogEntry] = {}
        self._lock = threading.RLock()

    def key(self, target: Target, session: SqlSession) -> Key:
        """Return the key of an object that a session named."""
        levels = {kind.domain: kind.level for kind in KINDS.values()}
        level = levels.get(target.domain, "SCHEMA")
        if level == "SCHEMA":
            name = session.in_schema(target.name)
        elif level == "DATABASE":
            name = session.in_database(target.name)
        else:
            name = target.name
        return target.domain, name, target.signature

    def find(self, key: Key) -> CatalogEntry | None:
        """Return an object, or None if no object has this key."""
        return self._entries.get(key)

    def get(self, key: Key) -> CatalogEntry:
        """Return an object.

        Raises:
            SqlError: No object has this name.
        """
        entry = self._entries.get(key)
        if entry is None:
            raise does_not_exist(key[0], key[1])
        return entry

    def overloads(self, domain: str, name: Name) -> list[CatalogEntry]:
        """Return the functions or procedures of a name."""
        with self._lock:
            return [e for e in self._entries.values() if e.domain == domain and e.name == name]

    def add(self, entry: CatalogEntry, *, replace: bool = False) -> None:
        """Add a new object.

        Raises:
            SqlError: The name is taken, and `replace` is false.
        """
        with self._lock:
            if entry.key in self._entries and not replace:
                raise already_exists(entry.kind, entry.name)
            self._entries[entry.key] = entry

    def drop(self, key: Key) -> None:
        """Remove an object with everything inside it."""
        with self._lock:
            self._entries.pop(key, None)
            if key[0] in {"DATABASE", "SCHEMA"}:
                inside = [
                    k
                    for k in self._entries
                    if len(k[1]) > len(key[1]) and k[1][: len(key[1])] == key[1]
                ]
                for inner in inside:
                    del self._entries[inner]

    def __iter__(self) -> Iterator[CatalogEntry]:
        with self._lock:
            return iter(sorted(self._entries.values(), key=lambda e: (e.created, e.name)))
