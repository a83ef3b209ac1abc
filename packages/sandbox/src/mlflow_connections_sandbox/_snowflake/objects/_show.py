"""Execute DESCRIBE and SHOW."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_connections_sandbox._snowflake._errors import Name, does_not_exist, dotted
from mlflow_connections_sandbox._snowflake._results import Rows
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.sql._clauses import PLURALS
from mlflow_connections_sandbox._snowflake.sql._statements import Describe, Show, ShowGrants

from ._catalog import Catalog, CatalogEntry
from ._privileges import ACCOUNT_KEY, Privileges

_HIDDEN = frozenset(
    ("API_KEY", "SECRET_STRING", "PASSWORD", "OAUTH_REFRESH_TOKEN", "OAUTH_CLIENT_SECRET")
)
_CATEGORIES = {
    "API INTEGRATION": ("EXTERNAL_API", "API"),
    "STORAGE INTEGRATION": ("EXTERNAL_STAGE", "STORAGE"),
    "EXTERNAL ACCESS INTEGRATION": ("EXTERNAL_ACCESS", "EXTERNAL_ACCESS"),
    "SECURITY INTEGRATION": ("API_AUTHENTICATION", "SECURITY"),
}
_CLOUDS = {"s3:": "AWS", "s3gov:": "AWS", "gcs:": "GCP", "azure:": "AZURE"}


class Shows:
    """Executes the statements that list and describe objects."""

    def __init__(self, catalog: Catalog, access: Privileges) -> None:
        self._catalog = catalog
        self._access = access

    def describe(self, statement: Describe, session: SqlSession) -> Rows:
        """Describe an object.

        Raises:
            SqlError: It does not exist, or may not be seen.
        """
        entry = self._access.see(session, self._catalog.key(statement.target, session))
        if statement.kind not in {entry.kind, entry.domain}:
            raise does_not_exist(entry.domain, entry.name)
        if entry.domain == "INTEGRATION":
            return _describe_integration(entry)
        if entry.returns is not None:
            return _describe_callable(entry)
        rows = [[name, _shown(name, value)] for name, value in sorted(entry.properties.items())]
        return Rows(("property", "property_value"), rows)

    def show(self, statement: Show, session: SqlSession) -> Rows:
        """List the objects that the session may see.

        Raises:
            SqlError: The session may not see the requested database or schema.
        """
        kinds = PLURALS[statement.plural]
        within = self._within(statement, session)
        found = [
            e
            for e in self._catalog
            if e.kind in kinds
            and self._access.holds_any(session.role, e.key)
            and (len(e.name) < 3 or e.name[: len(within)] == within)
            and _is_like(e.name[-1], statement.like)
        ]
        if statement.plural == "ROLES":
            return self._roles(statement, session)
        row = _ROWS[kinds[0] if len(kinds) == 1 else found[0].kind if found else kinds[0]]
        made = [row(e) for e in found]
        columns = list(made[0]) if made else list(row(_EMPTY))
        return Rows(columns, [list(m.values()) for m in made], _types(columns))

    def grants(self, statement: ShowGrants, session: SqlSession) -> Rows:
        """List the grants on an object, to a role or a user, or of a role.

        Raises:
            SqlError: It does not exist, or may not be seen.
        """
        target = statement.target
        if statement.relation == "OF" and target is not None:
            return self._grants_of(target.name[0])
        if target is None or statement.relation == "TO":
            kind, name = (target.domain, target.name[0]) if target else ("ROLE", session.role)
            return self._grants_to(kind, name)
        key = ACCOUNT_KEY
        if target.domain != "ACCOUNT":
            key = self._access.see(session, self._catalog.key(target, session)).key
        return self._granted([e for e in self._catalog if e.key == key], lambda g: g.key == key)

    def _granted(self, owned: list[CatalogEntry], wanted: Callable[[Any], bool]) -> Rows:
        rows: list[list[Any]] = [
            [e.created, "OWNERSHIP", e.domain, _full(e), "ROLE", e.owner, True, e.owner]
            for e in owned
        ]
        for g in self._access.granted:
            if wanted(g):
                entry = self._catalog.find(g.key)
                name = _full(entry) if entry else "SANDBOX"
                created = entry.created if entry else None
                rows.append(
                    [
                        created,
                        g.privilege,
                        g.key[0],
                        name,
                        "ROLE",
                        g.role,
                        g.grant_option,
                        g.granted_by,
                    ]
                )
        columns = (
            *("created_on", "privilege", "granted_on", "name", "granted_to", "grantee_name"),
            *("grant_option", "granted_by"),
        )
        return Rows(columns, rows, _types(columns))

    def _grants_to(self, kind: str, name: str) -> Rows:
        holders = self._access.users if kind == "USER" else self._access.roles
        if name not in holders:
            raise does_not_exist(kind, name)
        if kind == "USER":
            rows = [[None, role, "USER", name, ""] for role in sorted(holders[name])]
            return Rows(("created_on", "role", "granted_to", "grantee_name", "granted_by"), rows)
        found = self._granted(
            [e for e in self._catalog if e.owner == name], lambda g: g.role == name
        )
        held = [
            [None, "USAGE", "ROLE", role, "ROLE", name, False, ""] for role in sorted(holders[name])
        ]
        return Rows(found.columns, [*found.rows, *held], found.types)

    def _grants_of(self, role: str) -> Rows:
        if role not in self._access.roles:
            raise does_not_exist("ROLE", role)
        rows = [
            [None, role, kind, name, ""]
            for kind, holders in (("ROLE", self._access.roles), ("USER", self._access.users))
            for name, held in sorted(holders.items())
            if role in held
        ]
        return Rows(("created_on", "role", "granted_to", "grantee_name", "granted_by"), rows)

    def _roles(self, statement: Show, session: SqlSession) -> Rows:
        rows: list[list[Any]] = []
        for role in sorted(self._access.roles):
            if "." not in role and _is_like(role, statement.like):
                entry = self._catalog.find(("ROLE", (role,), None))
                rows.append(
                    [
                        entry.created if entry else None,
                        role,
                        "Y" if role == session.role else "N",
                        entry.owner if entry else "",
                        _comment(entry),
                    ]
                )
        columns = ("created_on", "name", "is_current", "owner", "comment")
        return Rows(columns, rows, _types(columns))

    def _within(self, statement: Show, session: SqlSession) -> Name:
        if statement.is_account:
            return ()
        if statement.within is None:
            return tuple(p for p in (session.database, session.schema) if p is not None)
        name = statement.within
        if len(name) == 1 and self._catalog.find(("DATABASE", name, None)) is None:
            name = session.in_database(name)
        self._access.see(session, ("SCHEMA" if len(name) == 2 else "DATABASE", name, None))
        return name


def _describe_integration(entry: CatalogEntry) -> Rows:
    rows = []
    for name, value in sorted(entry.properties.items()):
        kind = (
            "Boolean"
            if isinstance(value, bool)
            else ("List" if isinstance(value, list) else "String")
        )
        rows.append([name, kind, _shown(name, value), "false" if kind == "Boolean" else ""])
    return Rows(("property", "property_type", "property_value", "property_default"), rows)


def _describe_callable(entry: CatalogEntry) -> Rows:
    signature = ", ".join(f"{p.name} {p.type.shown}" for p in entry.parameters)
    rows = [
        ["signature", f"({signature})"],
        ["returns", entry.returns.shown if entry.returns else ""],
        ["language", entry.properties.get("LANGUAGE", "EXTERNAL")],
        ["null handling", _NULLS[entry.properties.get("NULLS", "CALLED")]],
        ["volatility", entry.properties.get("VOLATILITY", "VOLATILE")],
        ["body", entry.properties.get("AS", "")],
    ]
    shown = {"LANGUAGE", "NULLS", "VOLATILITY", "AS"}
    for name, value in sorted(entry.properties.items()):
        if name not in shown:
            rows.append([name.lower(), _shown(name, value)])
    return Rows(("property", "value"), rows)


_NULLS = {"CALLED": "CALLED ON NULL INPUT", "STRICT": "RETURNS NULL ON NULL INPUT"}


def _shown(name: str, value: Any) -> str:
    if name in _HIDDEN:
        return "******"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{k}={_shown('', v)}" for k, v in value.items())
    if isinstance(value, tuple):
        return dotted(value)
    if isinstance(value, list):
        return ",".join(_shown("", v) for v in value)
    return str(value)


def _full(entry: CatalogEntry) -> str:
    name = dotted(entry.name)
    return name if entry.key[2] is None else f"{name}({', '.join(entry.key[2])})"


def _comment(entry: CatalogEntry | None) -> str:
    return str(entry.properties.get("COMMENT", "")) if entry else ""


def _is_like(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), name, re.IGNORECASE | re.DOTALL) is not None


def _types(columns: "list[str] | tuple[str, ...]") -> list[str]:
    kinds = {"created_on": "timestamp_ltz", "grant_option": "boolean"}
    return [kinds.get(column, "text") for column in columns]


def _integration_row(e: CatalogEntry) -> dict[str, Any]:
    kind, category = _CATEGORIES.get(e.kind, ("", ""))
    return {
        "name": e.name[-1],
        "type": kind,
        "category": category,
        "enabled": "true" if e.properties.get("ENABLED") else "false",
        "comment": _comment(e),
        "created_on": e.created,
    }


def _callable_row(e: CatalogEntry) -> dict[str, Any]:
    types = ", ".join(str(p.type) for p in e.parameters)
    return {
        "created_on": e.created,
        "name": e.name[-1],
        "schema_name": e.name[-2],
        "is_builtin": "N",
        "min_num_arguments": str(len(e.parameters)),
        "max_num_arguments": str(len(e.parameters)),
        "arguments": f"{e.name[-1]}({types}) RETURN {e.returns}",
        "description": _comment(e),
        "catalog_name": e.name[0],
        "is_external_function": "Y" if e.kind == "EXTERNAL FUNCTION" else "N",
        "language": e.properties.get("LANGUAGE", "EXTERNAL"),
    }


def _stage_row(e: CatalogEntry) -> dict[str, Any]:
    url = e.properties.get("URL", "")
    return {
        **_plain_row(e),
        "url": url,
        "type": "EXTERNAL" if url else "INTERNAL",
        "cloud": next((c for s, c in _CLOUDS.items() if url.startswith(s)), None),
        "storage_integration": dotted(e.properties.get("STORAGE_INTEGRATION", "")) or None,
    }


def _task_row(e: CatalogEntry) -> dict[str, Any]:
    p = e.properties
    return {
        **_plain_row(e),
        "warehouse": dotted(p.get("WAREHOUSE", "")) or None,
        "schedule": p.get("SCHEDULE"),
        "predecessors": "[" + ", ".join(f'"{dotted(n)}"' for n in p.get("AFTER", ())) + "]",
        "state": p.get("STATE", "suspended"),
        "definition": p.get("AS", ""),
    }


def _plain_row(e: CatalogEntry) -> dict[str, Any]:
    return {
        "created_on": e.created,
        "name": e.name[-1],
        "database_name": e.name[0] if len(e.name) == 3 else None,
        "schema_name": e.name[1] if len(e.name) == 3 else None,
        "owner": e.owner,
        "comment": _comment(e),
    }


_EMPTY = CatalogEntry("", ("", ("", "", ""), None), "")
_ROWS: Mapping[str, Callable[[CatalogEntry], dict[str, Any]]] = {
    **dict.fromkeys(_CATEGORIES, _integration_row),
    **dict.fromkeys(("EXTERNAL FUNCTION", "FUNCTION", "PROCEDURE"), _callable_row),
    "STAGE": _stage_row,
    "TASK": _task_row,
    **dict.fromkeys(("SECRET", "NETWORK RULE", "WAREHOUSE", "ROLE"), _plain_row),
}
