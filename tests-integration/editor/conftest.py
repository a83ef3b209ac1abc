"""The YAML language server that editors use, spoken to over its protocol."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest


class LanguageServer:
    """A running `yaml-language-server`, with one document open at a time.

    Args:
        program: Its path.
        folder: For the document and the schema.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            [program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._ids = count(1)
        self._uri = (folder / "mlflow.yml").as_uri()
        self._version = 0
        self._request(
            "initialize",
            {"processId": os.getpid(), "rootUri": folder.as_uri(), "capabilities": {}},
        )
        self._notify("initialized", {})

    def diagnostics(self, text: str) -> list[str]:
        """Open a text, and return the messages that an editor underlines."""
        self._version += 1
        document = {"uri": self._uri, "languageId": "yaml", "version": self._version, "text": text}
        if self._version > 1:
            self._notify("textDocument/didClose", {"textDocument": {"uri": self._uri}})
        self._notify("textDocument/didOpen", {"textDocument": document})
        while True:
            message = self._read()
            if message.get("method") == "textDocument/publishDiagnostics":
                found = message["params"]
                if (
                    found.get("version", self._version) == self._version
                    and found["uri"] == self._uri
                ):
                    return [each["message"] for each in found["diagnostics"]]

    def completions(self, text: str) -> list[str]:
        """Return what an editor offers at the end of a text."""
        self.diagnostics(text)
        return [item["label"] for item in self._at_end("textDocument/completion", text)["items"]]

    def hover(self, text: str, line: int, character: int) -> str:
        """Return what an editor shows over a place in a text."""
        self.diagnostics(text)
        found = self._request(
            "textDocument/hover",
            {
                "textDocument": {"uri": self._uri},
                "position": {"line": line, "character": character},
            },
        )
        return json.dumps(found)

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
    """A folder with the schema, written by the command that users run."""
    folder = tmp_path_factory.mktemp("project")
    kedro = Path(sys.executable).with_name("kedro")
    subprocess.run(
        [kedro, "mlflow-connections", "schema", "-o", "mlflow.schema.json"], cwd=folder, check=True
    )
    return folder


@pytest.fixture(scope="session")
def editor(folder: Path) -> Iterator[LanguageServer]:
    """One language server for all tests."""
    server = LanguageServer(Path(os.environ["YAML_LANGUAGE_SERVER"]), folder)
    yield server
    server.close()
