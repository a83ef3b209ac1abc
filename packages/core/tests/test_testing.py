"""The contract tests that core ships, run with good and bad plugins."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from warm_python import WarmPython

pytest_plugins = ["pytester"]

GOOD = """
from mlflow_connections import Connection, Option

class Good(Connection):
    declared = (
        Option("workspace", "Which workspace.", env="TEST_WORKSPACE", required=True),
        Option("token", "A token.", secret=True),
    )
    def tracking_uri(self, credentials, options):
        return f"http://{self.values(credentials, options)['workspace']}"
    def environment(self, credentials, options):
        return {"TEST_EXPORTED": "1"}
"""
CONTRACT = """
from mlflow_connections.testing import ConnectionContract

class TestPlugin(ConnectionContract):
    keyword = "plugin"
    credentials = {"token": "t0ken"}
    options = {"workspace": "dev"}
    tracking_uri = "http://dev"
"""


@pytest.fixture
def contract(pytester: pytest.Pytester, warm_python: WarmPython) -> Callable[[str], dict[str, int]]:
    """Run the contract with a plugin's code, and count the outcomes."""

    def run(code: str) -> dict[str, int]:
        site = Path(pytester.mkdir("site"))
        (site / "plugin_module.py").write_text(code + "\nconnection = Good()\n")
        info = site / "plugin-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            "[kedro_mlflow.connections]\nplugin = plugin_module:connection\n"
        )
        pytester.makepyfile(CONTRACT)
        done = warm_python.run(
            ["-m", "pytest", "-p", "no:cacheprovider"],
            # Plugins of this environment, which the contract does not use, take longer than its
            # tests.
            env={**os.environ, "PYTHONPATH": str(site), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            cwd=pytester.path,
        )
        return pytest.RunResult.parse_summary_nouns(done.stdout.splitlines())

    return run


def test_a_good_plugin_passes(contract: Callable[[str], dict[str, int]]) -> None:
    """A plugin that meets the contract passes all of it."""
    assert contract(GOOD) == {"passed": 11}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("http://{", "https://{"),
        (
            "def tracking_uri(self, credentials, options):",
            "def tracking_uri(self, credentials, options):\n        options['workspace'] += '!'",
        ),
        (
            "def tracking_uri(self, credentials, options):",
            "def tracking_uri(self, credentials, options):\n        import os; os.environ['LEFT_BEHIND'] = '1'",
        ),
        (
            "import Connection, Option",
            "import Connection, Option\nimport sys; sys.modules['mlflow'] = sys",
        ),
        ('"Which workspace."', '""'),
        ('"A token.", secret=True', '"A token.", secret=True, default=3'),
    ],
)
def test_a_plugin_that_breaks_it_fails(
    old: str, new: str, contract: Callable[[str], dict[str, int]]
) -> None:
    """Each breach of the contract is found."""
    assert contract(GOOD.replace(old, new, 1)).get("failed", 0) >= 1
