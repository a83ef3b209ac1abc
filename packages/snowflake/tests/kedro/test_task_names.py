"""Names of tasks are valid and unique, whatever a node is called."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections_snowflake._names import Identifier
from mlflow_connections_snowflake.kedro._task_names import below, identifier_part, root_of

HOME = Identifier(("D", "S"))


@given(text=st.text(max_size=300))
def test_any_text_becomes_an_identifier_part(text: str) -> None:
    """The result has only letters, digits and single underscores, and fits into a name."""
    made = identifier_part(text)
    assert re.fullmatch(r"[A-Z0-9]+(_[A-Z0-9]+)*", made)
    assert len(made) < 80


@given(texts=st.lists(st.text(alphabet="aAbB1_- .\u00e9", max_size=5), unique=True))
def test_no_two_texts_become_the_same_identifier_part(texts: list[str]) -> None:
    """A digest distinguishes texts that would have the same result."""
    assert len({identifier_part(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("package", "pipeline", "root"),
    [
        ("wine", "__default__", "WINE__DEFAULT"),
        ("wine", "training", "WINE__TRAINING"),
        ("wine_cellar", "a_b", "WINE_CELLAR__A_B"),
    ],
)
def test_plain_names_stay_readable(package: str, pipeline: str, root: str) -> None:
    """A lower-case name becomes the same name in upper case, as in SQL without quotes."""
    assert root_of(HOME, package, pipeline).parts == ("D", "S", root)
    assert below(root_of(HOME, package, pipeline), "split_data").object == f"{root}__SPLIT_DATA"


def test_nodes_do_not_collide_with_own_tasks() -> None:
    """Nodes named mlflow and end get other tasks than those that start and end the run."""
    root = root_of(HOME, "wine", "__default__")
    for node in ("mlflow", "end"):
        assert re.fullmatch(
            rf"WINE__DEFAULT__{node.upper()}_[0-9A-F]{{8}}", below(root, node).object
        )
    assert root_of(HOME, "wine", "default") != root
