"""Calls external functions: rows become batches, and batches' replies the rows' values."""

from collections.abc import Sequence
from typing import Any

import requests

from ._batch import Batch
from ._delivery import Bound
from ._remote import Remote


class ExternalFunctions:
    """Calls external functions.

    Attributes:
        remote: Where they lead.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def call(self, bound: Bound, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Give one value for each row of arguments.

        The rows go in batches of at most MAX_BATCH_ROWS. Neither the order of rows nor that of
        batches is the given one, since Snowflake promises none.

        Raises:
            SqlError: A batch did not work out.
        """
        values: list[Any] = [None] * len(rows)
        order = list(range(len(rows)))
        if bound.function.properties.get("NULLS") == "STRICT":
            order = [i for i in order if all(v is not None for v in rows[i])]
        self.remote.policy.random.shuffle(order)
        size = bound.function.properties.get("MAX_BATCH_ROWS", len(rows)) or 1
        with requests.Session() as http:
            http.trust_env = False
            for start in range(0, len(order), size):
                taken = order[start : start + size]
                batch = Batch(self.remote, bound, http, [rows[i] for i in taken])
                for index, value in zip(taken, batch.run(), strict=True):
                    values[index] = value
        return values
