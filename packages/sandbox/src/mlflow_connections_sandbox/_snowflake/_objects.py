"""Executes CREATE, ALTER and DROP."""

from dataclasses import replace

from ._access import ACCOUNT_KEY, Access
from ._catalog import Catalog, Entry, Key
from ._checks import Checks, resolved
from ._errors import (
    SqlError,
    does_not_exist,
    dotted,
    insufficient,
    invalid_property,
    missing_options,
)
from ._integrations import add_identity
from ._kinds import KINDS
from ._results import Rows, status
from ._session import SqlSession
from ._stages import Stages
from ._statements import Alter, Create, Drop, Target
from ._tasks import alter_task

_SHOWN = {"STAGE": "Stage area"}


class Objects:
    """The statements that make, change and drop objects."""

    def __init__(self, catalog: Catalog, access: Access, stages: Stages, checks: Checks) -> None:
        self._catalog = catalog
        self._access = access
        self._stages = stages
        self._checks = checks

    def create(self, statement: Create, session: SqlSession) -> Rows:
        """Create an object.

        Raises:
            SqlError: It may not be, or cannot be as it is written.
        """
        key = self._catalog.key(statement.target, session)
        self._may_create(statement.kind, key, session)
        there = self._catalog.find(key)
        name = dotted(key[1][-1:])
        if there is not None:
            if statement.if_not_exists:
                return status(f"{name} already exists, statement succeeded.")
            if statement.replace:
                self._access.own(session, key)
        entry = Entry(
            statement.kind,
            key,
            session.role,
            statement.parameters,
            statement.returns,
            dict(statement.properties),
        )
        self._checks.check(entry, session)
        if statement.target.domain == "INTEGRATION":
            add_identity(statement.kind, entry.properties)
        self._catalog.add(entry, replace=statement.replace)
        if there is not None:
            # Whoever could use what was there cannot use what replaced it.
            self._access.forget(key)
            if statement.kind == "STAGE":
                self._stages.clear(there)
        if statement.kind == "ROLE":
            self._access.roles[key[1][0]] = set()
        self._access.apply_future(entry)
        shown = _SHOWN.get(statement.kind, key[0].capitalize())
        return status(f"{shown} {name} successfully created.")

    def alter(self, statement: Alter, session: SqlSession) -> Rows:
        """Change an object's clauses.

        Raises:
            SqlError: It may not be, or cannot be as it is written.
        """
        entry = self._existing(statement, session)
        if entry is None:
            return status("Statement executed successfully.")
        if entry.kind == "TASK" and statement.action in {"RESUME", "SUSPEND"}:
            if not self._access.holds(session.role, "OPERATE", entry.key):
                self._access.own(session, entry.key)
        else:
            self._access.own(session, entry.key)
        if entry.kind == "TASK":
            alter_task(entry, statement, session, self._catalog, self._access)
        if statement.action in {"SET", "UNSET"}:
            self._set(entry, statement, session)
        return status("Statement executed successfully.")

    def drop(self, statement: Drop, session: SqlSession) -> Rows:
        """Drop an object.

        Raises:
            SqlError: It does not exist, or is not the session's to drop.
        """
        name = dotted(statement.target.name[-1:])
        entry = self._existing(statement, session)
        if entry is None:
            return status(f"Drop statement executed successfully ({name} already dropped).")
        self._access.own(session, entry.key)
        if entry.kind == "STAGE":
            self._stages.clear(entry)
        if entry.kind == "ROLE":
            self._access.drop_role(name)
        self._catalog.drop(entry.key)
        self._access.forget(entry.key)
        return status(f"{name} successfully dropped.")

    def may_create(self, kind: str, target: Target, session: SqlSession) -> Key:
        """Make sure that the session may create what fakesnow will create, and give its key.

        Raises:
            SqlError: It may not.
        """
        key = self._catalog.key(target, session)
        self._may_create(kind, key, session)
        return key

    def _may_create(self, kind: str, key: Key, session: SqlSession) -> None:
        level, privilege = KINDS[kind].level, KINDS[kind].privilege
        if level == "ACCOUNT":
            if not self._access.holds(session.role, privilege, ACCOUNT_KEY):
                raise insufficient("ACCOUNT", "SANDBOX")
            return
        self._access.enter(session, key)
        around: Key = (level, key[1][:-1], None)
        if not self._access.holds(session.role, privilege, around):
            raise insufficient(level, around[1])

    def _existing(self, statement: Alter | Drop, session: SqlSession) -> Entry | None:
        """Give what the statement names; None where it is missing and that is allowed."""
        try:
            entry = self._access.see(session, self._catalog.key(statement.target, session))
            if statement.kind not in {entry.kind, entry.domain}:
                raise does_not_exist(entry.domain, entry.name)
        except SqlError as error:
            if statement.if_exists and error.number == 2003:
                return None
            raise
        return entry

    def _set(self, entry: Entry, statement: Alter, session: SqlSession) -> None:
        kind = KINDS[entry.kind]
        changed = dict(entry.properties)
        for name, value in statement.properties.items():
            if name not in kind.clauses:
                raise invalid_property(name, entry.kind)
            if statement.action == "UNSET":
                if name in kind.required:
                    raise missing_options([name])
                changed.pop(name, None)
            else:
                changed[name] = value
        self._checks.check(replace(entry, properties=changed), session)
        if entry.kind == "EXTERNAL FUNCTION":
            changed = resolved(replace(entry, properties=changed))
        entry.properties = changed
