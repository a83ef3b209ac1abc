"""No secret is ever shown."""

import base64
import html
import io
import json
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_connections import (
    AccessError,
    Connection,
    ConnectionsError,
    Endpoint,
    InvalidOptionError,
    Option,
    resolve,
    secrets,
)
from mlflow_connections import _resolve as resolving
from mlflow_connections._cli import main
from mlflow_connections.options import SourceNames, read_options
from mlflow_connections.secrets import MASK, explain, looks_secret, mask, mask_uri, masker, remember


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
        "OPENAI_KEY",
        "openai_key",
    ],
)
def test_names_of_secrets_are_recognized(name: str) -> None:
    """Names that usually hold a secret are recognized in any spelling."""
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    ["tokenizer", "max_tokens", "passage", "path", "pattern", "workspace", "keyword", "join_key"],
)
def test_other_names_are_not_secrets(name: str) -> None:
    """A hyperparameter that only contains such a word is not a secret."""
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
    """Userinfo and secret queries are hidden, also in a quoted URI inside; everything else stays."""
    assert mask_uri(uri) == shown


def test_the_path_of_a_key_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable named after a key may hold the key's path, which the message about it must name."""
    key = tmp_path / "client.key"
    key.write_text("a key")
    monkeypatch.setenv("SERVICE_CLIENT_KEY", str(key))
    assert mask(f"{key} is encrypted") == f"{key} is encrypted"
    key.unlink()
    assert mask(f"{key} is encrypted") == f"{MASK} is encrypted"


def test_an_option_declared_as_not_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A declaration takes precedence over the variable's name, even if the value is not a file."""
    monkeypatch.setenv("PLAIN_CLIENT_KEY", "keys/absent.key")
    read_options([Option("client_key", "A path.", env="PLAIN_CLIENT_KEY")], {}, {})
    assert mask("There is no keys/absent.key") == "There is no keys/absent.key"
    read_options([Option("key", "A key.", env="PLAIN_CLIENT_KEY", secret=True)], {}, {})
    assert mask("There is no keys/absent.key") == f"There is no {MASK}"


def test_the_longer_secret_is_hidden_completely() -> None:
    """A secret that contains another one leaves no rest."""
    assert mask("abc abcdef", ["abc", "abcdef", None, ""]) == "*** ***"


# The prefix keeps Hypothesis from using words of our own messages as secrets.
SECRETS = st.builds(
    "zq9~{}".format, st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8)
)
QUOTABLE = st.builds("zq9{}".format, st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF)))


@given(QUOTABLE)
def test_a_password_in_a_uri_is_never_shown(password: str) -> None:
    """However a password is quoted, the masked URI does not contain it."""
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
    """A connection whose every option is wrong, so that every message is produced."""

    declared = (
        Option("number", "A number.", type=int, secret=True, env="TEST_NUMBER"),
        Option("choice", "A choice.", choices=("a",), secret=True),
        Option("needed", "It is needed.", required=True),
    )

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the given values, to test that they are masked."""
        return f"http://user:{quote(str(credentials['token']), safe='')}@host"

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Export them too."""
        return {"TEST_TOKEN": str(credentials["token"])}


@given(
    secret=SECRETS,
    key=st.sampled_from(["number", "choice", "token", "pasword"]),
    options=st.dictionaries(
        st.sampled_from(["needed", "token", "number", "other"]), st.just("OPTION")
    ),
)
def test_no_secret_is_in_anything_that_we_raise_or_log(
    secret: str, key: str, options: dict[str, Any]
) -> None:
    """Whatever is wrong, neither repr, message, log line nor traceback contains the secret."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logging.getLogger("mlflow_connections").addHandler(handler)
    credentials = {"token": secret, key: secret}
    options = {
        name: secret if name in {"token", "number"} else text for name, text in options.items()
    }
    try:
        resolving._check([Leaky.declared], credentials, options, SourceNames(), os.environ)
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
def test_read_options_hide_their_secret(secret: str) -> None:
    """Neither the output of `show` nor the repr of read options contains a secret."""
    (reading,) = read_options((Option("token", "A token.", secret=True),), {"token": secret}, {})
    assert reading.value == secret
    assert secret not in repr(reading)
    assert reading.shown == "***"


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    """No test knows another test's secrets."""
    secrets._known.clear()
    secrets._variables.clear()
    yield
    secrets._known.clear()
    secrets._variables.clear()


HOSTILE = st.builds(
    "{}zq9~{}{}".format,
    st.sampled_from(["", " ", "\n"]),
    st.text(
        st.one_of(
            st.characters(exclude_categories=["Cs"]), st.sampled_from(list("\\\"' \n\t%+/&=?#<>$`"))
        ),
        min_size=6,
    ),
    st.sampled_from(["", "\n", "\r\n", " ", "\\"]),
)
FORMS: dict[str, Callable[[str], str]] = {
    "itself": str,
    "stripped": str.strip,
    "its repr": repr,
    "ASCII": ascii,
    "the repr of its bytes": lambda s: repr(s.encode()),
    "the repr of a header": lambda s: repr(f"Bearer {s}".encode()),
    "a repr inside a text with both quotes": lambda s: repr(f'it\'s "{s}"'),
    "JSON": json.dumps,
    "JSON with its letters": lambda s: json.dumps(s, ensure_ascii=False),
    "a repr of its repr": lambda s: repr(repr(s)),
    "JSON of its repr": lambda s: json.dumps(repr(s)),
    "a shell's word": shlex.quote,
    "HTML": html.escape,
    "a URL's part": lambda s: quote(s, safe=""),
    "a URL's path": quote,
    "a form's field": quote_plus,
    "quoted twice": lambda s: quote(quote(s, safe=""), safe=""),
    "a URL in lower case": lambda s: re.sub("%..", lambda m: m[0].lower(), quote(s, safe="")),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "basic access": lambda s: base64.b64encode(f"user:{s}".encode()).decode(),
    "basic access of a token": lambda s: base64.b64encode(f"token:{s}!".encode()).decode(),
    "white space joined": lambda s: " ".join(s.split()),
}


@given(secret=HOSTILE)
@example(secret="zq9~00\\'\t0")
def test_a_known_secret_is_hidden_in_every_form(secret: str) -> None:
    """Whatever its characters, a secret is hidden however a client, a shell or a serializer repeats it."""
    hide = masker([secret])
    repeated = {name: form(secret) for name, form in FORMS.items()}
    for name, text in repeated.items():
        shown = hide(f"before {text} after")
        assert shown.startswith("before"), name
        assert shown.endswith("after"), name
        assert "zq9" not in shown, name
        for other in repeated.values():
            assert other.strip() not in shown, name


def test_a_short_secret_is_hidden_only_alone() -> None:
    """Two letters are part of many words, and hiding them there would reveal them."""
    assert mask("an answer: an", ["an"]) == "*** answer: ***"


def test_secrets_that_overlap_leave_no_rest() -> None:
    """Secrets that overlap are hidden completely."""
    assert mask("abcdefgh", ["abcdef", "defgh"]) == "***"


def test_a_line_of_a_private_key_is_hidden() -> None:
    """A client may repeat one line of a multi-line secret."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----"
    assert mask("bad line kqhkiG9w0BAQEF", [key]) == "bad line ***"


@pytest.mark.parametrize(
    ("variable", "is_hidden"),
    [
        ("VENDOR_TOKEN", True),
        ("VENDOR_CLIENT_SECRET", True),
        ("VENDOR_TOKEN_FILE", False),
        ("PWD", False),
        ("VENDOR_HOST", False),
    ],
)
def test_a_variable_that_holds_a_secret_is_known(
    variable: str, is_hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor's own variable is masked though nothing has read it; a path or a host is not."""
    monkeypatch.setenv(variable, "/some/value-here")
    assert mask("it is /some/value-here") == (
        "it is ***" if is_hidden else "it is /some/value-here"
    )


def test_a_declared_variable_is_known_later_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that a declared secret's variable gets after it was read is masked."""
    read_options((Option("entry", "It opens.", secret=True, env="TEST_ENTRY"),), {}, {})
    monkeypatch.setenv("TEST_ENTRY", "sesame-later")
    assert mask("said sesame-later") == "said ***"


def test_every_secret_that_was_read_is_known() -> None:
    """Every value is known, whether from the credentials, the wrong place, or a wrong type."""
    option = Option("token", "It opens.", secret=True)
    read_options((option,), {"token": "in-the-credentials"}, {"token": "in-the-options"})
    with pytest.raises(InvalidOptionError):
        read_options((option,), {"token": {"value": ["nested-here"]}}, {})
    shown = mask("in-the-credentials in-the-options nested-here")
    assert shown == "*** *** ***"


def test_the_oldest_secret_is_forgotten() -> None:
    """A process that reads new tokens for years keeps the latest ones."""
    remember(*(f"token-{number:05}" for number in range(secrets._LIMIT + 1)))
    assert mask("token-00000") == "token-00000"
    assert mask("token-01000") == "***"


def test_an_error_is_masked_at_creation_and_when_shown() -> None:
    """Neither its repr nor its text contains a secret, even one that was read after its creation."""
    remember("first-secret")
    error = AccessError("refused first-secret and later-secret")
    assert "first-secret" not in repr(error)
    remember("later-secret")
    assert str(error) == "refused *** and ***"


def test_another_packages_exception_is_explained_in_one_masked_line() -> None:
    """White space is joined after masking, so that a secret with a line break is recognized."""
    remember("two\nlines-of-it")
    assert explain(ValueError("bad\n  two\nlines-of-it  here")) == "bad *** here"
    assert explain(ValueError()) == "ValueError"


def test_a_chained_traceback_shows_no_secret() -> None:
    """An error shows where another package raised, but no secret."""
    remember("chained-secret")

    def fail() -> None:
        int("chained-secret")

    def explain_failure() -> None:
        try:
            fail()
        except ValueError as error:
            raise AccessError(f"refused: {explain(error)}") from secrets.masked(error)

    with pytest.raises(AccessError) as caught:
        explain_failure()
    shown = "".join(traceback.format_exception(caught.value))
    assert "in fail" in shown
    assert "builtins.ValueError: invalid literal for int() with base 10: '***'" in shown
    assert "'chained-secret'" not in shown


def test_a_document_is_masked_and_stays_a_document() -> None:
    """Keys, texts and numbers that are secrets are hidden; the rest keeps its type."""
    remember("12345678", "key-secret")
    document = {"key-secret": [12345678, 7, True, None, 0.5], "text": ("a 12345678",)}
    assert secrets.mask_document(document) == {
        MASK: [MASK, 7, True, None, 0.5],
        "text": [f"a {MASK}"],
    }


def test_a_record_of_the_masked_loggers_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    """Message, arguments and traceback contain no secret."""
    remember("logged-secret")
    logger = secrets.get_logger("mlflow_connections.test")
    assert secrets.get_logger("mlflow_connections.test").filters == [secrets._mask_record]
    try:
        int("logged-secret")
    except ValueError:
        logger.exception("said %s", b"logged-secret")
    assert "said b'***'" in caplog.text
    assert "Traceback" in caplog.text
    assert "logged-secret" not in caplog.text


def test_the_output_of_a_command_line_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """Output of any package is masked, even in pieces; only deliberate output of secrets passes."""
    remember("printed-secret")
    with secrets.masked_output():
        print("half: printed-", end="")
        print("secret.")
        print("rest: printed-secret", end="", file=sys.stderr)
        print("shown on purpose: printed-secret", file=secrets.unmasked(sys.stdout))
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["half: ***.", "shown on purpose: printed-secret"]
    assert shown.err == "rest: ***"


def test_a_traceback_that_ends_a_command_line_is_masked(
    capsys: pytest.CaptureFixture[str], install: Callable[..., str]
) -> None:
    """An unexpected exception shows its place, and no secret."""
    install(
        "failing",
        """
        class Failing:
            declared = ()
            def tracking_uri(self, credentials, options):
                raise RuntimeError("raised-secret")

        connection = Failing()
        """,
    )
    remember("raised-secret")
    assert main(["check", "failing"]) == 1
    shown = capsys.readouterr()
    assert "in tracking_uri" in shown.err
    assert "RuntimeError: ***" in shown.err
    assert "raised-secret\n" not in shown.out + shown.err


TOKEN = Option("token", "It opens.", secret=True, env="TEST_TOKEN")


@pytest.mark.parametrize("written", ["t0ken\n", " t0ken", "\tt0ken\r\n"])
def test_white_space_around_a_secret_is_removed(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """White space from a shell or an editor is removed; the service would refuse the header."""
    (reading,) = read_options((TOKEN,), {"token": written}, {})
    assert reading.value == "t0ken"
    monkeypatch.setenv("TEST_TOKEN", written)
    (reading,) = read_options((TOKEN,), {}, {})
    assert reading.value == "t0ken"


@pytest.mark.parametrize("written", ["t0\nken", "t0\x00ken", "t0\x7fken"])
def test_a_control_character_in_a_secret_is_refused(written: str) -> None:
    """The error is one sentence without the value; a multi-line key is declared as such."""
    with pytest.raises(InvalidOptionError, match="has a line break") as caught:
        read_options((TOKEN,), {"token": written}, {})
    assert "t0" not in str(caught.value)
    lines = TOKEN._replace(multiline=True)
    assert read_options((lines,), {"token": written}, {})[0].value == written


def test_white_space_that_may_belong_to_a_secret_is_refused() -> None:
    """A password may end with a space, and a file with a line break: the user must state which."""
    password = Option("password", "It opens.", secret=True, strip=False)
    with pytest.raises(InvalidOptionError, match="begins or ends with white space"):
        read_options((password,), {"password": "pass \n"}, {})
    assert read_options((password,), {"password": "pass word"}, {})[0].value == "pass word"


def test_a_variable_of_white_space_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as absent, like an empty one."""
    monkeypatch.setenv("TEST_TOKEN", " \n")
    (reading,) = read_options((TOKEN,), {}, {})
    assert (reading.value, reading.source) == (None, None)


def test_a_vendors_variable_reaches_the_vendor_without_white_space(
    monkeypatch: pytest.MonkeyPatch, install: Callable[..., str]
) -> None:
    """A client that reads the variable itself would send the line break in a header."""
    install(
        "stripping",
        """
        from mlflow_connections import Connection, Option

        class Stripping(Connection):
            declared = (Option("token", "It opens.", secret=True, env="TEST_TOKEN"),)
            def tracking_uri(self, credentials, options):
                return "vendor://"

        connection = Stripping()
        """,
    )
    monkeypatch.setenv("TEST_TOKEN", "t0ken\n")
    assert resolve("stripping").environment == {"TEST_TOKEN": "t0ken"}
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    assert resolve("stripping").environment == {}
