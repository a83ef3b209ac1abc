"""No secret ever shows."""

import io
import logging
import traceback
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import Connection, ConnectionsError, Endpoint, Option
from mlflow_connections import _resolve as resolving
from mlflow_connections.options import SourceNames, read_options
from mlflow_connections.secrets import looks_secret, mask, mask_uri


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "access_token",
        "clientSecret",
        "DB_PASSWORD",
        "api-key",
        "apikey",
        "PAT",
        "sas",
        "pwd",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    """What usually holds a secret is recognised in any spelling."""
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", ["tokenizer", "max_tokens", "passage", "path", "pattern", "workspace", "keyword"]
)
def test_other_names_are_no_secrets(name: str) -> None:
    """A hyperparameter that only contains such a word is none."""
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://host:5000/x", "http://host:5000/x"),
        ("http://user:pw@host/x", "http://***@host/x"),
        ("http://user:p@ss/w@host", "http://***@host"),
        ("http://user:p/w@host/x", "http://***@host/x"),
        ("http://user:p?w#x@host/x", "http://***@host/x"),
        ("http://host:80/models/m@champion", "http://host:80/models/m@champion"),
        ("http://host/?q=a@b", "http://host/?q=a@b"),
        ("https://host?token=abc&x=1", "https://host?token=***&x=1"),
        (
            "dbnd://h?duplicate_tracking_to=http%3A%2F%2Fu%3Ap%40h",
            "dbnd://h?duplicate_tracking_to=http%3A%2F%2F***@h",
        ),
        (
            "dbnd://u:p@h?duplicate_tracking_to=http%253A%252F%252Fu%253Ap%2540h%253A80",
            "dbnd://***@h?duplicate_tracking_to=http%253A%252F%252F***@h%253A80",
        ),
    ],
)
def test_a_uri_is_masked(uri: str, shown: str) -> None:
    """Userinfo and secret queries are hidden, also in a quoted URI inside; all else stays."""
    assert mask_uri(uri) == shown


def test_the_longer_secret_vanishes_whole() -> None:
    """A secret that contains another one leaves no rest."""
    assert mask("abc abcdef", ["abc", "abcdef", None, ""]) == "*** ***"


# The prefix keeps hypothesis from taking words of our own messages for secrets.
SECRETS = st.builds(
    "zq9~{}".format, st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8)
)
QUOTABLE = st.builds("zq9{}".format, st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF)))


@given(QUOTABLE)
def test_a_password_in_a_uri_never_shows(password: str) -> None:
    """However a password is quoted, the masked URI does not hold it."""
    inner = f"http://user:{quote(password, safe='')}@host/"
    for uri in (
        inner,
        f"dbnd://h?duplicate_tracking_to={quote(inner, safe='')}",
        f"dbnd://h?duplicate_tracking_to={quote(quote(inner, safe=''), safe='')}",
    ):
        shown = mask_uri(uri)
        assert shown != uri
        for form in (password, quote(password, safe=""), quote(quote(password, safe=""), safe="")):
            assert form not in shown


class Leaky(Connection):
    """A connection whose every option is wrong, so that every message is made."""

    declared = (
        Option("number", "A number.", type=int, secret=True, env="TEST_NUMBER"),
        Option("choice", "A choice.", choices=("a",), secret=True),
        Option("needed", "It is needed.", required=True),
    )

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Give what it was told, to see it masked."""
        return f"http://user:{quote(str(credentials['token']), safe='')}@host"

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Export it too."""
        return {"TEST_TOKEN": str(credentials["token"])}


@given(
    secret=SECRETS,
    key=st.sampled_from(["number", "choice", "token", "pasword"]),
    options=st.dictionaries(
        st.sampled_from(["needed", "token", "number", "other"]), st.just("OPTION")
    ),
)
def test_no_secret_shows_in_anything_that_we_raise_or_log(
    secret: str, key: str, options: dict[str, Any]
) -> None:
    """Whatever is wrong, neither repr, message, log line nor traceback holds the secret."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logging.getLogger("mlflow_connections").addHandler(handler)
    credentials = {"token": secret, key: secret}
    options = {
        name: secret if name in {"token", "number"} else text for name, text in options.items()
    }
    try:
        resolving._check([Leaky()], credentials, options, SourceNames())
        connection = Leaky()
        endpoint = Endpoint(
            connection.tracking_uri(credentials, options),
            None,
            connection.environment(credentials, options),
        )
        told.write(f"{endpoint!r} {endpoint}")
    except ConnectionsError as error:
        told.write(repr(error) + "".join(traceback.format_exception(error)))
    finally:
        logging.getLogger("mlflow_connections").removeHandler(handler)
    assert secret not in told.getvalue()
    assert quote(secret, safe="") not in told.getvalue()


@given(SECRETS)
def test_a_reading_hides_its_secret(secret: str) -> None:
    """What `show` prints, and the repr of what was read, hold no secret."""
    (reading,) = read_options((Option("token", "A token.", secret=True),), {"token": secret}, {})
    assert reading.value == secret
    assert secret not in repr(reading)
    assert reading.shown == "***"
