"""Parses GRANT, REVOKE and SHOW GRANTS."""

from ._errors import compilation, unsupported
from ._kinds import KINDS, PRIVILEGES
from ._reader import Reader
from ._statements import Grant, GrantRole, ShowGrants, Target
from ._types import read_type

_DOMAINS = sorted(PRIVILEGES, key=len, reverse=True)
_CALLABLES = frozenset(kind.domain for kind in KINDS.values() if kind.signature)


def parse_grant(reader: Reader) -> Grant | GrantRole:
    """Parse GRANT … TO … or REVOKE … FROM …."""
    revoke = reader.accept("REVOKE")
    if not revoke:
        reader.expect("GRANT")
    if reader.word() == "ROLE":
        return _grant_role(reader, revoke)
    if reader.word() in {"DATABASE", "APPLICATION"} and reader.word(1) == "ROLE":
        raise unsupported(f"{reader.word()} ROLE")
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


def parse_show_grants(reader: Reader) -> ShowGrants:
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


def _grant_role(reader: Reader, revoke: bool) -> GrantRole:
    reader.expect("ROLE")
    role = reader.identifier()
    reader.expect("FROM" if revoke else "TO")
    kind = "USER" if reader.accept("USER") else "ROLE"
    if kind == "ROLE":
        reader.accept("ROLE")
    grantee = reader.identifier()
    reader.end()
    return GrantRole(revoke, role, kind, grantee)


def _privileges(reader: Reader) -> tuple[str, ...]:
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


def _domain(reader: Reader) -> Target:
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


def _plural(reader: Reader) -> Target:
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
