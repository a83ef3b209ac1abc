"""JavaScript engines that run translators as Snowflake does, and configurations for the three clouds."""

import json
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import quickjs  # type: ignore[import-untyped] # it brings no types
from sqlfluff.core import FluffConfig, Linter

from mlflow_connections_snowflake import BridgeConfig, load
from mlflow_connections_snowflake._functions import source

PROVIDERS = ("aws", "azure", "google")
ENGINES = ("quickjs", *(("node",) if shutil.which("node") else ()))

_NODE = """
const functions = {};
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { key, body, event } = JSON.parse(line);
  functions[key] = functions[key] || new Function("EVENT", body);
  let answer;
  try {
    answer = { result: functions[key](event) };
  } catch (error) {
    answer = { error: String(error.message) };
  }
  process.stdout.write(JSON.stringify(answer) + "\\n");
});
"""


class Refused(Exception):  # noqa: N818 - what a translator does on purpose
    """A translator threw; the message is what Snowflake would show."""


class Engine(ABC):
    """Runs a translator on an event; input and output are JSON, as in Snowflake."""

    @abstractmethod
    def run(self, key: str, event: object) -> dict[str, Any]:
        """Return the translator's result, or raise `Refused`."""

    def request(self, key: str, *rows: list[Any]) -> dict[str, Any]:
        """Run a request translator on rows, each with its number."""
        return self.run(
            key, {"body": {"data": list(rows)}, "serviceUrl": "https://x", "contextHeaders": {}}
        )

    def response(self, body: object, sent: object) -> list[list[Any]]:
        """Run the response translator, and return its rows."""
        rows: list[list[Any]] = self.run("response", {"body": body, "translatorData": sent})[
            "body"
        ]["data"]
        return rows


class QuickJs(Engine):
    """The engine that is available everywhere."""

    def __init__(self) -> None:
        self._contexts: dict[str, Any] = {}

    def run(self, key: str, event: object) -> dict[str, Any]:
        """Run it in a new context, which is kept."""
        if key not in self._contexts:
            context = self._contexts[key] = quickjs.Context()
            context.eval(f"function udf(EVENT) {{\n{source(key)}\n}}")
            context.eval("function run(text) { return JSON.stringify(udf(JSON.parse(text))); }")
        try:
            result: dict[str, Any] = json.loads(self._contexts[key].get("run")(json.dumps(event)))
        except quickjs.JSException as error:
            raise Refused(str(error)) from error
        return result


class Node(Engine):
    """V8, which Snowflake uses too."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", "-e", _NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, key: str, event: object) -> dict[str, Any]:
        """Send it to the process, which keeps each translator."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"key": key, "body": source(key), "event": event})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """QuickJS always, Node if it is installed."""
    if request.param == "quickjs":
        yield QuickJs()
        return
    node = Node()
    yield node
    node.close()


@pytest.fixture(scope="session")
def quick() -> Engine:
    """QuickJS alone, for tests that are not about translators."""
    return QuickJs()


@pytest.fixture(scope="session")
def setup_files() -> Path:
    """The folder of the three configurations."""
    return Path(__file__).parent / "setups"


@pytest.fixture(scope="session", params=PROVIDERS)
def setup(request: pytest.FixtureRequest, setup_files: Path) -> BridgeConfig:
    """The setup for each cloud."""
    return load(setup_files / f"{request.param}.yml")


@pytest.fixture(scope="session")
def aws(setup_files: Path) -> BridgeConfig:
    """The setup for AWS, where the cloud does not matter."""
    return load(setup_files / "aws.yml")


@pytest.fixture(scope="session")
def parses() -> Callable[[str], bool]:
    """Checks whether a text is exactly one statement of Snowflake's SQL."""
    # Created once: reading its dialect takes longer than a statement.
    linter = Linter(config=FluffConfig(overrides={"dialect": "snowflake", "templater": "raw"}))

    @cache
    def parses(sql: str) -> bool:
        parsed = linter.parse_string(sql + ";")
        variant = parsed.root_variant()
        if parsed.violations or variant is None or variant.tree is None:
            return False
        return len(list(variant.tree.recursive_crawl("statement", recurse_into=False))) == 1

    return parses
