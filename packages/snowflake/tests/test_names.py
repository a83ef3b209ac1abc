"""Names and literals: parsed, quoted, and never misread."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import InvalidOptionError
from mlflow_connections_snowflake._names import Identifier, literal, literals, name, quoted, stage

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)


def unquoted(sql: str) -> tuple[str, str]:
    """Read one literal as Snowflake does; return its text and the rest."""
    assert sql[0] == "'"
    text, position = "", 1
    while True:
        if sql[position] == "\\":
            text += sql[position + 1]
            position += 2
        elif sql[position : position + 2] == "''":
            text += "'"
            position += 2
        elif sql[position] == "'":
            return text, sql[position + 1 :]
        else:
            text += sql[position]
            position += 1


@given(text=texts, rest=texts)
def test_a_literal_ends_at_its_quote(text: str, rest: str) -> None:
    """Reading the literal of any text returns exactly that text, and nothing escapes from it."""
    # Only a following quote would extend the literal, and no statement continues with one.
    rest = " " + rest
    assert unquoted(literal(text) + rest) == (text, rest)


@given(parts=st.lists(texts.filter(bool), min_size=1, max_size=3))
def test_any_quoted_name_is_read_back(parts: list[str]) -> None:
    """A name of any characters, in quotes, is one name with exactly these parts."""
    written = ".".join(quoted(part) for part in parts)
    assert name(written, "here").parts == tuple(parts)
    assert name(written, "here").sql == written


@given(text=texts)
def test_text_is_a_name_or_refused(text: str) -> None:
    """An unquoted name contains only words and dots; anything else is refused."""
    try:
        read = name(text, "here")
    except InvalidOptionError:
        return
    if '"' not in text:
        assert re.fullmatch(r"[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*){0,2}", text, re.ASCII)
        assert str(read) == text.upper()


@pytest.mark.parametrize(
    ("written", "sql", "shown"),
    [
        ("demo.demo.f", '"DEMO"."DEMO"."F"', "DEMO.DEMO.F"),
        ("order", '"ORDER"', "ORDER"),
        ('"my db".public."f"', '"my db"."PUBLIC"."f"', '"my db".PUBLIC."f"'),
        ('"a""b"', '"a""b"', '"a""b"'),
        ('"a.b"', '"a.b"', '"a.b"'),
        ("$", None, None),
        ("a.b.c.d", None, None),
        ("a..b", None, None),
        (".a", None, None),
        ("a.", None, None),
        ("a b", None, None),
        ("f; DROP TABLE t", None, None),
        ('f" ; DROP', None, None),
        ('"', None, None),
        ('""', None, None),
        ("f()", None, None),
        ("f--", None, None),
        ("f\n", None, None),
        ("f/**/", None, None),
        ("b\u00fcro", None, None),
        ("\u0130", None, None),
        ("a" * 256, None, None),
        ("", None, None),
        (None, None, None),
        (7, None, None),
        (["f"], None, None),
    ],
)
def test_names(written: object, sql: str | None, shown: str | None) -> None:
    """A name is stored as in Snowflake; an invalid one is refused with its place and a remedy."""
    if sql is None:
        with pytest.raises(
            InvalidOptionError, match=r"here is .* not the name of a Snowflake object"
        ):
            name(written, "here")
        return
    read = name(written, "here")
    assert (read.sql, str(read)) == (sql, shown)


def test_a_stage_may_have_an_at_sign() -> None:
    """The specification writes a stage with an @, SQL without."""
    assert (
        stage("@MLFLOW_STAGE", "here")
        == stage("mlflow_stage", "here")
        == Identifier(("MLFLOW_STAGE",))
    )
    with pytest.raises(InvalidOptionError):
        stage("@@x", "here")


def test_a_name_is_completed() -> None:
    """An unqualified name belongs to the database and schema of the configuration."""
    assert Identifier(("F",)).within("D", "S").parts == ("D", "S", "F")
    assert Identifier(("T", "F")).within("D", "S").parts == ("D", "T", "F")
    assert Identifier(("A", "B", "F")).within("D", "S").parts == ("A", "B", "F")
    assert Identifier(("F",)).within(None, None).parts == ("F",)


def test_several_literals() -> None:
    """A list of literals is in parentheses."""
    assert literals(("a'b", "c")) == "('a''b', 'c')"


@pytest.mark.parametrize("make", [literal, quoted])
def test_nul_is_refused(make: object) -> None:
    """A NUL character ends a text for some readers, so it is refused."""
    assert callable(make)
    with pytest.raises(InvalidOptionError):
        make("a\0b")
