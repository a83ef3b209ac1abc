"""Secrets in params, tags and URIs are hidden, and nothing else is."""

import pytest

from mlflow_connections_databand._redact import redact


@pytest.mark.parametrize(
    "name",
    ["db_password", "apiToken", "OPENAI_KEY", "openai_key", "STRIPE_KEY", "clientSecret"],
)
def test_the_value_of_a_secret_name_is_hidden(name: str) -> None:
    """A value with a secret name is hidden, whatever it is."""
    assert redact(name, "hidden") == "***"


@pytest.mark.parametrize("name", ["tokenizer", "primary_key", "sort_key", "key", "passage", "keys"])
def test_other_names_keep_their_value(name: str) -> None:
    """A column name is not a secret."""
    assert redact(name, "shown") == "shown"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Server=db;Password=hidden;Port=1", "Server=db;Password=***;Port=1"),
        ("Server=db;Pwd='hid den';Port=1", "Server=db;Pwd=***;Port=1"),
        ("password = hidden", "password = ***"),
        ("OPENAI_KEY=hidden python train.py", "OPENAI_KEY=*** python train.py"),
        ("--api-key=hidden --lr=0.1", "--api-key=*** --lr=0.1"),
        ('{"api_key": "hidden", "lr": 0.1}', '{"api_key": "***", "lr": 0.1}'),
        ("{'token': 'hid\\'den', 'a': 'b'}", "{'token': '***', 'a': 'b'}"),
        ("https://me:hidden@git/x", "https://***@git/x"),
        ("s3://b/k?token=hidden&a=1", "s3://b/k?token=***&a=1"),
        ("Authorization: Bearer hidden-hidden", "Authorization: Bearer ***"),
    ],
)
def test_a_secret_inside_a_value_is_hidden(value: str, expected: str) -> None:
    """Connection strings, commands, JSON, mappings, URIs and headers keep their other parts."""
    assert redact("name", value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "a:b@c",
        "lr=0.1",
        "{'depth': '3'}",
        "x == y",
        "Bearer of news",
        "https://host/a?b=c",
        "3 = 3",
    ],
)
def test_a_value_without_a_secret_stays(value: str) -> None:
    """A value that only resembles a secret stays."""
    assert redact("name", value) == value
