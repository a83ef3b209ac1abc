"""What a call of an external function needs, how patient it is, and what it leaves in the journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ._catalog import Entry


@dataclass
class Policy:
    """How patient the stand-in is. Snowflake is far more so, which no test wants to wait for.

    Attributes:
        retry_seconds: How long failures that may pass are tried again.
        timeout: Seconds to wait for one reply; Amazon API Gateway gives up after 30.
        poll_seconds: Between two polls after 202.
        poll_limit: Seconds of polling at most; Snowflake's own limit is 600.
        faults: Misbehaviour on Snowflake's side, or of a translator, to come: `duplicate`,
            `row_count` and `row_numbers`, each taken once by the next batch.
        random: Decides the order of batches and rows.
    """

    retry_seconds: float = 2.0
    timeout: float = 30.0
    poll_seconds: float = 0.05
    poll_limit: float = 600.0
    faults: list[str] = field(default_factory=list)
    random: Random = field(default_factory=Random)

    def takes(self, fault: str) -> bool:
        """Tell whether this fault is due, once."""
        if fault not in self.faults:
            return False
        self.faults.remove(fault)
        return True


@dataclass(frozen=True)
class Delivery:
    """One HTTP request for a batch, for the journal.

    Attributes:
        function: The external function.
        batch: The batch's id; the same for every try.
        rows: How many rows it carries.
        method: POST, or GET for a poll.
        url: The public URL.
        status: What came back; 0 where nothing did.
    """

    function: str
    batch: str
    rows: int
    method: str
    url: str
    status: int


@dataclass(frozen=True)
class Bound:
    """An external function with everything that a call of it needs, looked up when it is compiled.

    Attributes:
        function: The function.
        integration: Its API integration.
        request: Its request translator's body, if it has one.
        response: Its response translator's body, if it has one.
        query: The id of the statement that calls it.
        context: What the CONTEXT_HEADERS functions give.
    """

    function: Entry
    integration: Entry
    request: Entry | None
    response: Entry | None
    query: str
    context: Mapping[str, str]


def is_allowed(url: str, integration: Mapping[str, Any]) -> bool:
    """Tell whether an integration lets a URL through."""
    blocked = integration.get("API_BLOCKED_PREFIXES", ())
    allowed = integration["API_ALLOWED_PREFIXES"]
    if "/../" in f"{url.partition('?')[0]}/":
        # It would lead out of what it begins with.
        return False
    return any(url.startswith(p) for p in allowed) and not any(url.startswith(p) for p in blocked)
