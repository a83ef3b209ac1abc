"""Names of tasks: harmless whatever a node is called, and never two the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections_snowflake._names import Identifier
from mlflow_connections_snowflake.kedro._task_names import below, identifier_part, root_of

HOME = Identifier(("D", "S"))


@given(text=st.text(max_size=300))
def test_any_text_becomes_a_word(text: str) -> None:
    """A word holds letters, digits and single underscores, and fits into a name."""
    made = identifier_part(text)
    assert re.fullmatch(r"[A-Z0-9]+(_[A-Z0-9]+)*", made)
    assert len(made) < 80


@given(texts=st.lists(st.text(alphabet="aAbB1_- .\u00e9", max_size=5), unique=True))
def test_no_two_texts_become_the_same_word(texts: list[str]) -> None:
    """A digest tells texts apart whose word is the same."""
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
    """A name in small letters is the same in capitals, as SQL has it without quotes."""
    assert root_of(HOME, package, pipeline).parts == ("D", "S", root)
    assert below(root_of(HOME, package, pipeline), "split_data").object == f"{root}__SPLIT_DATA"


def test_nodes_are_not_taken_for_our_own_tasks() -> None:
    """Nodes named mlflow and end have other tasks than those that make and end the run."""
    root = root_of(HOME, "wine", "__default__")
    for node in ("mlflow", "end"):
        assert re.fullmatch(
            rf"WINE__DEFAULT__{node.upper()}_[0-9A-F]{{8}}", below(root, node).object
        )
    assert root_of(HOME, "wine", "default") != root
