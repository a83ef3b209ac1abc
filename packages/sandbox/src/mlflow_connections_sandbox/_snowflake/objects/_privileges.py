"""Roles and privileges: the visibility and use of objects; GRANT and REVOKE."""

import threading
from collections.abc import Iterable
from typing import NamedTuple

from mlflow_connections_sandbox._snowflake._errors import Name, does_not_exist, insufficient
from mlflow_connections_sandbox._snowflake._results import Rows, status
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.procedures._packages import USER_ROLES
from mlflow_connections_sandbox._snowflake.sql._clauses import PRIVILEGES
from mlflow_connections_sandbox._snowflake.sql._statements import Grant, GrantRole

from ._catalog import Catalog, CatalogEntry, Key

ACCOUNT_KEY: Key = ("ACCOUNT", (), None)

_BUILT_IN = {
    "ACCOUNTADMIN": ("SYSADMIN", "SECURITYADMIN"),
    "SECURITYADMIN": ("USERADMIN",),
    "SYSADMIN": ("PUBLIC",),
    "USERADMIN": ("PUBLIC",),
    "PUBLIC": ("SNOWFLAKE.PYPI_REPOSITORY_USER", "SNOWFLAKE.ANACONDA_REPOSITORY_USER"),
    "SNOWFLAKE.PYPI_REPOSITORY_USER": (),
    "SNOWFLAKE.ANACONDA_REPOSITORY_USER": (),
}
_BUILT_IN_PRIVILEGES = {
    "ACCOUNTADMIN": PRIVILEGES["ACCOUNT"],
    "SYSADMIN": ("CREATE DATABASE", "CREATE WAREHOUSE"),
    "SECURITYADMIN": ("MANAGE GRANTS",),
    "USERADMIN": ("CREATE ROLE", "CREATE USER"),
}


class Granted(NamedTuple):
    """One privilege of one role on one object."""

    privilege: str
    key: Key
    role: str
    grant_option: bool
    granted_by: str


class Future(NamedTuple):
    """A privilege on the future objects of a domain in a schema or database."""

    privilege: str
    domain: str
    within: tuple[str, ...]
    role: str


class Privileges:
    """The grants of an account. Secondary roles are not supported."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.RLock()
        self.roles: dict[str, set[str]] = {role: set(held) for role, held in _BUILT_IN.items()}
        self.users: dict[str, set[str]] = {}
        self.granted: list[Granted] = []
        self.future: list[Future] = []

    def effective(self, role: str) -> set[str]:
        """Return a role with all roles that it inherits."""
        found: set[str] = set()
        waiting = [role]
        while waiting:
            one = waiting.pop()
            if one not in found and one in self.roles:
                found.add(one)
                waiting += self.roles[one] | {"PUBLIC"}
        return found

    def may_use_role(self, user: str, role: str) -> bool:
        """Return whether a user may use a role."""
        return role == "PUBLIC" or any(
            role in self.effective(held) for held in self.users.get(user, ())
        )

    def holds(self, role: str, privilege: str, key: Key) -> bool:
        """Return whether a role has a privilege, directly or through a role that it inherits."""
        roles = self.effective(role)
        if key == ACCOUNT_KEY:
            if any(privilege in _BUILT_IN_PRIVILEGES.get(r, ()) for r in roles):
                return True
        else:
            entry = self._catalog.find(key)
            if entry is not None and entry.owner in roles:
                return True
        with self._lock:
            return any(
                g.key == key and g.role in roles and g.privilege == privilege for g in self.granted
            )

    def holds_any(self, role: str, key: Key) -> bool:
        """Return whether a role may see an object: it owns it, or has any privilege on it."""
        roles = self.effective(role)
        entry = self._catalog.find(key)
        if entry is not None and (entry.owner in roles or entry.kind == "ROLE"):
            return True
        with self._lock:
            return any(g.key == key and g.role in roles for g in self.granted)

    def see(self, session: SqlSession, key: Key) -> CatalogEntry:
        """Return an object that the session may see.

        Raises:
            SqlError: It does not exist, or the session's role has no privilege on it or may not use
                its database and schema.
        """
        self.enter(session, key)
        entry = self._catalog.get(key)
        if not self.holds_any(session.role, key):
            raise does_not_exist(key[0], key[1])
        return entry

    def require(self, session: SqlSession, privilege: str, key: Key) -> CatalogEntry:
        """Return an object on which the session has a privilege.

        Raises:
            SqlError: It does not exist, may not be seen, or the privilege is missing.
        """
        entry = self.see(session, key)
        if not self.holds(session.role, privilege, key):
            raise insufficient(key[0], key[1])
        return entry

    def own(self, session: SqlSession, key: Key) -> CatalogEntry:
        """Return an object that the session's role owns.

        Raises:
            SqlError: It does not exist, may not be seen, or belongs to another role.
        """
        entry = self.see(session, key)
        if entry.owner not in self.effective(session.role):
            raise insufficient(key[0], key[1])
        return entry

    def has_warehouse(self, session: SqlSession) -> bool:
        """Return whether the session has an active warehouse: it exists and the role may use it.

        An owner's-rights procedure runs on its caller's warehouse, whatever its owner may use.
        """
        if session.is_managed:
            return True
        if session.warehouse is None:
            return False
        key: Key = ("WAREHOUSE", (session.warehouse,), None)
        if session.rights == "OWNER":
            return self._catalog.find(key) is not None
        return self.holds(session.role, "USAGE", key)

    def require_repository(self, role: str, repository: Name) -> None:
        """Check that a role may use an artifact repository.

        Raises:
            SqlError: It neither holds nor inherits the repository's database role.
        """
        if USER_ROLES[repository] not in self.effective(role):
            raise insufficient("artifact repository", repository)

    def enter(self, session: SqlSession, key: Key) -> None:
        """Check that the session may use the database and schema of an object.

        Raises:
            SqlError: It may not, or they do not exist.
        """
        if len(key[1]) >= 2:
            self._use(session, ("DATABASE", key[1][:1], None))
        if len(key[1]) == 3:
            self._use(session, ("SCHEMA", key[1][:2], None))

    def _use(self, session: SqlSession, key: Key) -> None:
        if self._catalog.find(key) is None or not self.holds(session.role, "USAGE", key):
            raise does_not_exist(key[0], key[1])

    def allow(self, granted: Granted) -> None:
        """Add a grant, unless it exists."""
        with self._lock:
            same = [g for g in self.granted if g[:3] == granted[:3]]
            if not same or (granted.grant_option and not same[0].grant_option):
                self.granted = [g for g in self.granted if g not in same] + [granted]

    def forget(self, key: Key, role: str | None = None, privileges: Iterable[str] = ()) -> None:
        """Remove grants on an object: all of them, those of a role, or some of these."""
        wanted = set(privileges)
        with self._lock:
            self.granted = [
                g
                for g in self.granted
                if g.key != key
                or (role is not None and g.role != role)
                or (wanted and g.privilege not in wanted)
            ]

    def drop_role(self, role: str) -> None:
        """Remove a role with every grant of it and to it."""
        with self._lock:
            self.roles.pop(role, None)
            for held in (*self.roles.values(), *self.users.values()):
                held.discard(role)
            self.granted = [g for g in self.granted if g.role != role]
            self.future = [f for f in self.future if f.role != role]

    def apply_future(self, entry: CatalogEntry) -> None:
        """Apply future grants to a new object.

        Snowflake has no future grants on external functions.
        """
        if entry.kind == "EXTERNAL FUNCTION":
            return
        for f in list(self.future):
            if f.domain == entry.domain and entry.name[: len(f.within)] == f.within:
                self.allow(Granted(f.privilege, entry.key, f.role, False, entry.owner))


_DONE = status("Statement executed successfully.")


class Grants:
    """Executes GRANT and REVOKE of privileges and roles."""

    def __init__(self, catalog: Catalog, access: Privileges) -> None:
        self._catalog = catalog
        self._access = access

    def privileges(self, statement: Grant, session: SqlSession) -> Rows:
        """Grant or revoke privileges.

        Raises:
            SqlError: The object or role does not exist, or the session may not grant it.
        """
        if statement.role not in self._access.roles:
            raise does_not_exist("ROLE", statement.role)
        if statement.target.domain in {"TABLE", "VIEW"}:
            # Tables are stored by fakesnow and have no owner.
            return _DONE
        if statement.extent == "FUTURE":
            self._future(statement, session)
            return _DONE
        for key in self._keys(statement, session):
            self._one(statement, key, session)
        return _DONE

    def role(self, statement: GrantRole, session: SqlSession) -> Rows:
        """Grant a role to a role or a user, or revoke it.

        Raises:
            SqlError: One of them does not exist, or the role is not the session's.
        """
        if statement.role not in self._access.roles:
            raise does_not_exist("ROLE", statement.role)
        holders = self._access.users if statement.grantee_kind == "USER" else self._access.roles
        if statement.grantee not in holders:
            raise does_not_exist(statement.grantee_kind, statement.grantee)
        entry = self._catalog.find(("ROLE", (statement.role,), None))
        owner = entry.owner if entry is not None else "SECURITYADMIN"
        if owner not in self._access.effective(session.role) and not self._manages(session):
            raise insufficient("ROLE", statement.role)
        if statement.revoke:
            holders[statement.grantee].discard(statement.role)
        else:
            holders[statement.grantee].add(statement.role)
        return _DONE

    def _keys(self, statement: Grant, session: SqlSession) -> list[Key]:
        target = statement.target
        if target.domain == "ACCOUNT":
            return [ACCOUNT_KEY]
        if not statement.extent:
            key = self._catalog.key(target, session)
            self._seen(key, session)
            return [key]
        within = target.name
        if len(within) == 1 and self._catalog.find(("DATABASE", within, None)) is None:
            within = session.in_database(within)
        return [
            e.key
            for e in self._catalog
            if e.domain == target.domain and e.name[: len(within)] == within
        ]

    def _seen(self, key: Key, session: SqlSession) -> CatalogEntry:
        """Return the object; a role that manages grants sees every object."""
        return self._catalog.get(key) if self._manages(session) else self._access.see(session, key)

    def _one(self, statement: Grant, key: Key, session: SqlSession) -> None:
        if "OWNERSHIP" in statement.privileges:
            entry = self._catalog.get(key)
            if not self._manages(session):
                self._access.own(session, key)
            entry.owner = statement.role
            return
        privileges = statement.privileges
        if privileges == ("ALL",):
            privileges = PRIVILEGES[key[0]]
        for privilege in privileges:
            self._may_grant(privilege, key, session)
            if not statement.revoke:
                self._access.allow(
                    Granted(privilege, key, statement.role, statement.grant_option, session.role)
                )
        if statement.revoke:
            self._access.forget(key, statement.role, privileges)

    def _may_grant(self, privilege: str, key: Key, session: SqlSession) -> None:
        roles = self._access.effective(session.role)
        entry = self._catalog.find(key)
        if self._manages(session) or (entry is not None and entry.owner in roles):
            return
        if any(
            g.key == key and g.privilege == privilege and g.grant_option and g.role in roles
            for g in self._access.granted
        ):
            return
        raise insufficient(key[0], key[1] or "SANDBOX")

    def _manages(self, session: SqlSession) -> bool:
        return self._access.holds(session.role, "MANAGE GRANTS", ACCOUNT_KEY)

    def _future(self, statement: Grant, session: SqlSession) -> None:
        if not self._manages(session):
            raise insufficient("ACCOUNT", "SANDBOX")
        within = statement.target.name
        if len(within) == 1 and self._catalog.find(("DATABASE", within, None)) is None:
            within = session.in_database(within)
        level = "SCHEMA" if len(within) == 2 else "DATABASE"
        self._catalog.get((level, within, None))
        domain = statement.target.domain
        privileges = statement.privileges
        if privileges == ("ALL",):
            privileges = PRIVILEGES[domain]
        for privilege in privileges:
            future = Future(privilege, domain, within, statement.role)
            if statement.revoke:
                self._access.future = [f for f in self._access.future if f != future]
            elif future not in self._access.future:
                self._access.future.append(future)
