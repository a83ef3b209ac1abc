"""An editor with a YAML language server underlines invalid parts of mlflow.yml and explains them."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import LanguageServer

HEADER = "# yaml-language-server: $schema=mlflow.schema.json\n"
AZUREML = """server:
  tracking_uri: azureml
  connection:
    subscription_id: s
    resource_group: g
    workspace_name: w
"""


@pytest.mark.parametrize(
    "text",
    [
        AZUREML,
        "server:\n  tracking_uri: ./runs\n  registry_uri: databricks-uc\n",
        "server:\n  tracking_uri: ${globals:uri}\n  connection:\n    whatever: 1\n",
        "server:\n  mlflow_tracking_uri: runs\n",
        """_shared: &shared
  resource_group: g
  workspace_name: w
server:
  tracking_uri: azureml
  connection:
    <<: *shared
    subscription_id: s
""",
        """_server: &server
  tracking_uri: azureml
server:
  <<: *server
  connection:
    subscription_id: s
""",
        "tracking:\n  run:\n    nested: true\nui:\n  port: 5001\n",
    ],
)
def test_valid_settings_are_not_underlined(editor: "LanguageServer", text: str) -> None:
    """A file that works in a project has no diagnostics, merge keys included."""
    assert editor.diagnostics(HEADER + text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "server:\n  tracking_uri: azurml\n",
            "A single word must be the keyword of an installed connection",
        ),
        (
            "server:\n  tracking_uri: http://a\n  mlflow_tracking_uri: http://b\n",
            "tracking_uri and mlflow_tracking_uri mean the same: keep tracking_uri only.",
        ),
        (
            "server:\n  tracking_uri: http://a\n  connection:\n    host: x\n",
            "Options need a connection: write its keyword under tracking_uri, or remove them.",
        ),
        (AZUREML + "    regoin: x\n", "Not an option of azureml; it takes "),
        (AZUREML + "    client_secret: x\n", "'client_secret' belongs in credentials.yml."),
        (AZUREML + "    cloud: moon\n", "'cloud' must be one of "),
        ("server:\n  tracking_uri: needy\n", "needy needs place under connection."),
        ("server:\n  traking_uri: http://a\n", "Property traking_uri is not allowed."),
    ],
)
def test_invalid_settings_are_underlined(editor: "LanguageServer", text: str, said: str) -> None:
    """Each fault has one message of these packages."""
    (message,) = editor.diagnostics(HEADER + text)
    assert message.startswith(said)


def test_keywords_are_offered(editor: "LanguageServer") -> None:
    """Completion offers the installed keywords and their options."""
    assert "azureml" in editor.completions(HEADER + "server:\n  tracking_uri: ")
    assert "workspace_name" in editor.completions(
        HEADER + AZUREML.rpartition("    work")[0] + "    "
    )


def test_options_are_explained(editor: "LanguageServer") -> None:
    """Hovering over an option shows its help and its variable."""
    assert "AZUREML_WORKSPACE_NAME" in editor.hover(HEADER + AZUREML, line=6, character=6)
