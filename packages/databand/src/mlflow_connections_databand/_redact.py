"""Hiding secrets in params, tags and URIs before an event reaches the disk."""

import re

from mlflow_connections.secrets import MASK, looks_secret, mask_uri

# A name and its value inside a text: in a connection string (`Password=...;`), a header, JSON or a
# mapping's repr.
_ASSIGNED = re.compile(
    r"""(?P<name>[\w.-]+)(?P<sign>\s*=\s*)(?P<value>"[^"]*"|'[^']*'|[^;&,\s]+)"""
)
_QUOTED = re.compile(
    r"""(?P<quote>["'])(?P<name>[\w.-]+)(?P=quote)(?P<sign>\s*:\s*)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
)
_BEARER = re.compile(r"\b(?P<scheme>Bearer|Basic)\s+[\w.~+/=-]{8,}")


def redact(name: str, value: str) -> str:
    """Return a value without the secrets in it.

    A value whose name looks secret is hidden completely. In any other value, user and password of
    URIs, assignments to names that look secret, and authorization headers are hidden.
    """
    if looks_secret(name):
        return MASK
    if "=" in value or ":" in value:
        value = _ASSIGNED.sub(_hide_assigned, value)
        value = _QUOTED.sub(_hide_quoted, value)
    if "://" in value:
        value = mask_uri(value)
    return _BEARER.sub(rf"\g<scheme> {MASK}", value) if "B" in value else value


def _hide_assigned(match: "re.Match[str]") -> str:
    return f"{match['name']}{match['sign']}{MASK}" if looks_secret(match["name"]) else match[0]


def _hide_quoted(match: "re.Match[str]") -> str:
    if not looks_secret(match["name"]):
        return match[0]
    quote, inner = match["quote"], match["value"][0]
    return f"{quote}{match['name']}{quote}{match['sign']}{inner}{MASK}{inner}"
