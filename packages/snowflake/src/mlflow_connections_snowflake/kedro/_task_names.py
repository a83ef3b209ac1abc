"""Names of tasks and procedures: made of the names of packages, pipelines and nodes, which may be any.

They hold nothing but A to Z, digits and underscores. Some of Snowflake's functions take a task's name
as text, and what they make of quotes, spaces or small letters in it is written nowhere.
"""

import hashlib
import re
from collections.abc import Collection

from mlflow_connections_snowflake._names import Identifier

DEFAULT_PIPELINE = "__default__"
MLFLOW, END = "MLFLOW", "END"
"""The tasks that are no node's."""

_LONGEST = 60


def root_of(home: Identifier, package: str, pipeline: str) -> Identifier:
    """Give the name of a pipeline's root task: `WINE__DEFAULT`."""
    last = "DEFAULT" if pipeline == DEFAULT_PIPELINE else identifier_part(pipeline, {"DEFAULT"})
    return Identifier((*home.parts, f"{identifier_part(package)}__{last}"))


def below(root: Identifier, node: str) -> Identifier:
    """Give the name of a node's task: `WINE__DEFAULT__TRAIN`."""
    return beside(root, identifier_part(node, {MLFLOW, END}))


def beside(root: Identifier, last: str) -> Identifier:
    """Give the name of a task or procedure that is not named after a node."""
    return root.beside(f"{root.object}__{last}")


def identifier_part(text: str, taken: Collection[str] = ()) -> str:
    """Make a part of a name of any text, another one for every text.

    Args:
        text: What to name.
        taken: Words that mean something else.

    Returns:
        `SPLIT_DATA` for `split_data`. What cannot be told from the word, such as spaces or
        capitals, is told by a digest behind it: `SPLIT_DATA_1D5A0C3E`. No word has two underscores
        side by side, so that words can be joined by them.
    """
    plain = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")
    if plain and plain.lower() == text and plain not in taken and len(plain) <= _LONGEST:
        return plain
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8].upper()
    return f"{plain[:_LONGEST].rstrip('_')}_{digest}".lstrip("_")
