"""The YAML language server that editors use, over its protocol."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

_NEEDY = """
from mlflow_connections import Connection, Option


class Needy(Connection):
    declared = (Option("place", "Where it is.", required=True),)

    def tracking_uri(self, credentials, options):
        return "http://" + self.values(credentials, options)["place"]
"""


class LanguageServer:
    """A `yaml-language-server` process.

    Args:
        program: Its path.
        folder: The folder for the document and the schema.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            [program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._ids = count(1)
        self._folder = folder
        self._documents = count(1)
        self._uri = ""
        self._request(
            "initialize",
            {"processId": os.getpid(), "rootUri": folder.as_uri(), "capabilities": {}},
        )
        self._notify("initialized", {})

    def diagnostics(self, text: str) -> list[str]:
        """Open a text, and return the messages that an editor underlines."""
        self._uri = (self._folder / f"mlflow_{next(self._documents)}.yml").as_uri()
        document = {"uri": self._uri, "languageId": "yaml", "version": 1, "text": text}
        self._notify("textDocument/didOpen", {"textDocument": document})
        while True:
            message = self._read()
            if message.get("method") == "textDocument/publishDiagnostics":
                found = message["params"]
                if found["uri"] == self._uri:
                    return [each["message"] for each in found["diagnostics"]]

    def completions(self, text: str) -> list[str]:
        """Return an editor's completions at the end of a text."""
        self.diagnostics(text)
        return [item["label"] for item in self._at_end("textDocument/completion", text)["items"]]

    def hover(self, text: str, line: int, character: int) -> str:
        """Return the text that an editor shows for a place in a text."""
        self.diagnostics(text)
        found = self._request(
            "textDocument/hover",
            {
                "textDocument": {"uri": self._uri},
                "position": {"line": line, "character": character},
            },
        )
        text_shown: str = found["contents"]["value"]
        return text_shown.replace("\\", "")  # Markdown escapes underscores

    def close(self) -> None:
        """End the server."""
        self._request("shutdown", None)
        self._notify("exit", None)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _at_end(self, method: str, text: str) -> Any:
        lines = text.split("\n")
        position = {"line": len(lines) - 1, "character": len(lines[-1])}
        return self._request(method, {"textDocument": {"uri": self._uri}, "position": position})

    def _request(self, method: str, params: Any) -> Any:
        identifier = next(self._ids)
        self._write({"id": identifier, "method": method, "params": params})
        while True:
            message = self._read()
            if message.get("id") == identifier and "method" not in message:
                return message["result"]

    def _notify(self, method: str, params: Any) -> None:
        self._write({"method": method, "params": params})

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        length = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server has ended"
        message: dict[str, Any] = json.loads(self._process.stdout.read(length))
        if "method" in message and "id" in message:  # the server asks for its configuration
            wanted = message["params"].get("items", []) if message.get("params") else []
            self._write({"id": message["id"], "result": [{} for _ in wanted] or None})
        return message


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the schema, written by the command that users run, with an additional plugin."""
    folder = tmp_path_factory.mktemp("project")
    info = folder / "needy-1.dist-info"
    info.mkdir()
    (folder / "needy.py").write_text(_NEEDY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: needy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[kedro_mlflow.connections]\nneedy = needy:Needy\n")
    kedro = Path(sys.executable).with_name("kedro")
    subprocess.run(
        [kedro, "mlflow-connections", "schema", "-o", "mlflow.schema.json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        check=True,
    )
    return folder


@pytest.fixture(scope="session")
def editor(folder: Path) -> Iterator[LanguageServer]:
    """One language server for all tests."""
    server = LanguageServer(Path(os.environ["YAML_LANGUAGE_SERVER"]), folder)
    yield server
    server.close()
