"""Names of tasks and procedures, derived from the names of packages, pipelines and nodes.

They contain only A to Z, digits and underscores. Some of Snowflake's functions take a task's name
as text, and their handling of quotes, spaces and lower case in it is not documented.
"""

import hashlib
import re
from collections.abc import Collection

from mlflow_connections_snowflake._names import Identifier

DEFAULT_PIPELINE = "__default__"
MLFLOW, END = "MLFLOW", "END"
"""The tasks that belong to no node."""
PROJECT_ARCHIVE = "project.zip"
"""The file name of the project's archive, which the deployment writes and a node unpacks."""
PLACES_FILE = "snowflake-places.json"
"""The file in that archive with the replacements of datasets' credentials."""

_LONGEST = 60


def root_of(home: Identifier, package: str, pipeline: str) -> Identifier:
    """Return the name of a pipeline's root task: `WINE__DEFAULT`."""
    last = "DEFAULT" if pipeline == DEFAULT_PIPELINE else identifier_part(pipeline, {"DEFAULT"})
    return Identifier((*home.parts, f"{identifier_part(package)}__{last}"))


def below(root: Identifier, node: str) -> Identifier:
    """Return the name of a node's task: `WINE__DEFAULT__TRAIN`."""
    return suffixed(root, identifier_part(node, {MLFLOW, END}))


def suffixed(root: Identifier, last: str) -> Identifier:
    """Return the name of a task or procedure that is not named after a node."""
    return root.sibling(f"{root.object}__{last}")


def secret_variable(entry: str) -> str:
    """Return the SECRETS clause's name for the secret of an entry of credentials.yml."""
    return f"credentials_{identifier_part(entry).lower()}"


def identifier_part(text: str, taken: Collection[str] = ()) -> str:
    """Return a unique identifier part for any text.

    Args:
        text: The text.
        taken: Identifiers with another meaning.

    Returns:
        `SPLIT_DATA` for `split_data`. If the identifier does not preserve everything, such as spaces or
        capitals, a digest follows: `SPLIT_DATA_1D5A0C3E`. No identifier has two underscores in a row, so
        identifiers can be joined by them.
    """
    plain = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")
    if plain and plain.lower() == text and plain not in taken and len(plain) <= _LONGEST:
        return plain
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8].upper()
    return f"{plain[:_LONGEST].rstrip('_')}_{digest}".lstrip("_")
