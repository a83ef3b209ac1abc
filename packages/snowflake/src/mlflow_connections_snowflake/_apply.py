"""Running the generated statements, one after the other, with progress."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ._errors import BridgeError
from ._statement import Statement

if TYPE_CHECKING:
    from snowflake.snowpark import Session


def apply(
    session: "Session",
    written: Sequence[Statement],
    progress: Callable[[int, Statement], None] = lambda _number, _statement: None,
) -> None:
    """Run statements in order, and stop at the first that fails.

    Args:
        session: A session that may take on the roles of the statements.
        written: What `statements` or `drops` gave, or a part of it.
        progress: Called before each statement, with its number from 1.

    Raises:
        BridgeError: A statement failed; the message names it and says what Snowflake said.
    """
    from snowflake.snowpark.exceptions import SnowparkSQLException

    for number, statement in enumerate(written, 1):
        progress(number, statement)
        try:
            session.sql(statement.sql).collect()
        except SnowparkSQLException as error:
            said = " ".join(str(error.message).split())
            first_line = statement.sql.partition("\n")[0]
            raise BridgeError(
                f"Statement {number} of {len(written)} ({first_line} …), which the "
                f"{statement.part} runs, failed: {said} "
                "What ran before stays; mend the cause and apply again."
            ) from error
