"""`outbox ship` with several servers: each gets only its own data, with its own credentials, in time."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

NAMED = """
[connections.{name}]
connection = "databricks"
host = "{url}"
credentials = {{ token = {{ env = "TOKEN_OF_{name}" }} }}
"""


class BusyWorkspace:
    """A Databricks workspace that answers every call of MLflow's with 503.

    Attributes:
        url: Its address.
        asked: The path and the credentials of each of these calls.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        workspace = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                is_mlflow = "/mlflow/" in self.path
                if is_mlflow:
                    workspace.asked.append((self.path, self.headers.get("Authorization")))
                self.send_response(503 if is_mlflow else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def workspaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, BusyWorkspace]]:
    """Two workspaces, each the server of a named connection."""
    made = {name: BusyWorkspace() for name in ("first", "second")}
    text = "".join(NAMED.format(name=name, url=each.url) for name, each in made.items())
    (tmp_path / "mlflow-connections.toml").write_text(text)
    for name in made:
        monkeypatch.setenv(f"TOKEN_OF_{name}", f"token-of-{name}")
    yield made
    for each in made.values():
        each.close()


@pytest.mark.slow
def test_two_workspaces_get_their_own_runs_and_tokens(
    workspaces: dict[str, BusyWorkspace], program: Any
) -> None:
    """Nothing is shipped to a workspace with the other's token, and a busy one ends the command in time."""
    for name in workspaces:
        words = ("durable", "--option", f"server={name}", "--", "train", f"/Shared/{name}")
        # A thread ends with the program, and leaves the delivery to the command.
        program.run_through(*words, MLFLOW_CONNECTIONS_OUTBOX_SHIPPER="thread")
    for workspace in workspaces.values():
        workspace.asked.clear()
    begun = time.monotonic()
    reports = json.loads(program.outbox("ship", "--timeout", "5", "--output", "json", code=1))
    # Databricks' client would retry for 500 seconds for each.
    assert time.monotonic() - begun < 100
    assert [(each["delivered"], each["rejected"]) for each in reports] == [(0, 0), (0, 0)]
    for name, workspace in workspaces.items():
        assert workspace.asked
        assert {token for _, token in workspace.asked} == {f"Bearer token-of-{name}"}
        other = {"first": "second", "second": "first"}[name]
        assert not [path for path, _ in workspace.asked if other in path]
