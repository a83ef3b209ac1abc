"""Executes GRANT and REVOKE."""

from ._access import ACCOUNT_KEY, Access, Future, Granted
from ._catalog import Catalog, Entry, Key
from ._errors import does_not_exist, insufficient
from ._kinds import PRIVILEGES
from ._results import Rows, status
from ._session import SqlSession
from ._statements import Grant, GrantRole

_DONE = status("Statement executed successfully.")


class Grants:
    """The statements that give and take privileges and roles."""

    def __init__(self, catalog: Catalog, access: Access) -> None:
        self._catalog = catalog
        self._access = access

    def privileges(self, statement: Grant, session: SqlSession) -> Rows:
        """Give or take privileges.

        Raises:
            SqlError: The object or role does not exist, or is not the session's to give away.
        """
        if statement.role not in self._access.roles:
            raise does_not_exist("ROLE", statement.role)
        if statement.target.domain in {"TABLE", "VIEW"}:
            # fakesnow's tables belong to nobody.
            return _DONE
        if statement.extent == "FUTURE":
            self._future(statement, session)
            return _DONE
        for key in self._keys(statement, session):
            self._one(statement, key, session)
        return _DONE

    def role(self, statement: GrantRole, session: SqlSession) -> Rows:
        """Give a role to, or take it from, a role or a user.

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

    def _seen(self, key: Key, session: SqlSession) -> Entry:
        """Give the object; one who manages grants sees all of them."""
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
