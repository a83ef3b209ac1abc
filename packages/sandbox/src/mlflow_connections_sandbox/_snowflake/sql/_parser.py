"""Parse the statements that the stand-in executes itself; all others go to fakesnow."""

from collections.abc import Callable, Mapping

from mlflow_connections_sandbox._snowflake._errors import compilation, missing_options, unsupported

from ._clauses import KINDS, PLURALS, PRIVILEGES, read_clauses
from ._reader import SqlReader
from ._statements import (
    Alter,
    Create,
    Describe,
    Drop,
    Grant,
    GrantRole,
    Parameter,
    Show,
    ShowGrants,
    Statement,
    Target,
    Use,
)
from ._types import read_type

# The longest first: EXTERNAL FUNCTION before FUNCTION.
_KINDS = sorted(KINDS, key=len, reverse=True)
_PASSED_ON = frozenset(("DATABASE", "SCHEMA"))
_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "TASK": ("RESUME", "SUSPEND"),
    "STAGE": ("REFRESH",),
}


def parse(reader: SqlReader) -> Statement | None:
    """Parse a statement, or return None for one that fakesnow executes.

    Raises:
        SqlError: The syntax is invalid.
    """
    parser = _PARSERS.get(reader.word())
    return None if parser is None else parser(reader)


def _create(reader: SqlReader) -> Statement | None:
    reader.expect("CREATE")
    replace = reader.accept("OR", "REPLACE")
    is_temporary = reader.accept("TEMPORARY") or reader.accept("TEMP")
    if is_temporary or reader.word() in {"SCOPED", "LOCAL", "GLOBAL"}:
        # fakesnow executes statements about temporary objects, such as those of write_pandas.
        return None
    if not reader.accept("SECURE"):
        reader.accept("TRANSIENT")
    kind = _kind(reader)
    if kind is None:
        if reader.word() == "EXTERNAL" or reader.word(1) == "INTEGRATION":
            raise unsupported(f"CREATE {reader.word()} {reader.word(1)}")
        return None
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    if replace and if_not_exists:
        raise reader.unexpected()
    name = reader.name()
    clauses = KINDS[kind]
    if not clauses.signature:
        found = read_clauses(reader, clauses.clauses, kind)
        _need(clauses.required, found)
        target = Target(clauses.domain, name)
        return Create(kind, target, replace, if_not_exists, properties=found)
    return _create_callable(reader, kind, Target(clauses.domain, name), replace, if_not_exists)


def _create_callable(
    reader: SqlReader, kind: str, target: Target, replace: bool, if_not_exists: bool
) -> Create:
    parameters = tuple(reader.listed(lambda: Parameter(reader.identifier(), read_type(reader))))
    reader.expect("RETURNS")
    returns = read_type(reader)
    if not reader.accept("NOT", "NULL"):
        reader.accept("NULL")
    found = read_clauses(reader, KINDS[kind].clauses, kind)
    _need(KINDS[kind].required, found)
    signature = tuple(str(p.type) for p in parameters)
    named = Target(target.domain, target.name, signature)
    return Create(kind, named, replace, if_not_exists, parameters, returns, found)


def _alter(reader: SqlReader) -> Statement | None:
    reader.expect("ALTER")
    kind = _kind(reader) or ("INTEGRATION" if reader.accept("INTEGRATION") else None)
    if kind is None:
        return None
    if_exists = reader.accept("IF", "EXISTS")
    target = _target(reader, kind)
    for action in _ACTIONS.get(kind, ()):
        if reader.accept(action):
            reader.end()
            return Alter(kind, target, if_exists, action)
    if kind == "TASK" and (reader.word() in {"ADD", "REMOVE"}):
        action = reader.identifier()
        found = read_clauses(reader, {"AFTER": "after"}, kind)
        return Alter(kind, target, if_exists, f"{action} AFTER", found)
    if reader.accept("UNSET"):
        names = [reader.identifier()]
        while reader.accept(","):
            names.append(reader.identifier())
        reader.end()
        return Alter(kind, target, if_exists, "UNSET", dict.fromkeys(names))
    reader.expect("SET")
    allowed: dict[str, str] = {}
    for known in KINDS if kind == "INTEGRATION" else (kind,):
        if KINDS[known].domain == target.domain:
            allowed |= {k: v for k, v in KINDS[known].clauses.items() if k not in {"AS", "AFTER"}}
    return Alter(kind, target, if_exists, "SET", read_clauses(reader, allowed, kind))


def _drop(reader: SqlReader) -> Statement | None:
    reader.expect("DROP")
    kind = _kind(reader) or ("INTEGRATION" if reader.accept("INTEGRATION") else None)
    if kind is None:
        return None
    if_exists = reader.accept("IF", "EXISTS")
    target = _target(reader, kind)
    if kind in _PASSED_ON and not reader.accept("CASCADE"):
        reader.accept("RESTRICT")
    reader.end()
    return Drop(kind, target, if_exists)


def _describe(reader: SqlReader) -> Statement | None:
    reader.accept(reader.word())
    kind = _kind(reader) or ("INTEGRATION" if reader.accept("INTEGRATION") else None)
    if kind is None or kind in _PASSED_ON:
        return None
    target = _target(reader, kind)
    reader.end()
    return Describe(kind, target)


def _show(reader: SqlReader) -> Statement | None:
    reader.expect("SHOW")
    reader.accept("TERSE")
    if reader.word() == "GRANTS":
        return parse_show_grants(reader)
    for plural in sorted(PLURALS, key=len, reverse=True):
        if reader.accept(*plural.split()):
            break
    else:
        return None
    like = reader.string() if reader.accept("LIKE") else None
    within, is_account = None, False
    if reader.accept("IN"):
        is_account = reader.accept("ACCOUNT")
        if not is_account:
            if not reader.accept("SCHEMA"):
                reader.accept("DATABASE")
            within = reader.name()
    reader.end()
    return Show(plural, like, within, is_account)


def _use(reader: SqlReader) -> Statement | None:
    reader.expect("USE")
    if reader.accept("SECONDARY", "ROLES"):
        return Use("SECONDARY ROLES", (reader.identifier(),))
    for kind in ("ROLE", "WAREHOUSE", "DATABASE", "SCHEMA"):
        if reader.accept(kind):
            break
    else:
        kind = "DATABASE"
    name = reader.name()
    reader.end()
    return Use("SCHEMA" if kind == "DATABASE" and len(name) == 2 else kind, name)


def _kind(reader: SqlReader) -> str | None:
    return next((kind for kind in _KINDS if reader.accept(*kind.split())), None)


def _target(reader: SqlReader, kind: str) -> Target:
    known = KINDS.get(kind)
    name = reader.name()
    if known is None or not known.signature:
        return Target(known.domain if known else kind, name)
    signature = tuple(str(t) for t in reader.listed(lambda: read_type(reader)))
    return Target(known.domain, name, signature)


def _need(required: tuple[str, ...], found: Mapping[str, object]) -> None:
    missing = [name for name in required if name not in found]
    if missing:
        raise missing_options(missing)


_DOMAINS = sorted(PRIVILEGES, key=len, reverse=True)
_CALLABLES = frozenset(kind.domain for kind in KINDS.values() if kind.signature)


def parse_grant(reader: SqlReader) -> Grant | GrantRole:
    """Parse GRANT … TO … or REVOKE … FROM …."""
    revoke = reader.accept("REVOKE")
    if not revoke:
        reader.expect("GRANT")
    if reader.word() == "ROLE":
        return _grant_role(reader, revoke)
    if reader.accept("DATABASE", "ROLE"):
        return _grant_database_role(reader, revoke)
    if reader.word() == "APPLICATION" and reader.word(1) == "ROLE":
        raise unsupported("APPLICATION ROLE")
    option = revoke and reader.accept("GRANT", "OPTION", "FOR")
    privileges = _privileges(reader)
    reader.expect("ON")
    extent = "ALL" if reader.accept("ALL") else ("FUTURE" if reader.accept("FUTURE") else "")
    target = _domain(reader) if not extent else _plural(reader)
    reader.expect("FROM" if revoke else "TO")
    reader.accept("ROLE")
    role = reader.identifier()
    if reader.accept("WITH", "GRANT", "OPTION"):
        option = True
    elif reader.word() in {"COPY", "REVOKE"} and "OWNERSHIP" in privileges:
        reader.accept(reader.word())
        reader.expect("CURRENT", "GRANTS")
    elif revoke and not reader.accept("CASCADE"):
        reader.accept("RESTRICT")
    reader.end()
    _check(privileges, target)
    return Grant(revoke, privileges, target, extent, role, option)


def parse_show_grants(reader: SqlReader) -> ShowGrants:
    """Parse SHOW GRANTS [ON … | TO … | OF ROLE …]."""
    reader.expect("GRANTS")
    if reader.is_at_end():
        return ShowGrants("TO", None)
    if reader.accept("ON"):
        target = _domain(reader)
        reader.end()
        return ShowGrants("ON", target)
    relation = "OF" if reader.accept("OF") else "TO"
    if relation == "TO":
        reader.expect("TO")
    kind = "USER" if reader.accept("USER") else "ROLE"
    if kind == "ROLE":
        reader.accept("ROLE")
    target = Target(kind, (reader.identifier(),))
    reader.end()
    return ShowGrants(relation, target)


def _grant_role(reader: SqlReader, revoke: bool) -> GrantRole:
    reader.expect("ROLE")
    role = reader.identifier()
    reader.expect("FROM" if revoke else "TO")
    kind = "USER" if reader.accept("USER") else "ROLE"
    if kind == "ROLE":
        reader.accept("ROLE")
    grantee = reader.identifier()
    reader.end()
    return GrantRole(revoke, role, kind, grantee)


def _grant_database_role(reader: SqlReader, revoke: bool) -> GrantRole:
    """Parse a database role of the database SNOWFLAKE, the only one that has any."""
    role = ".".join(reader.name())
    reader.expect("FROM" if revoke else "TO")
    reader.accept("ROLE")
    grantee = reader.identifier()
    reader.end()
    return GrantRole(revoke, role, "ROLE", grantee)


def _privileges(reader: SqlReader) -> tuple[str, ...]:
    found = []
    while True:
        words = []
        while reader.word() not in {"ON", ",", ""}:
            words.append(reader.identifier())
        found.append(" ".join(words))
        if not reader.accept(","):
            break
    if found in (["ALL"], ["ALL PRIVILEGES"]):
        return ("ALL",)
    return tuple(found)


def _domain(reader: SqlReader) -> Target:
    if reader.accept("ACCOUNT"):
        return Target("ACCOUNT", ())
    for domain in _DOMAINS:
        if reader.accept(*domain.split()):
            break
    else:
        raise reader.unexpected()
    name = reader.name()
    if domain not in _CALLABLES:
        return Target(domain, name)
    return Target(domain, name, tuple(str(t) for t in reader.listed(lambda: read_type(reader))))


def _plural(reader: SqlReader) -> Target:
    for domain in _DOMAINS:
        if reader.accept(*f"{domain}S".split()):
            break
    else:
        raise reader.unexpected()
    reader.expect("IN")
    if not reader.accept("SCHEMA"):
        reader.expect("DATABASE")
    return Target(domain, reader.name())


def _check(privileges: tuple[str, ...], target: Target) -> None:
    known = {*PRIVILEGES[target.domain], "OWNERSHIP", "ALL"}
    for privilege in privileges:
        if privilege not in known:
            raise compilation(
                f"Invalid object type '{target.domain}' for privilege '{privilege}'.", 1003
            )


_PARSERS: Mapping[str, Callable[[SqlReader], Statement | None]] = {
    "CREATE": _create,
    "ALTER": _alter,
    "DROP": _drop,
    "DESCRIBE": _describe,
    "DESC": _describe,
    "SHOW": _show,
    "USE": _use,
    "GRANT": parse_grant,
    "REVOKE": parse_grant,
}
