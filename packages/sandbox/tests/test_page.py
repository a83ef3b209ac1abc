"""The sandbox's page as its server sends it, without a browser."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mlflow_connections_sandbox import Fault, StandIn
from mlflow_connections_sandbox._loopback import LoopbackServer
from mlflow_connections_sandbox._page import Page
from mlflow_connections_sandbox._recorder import reason_of
from mlflow_connections_sandbox._tables import Cell, Row, Table, code, duration, moment, path

if TYPE_CHECKING:
    from starlette.types import ASGIApp

STATIC = ("/", "/index.html", "/page.css", "/page.js", "/icon.svg")
NOBODY = "http://127.0.0.1:9"


class Shown(StandIn):
    """Answers any request with a text, and has its own table."""

    name = "shown"
    options = {"config": "shown.yml"}  # noqa: RUF012 - a ClassVar in its base
    text = "x"

    def app(self) -> "ASGIApp":
        """Create the application."""

        def answer(request: Request) -> Response:
            return PlainTextResponse("y")

        return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])

    def environment(self) -> Mapping[str, str]:
        """Return an address, and values that a shell could misread."""
        return {"SHOWN_URL": self.url, "SHOWN_WORDS": "it's $HOME\nand `more`"}

    def tables(self) -> Sequence[Table]:
        """Return one table."""
        return (Table("Its own", ("Column",), [Row("1", (Cell(self.text),))], "Nothing."),)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Shown]:
    """A stand-in that responds."""
    stand_in = Shown(NOBODY, tmp_path / "shown")
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def page(stand_in: Shown, tmp_path: Path) -> Iterator[Page]:
    """A page about it, without an MLflow server."""
    page = Page(NOBODY, tmp_path, [stand_in])
    page.start()
    yield page
    page.close()


def state(page: Page) -> dict[str, Any]:
    """Return the page's data about its only stand-in."""
    answer = requests.get(f"{page.url}/state.json", timeout=5)
    assert answer.status_code == 200
    (one,) = answer.json()["stand_ins"]
    found: dict[str, Any] = one
    return found


def texts(table: dict[str, Any]) -> list[list[str]]:
    """Return the texts of a table's cells."""
    return [[cell.get("text", "") for cell in row["cells"]] for row in table["rows"]]


def test_it_shows_what_arrived_newest_first_without_queries_and_bodies(
    page: Page, stand_in: Shown
) -> None:
    """A request is shown with method, path and status, and without the parts that may contain a secret."""
    requests.get(f"{stand_in.url}/first?token=sesame", timeout=5)
    requests.post(f"{stand_in.url}/second", data="sesame", timeout=5)
    one = state(page)
    requested = texts(one["tables"][-1])
    assert [row[1:4] for row in requested] == [["POST", "/second", "200"], ["GET", "/first", "200"]]
    assert one["counts"] == [{"key": "200", "text": "200", "kind": "good", "count": 2}]
    assert one["total"] == 2
    assert "sesame" not in json.dumps(one)


def test_faults_are_shown(page: Page, stand_in: Shown) -> None:
    """An injected fault is distinguished from the service's own responses, and a cut from a status."""
    stand_in.faults.inject(Fault(status=503, times=1))
    requests.get(f"{stand_in.url}/late", timeout=5)
    stand_in.faults.inject(Fault(cut=True, times=1))
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{stand_in.url}/gone", timeout=5)
    one = state(page)
    assert [row[3] for row in texts(one["tables"][-1])] == ["cut fault", "503 fault"]
    assert [(c["text"], c["kind"]) for c in one["counts"]] == [("cut", "bad"), ("503", "bad")]


def test_an_error_shows_its_reason_without_credentials(page: Page, stand_in: Shown) -> None:
    """The text of the response is shown next to its status, without the token that it repeats."""
    body = json.dumps({"error_code": "X", "message": "Token 'dapi-sesame'\nis not valid."})
    stand_in.faults.inject(Fault(status=403, body=body, times=2))
    headers = {"Authorization": "Bearer dapi-sesame"}
    requests.get(f"{stand_in.url}/first", headers=headers, timeout=5)
    requests.get(f"{stand_in.url}/second?access_token=dapi-sesame", timeout=5)
    requests.get(f"{stand_in.url}/good", timeout=5)
    reasons = [row[5] for row in texts(state(page)["tables"][-1])]
    assert reasons == ["", *["Token '***' is not valid."] * 2]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": "invalid_client", "error_description": "Wrong secret"}', "Wrong secret"),
        (b'{"error": {"code": "NotFound", "message": "No such workspace"}}', "No such workspace"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<style>p {}</style><h1>Bad\n Gateway</h1>", "Bad Gateway"),
        (b"plain", "plain"),
        (b'["a"]', "['a']"),
        (b"", ""),
        (b"\xff" * 1000, "\ufffd" * 300),
    ],
)
def test_the_reason_of_an_error_is_in_its_services_words(body: bytes, reason: str) -> None:
    """Each service has its own form of an error; its sentence is shown, on one line."""
    assert reason_of(body) == reason


def test_waiting_events_are_shown(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each destination has a row with the waiting events and the reason; without the package there is none."""
    monkeypatch.setitem(sys.modules, "mlflow_connections_outbox.admin", None)
    assert texts(requests.get(f"{page.url}/outboxes.json", timeout=5).json()) == []
    found = {
        "name": "databand",
        "url": "https://d",
        "folder": "/f",
        "events": 1200,
        "oldest": 1e9,
        "delivered": 3,
        "rejected": 1,
        "aside": 0,
        "state": "unavailable",
        "reason": "no <b>",
        "problem": "",
    }
    admin = SimpleNamespace(reports=lambda: [SimpleNamespace(plain=lambda: found)])
    monkeypatch.setitem(sys.modules, "mlflow_connections_outbox.admin", admin)
    (row,) = wait_for_rows(page)
    assert row[:2] == ["databand at https://d", "1,200"]
    assert row[2].startswith("2001-09-")
    assert row[3:] == ["3", "1", "0", "unavailable", "no <b>"]


def wait_for_rows(page: Page) -> list[list[str]]:
    """Return the rows of the outboxes once they are read again."""
    while not (rows := texts(requests.get(f"{page.url}/outboxes.json", timeout=5).json())):
        pass
    return rows


def test_an_outage_is_shown(page: Page, stand_in: Shown) -> None:
    """A stand-in that was closed is down, and running again after a restart."""
    stand_in.close()
    assert not state(page)["is_running"]
    stand_in.start()
    assert state(page)["is_running"]


def test_the_page_is_bounded_and_the_counts_continue(page: Page, stand_in: Shown) -> None:
    """Of many requests the newest are shown, each under a constant key; all are counted."""
    stand_in.keep(60)
    with requests.Session() as session:
        for number in range(70):
            session.get(f"{stand_in.url}/{number}", timeout=5)
    assert [r.path for r in stand_in.journal.requests()] == [f"/{n}" for n in range(10, 70)]
    one = state(page)
    rows = one["tables"][-1]["rows"]
    assert [row["cells"][2]["text"] for row in rows] == [f"/{n}" for n in range(69, 19, -1)]
    assert [row["key"] for row in rows] == [str(n) for n in range(69, 19, -1)]
    assert one["total"] == 70


def test_its_lines_work_in_a_shell(page: Page, stand_in: Shown) -> None:
    """The lines to paste set exactly the variables of the environment."""
    pasted = {one["title"]: one["text"] for one in state(page)["pasted"]}
    script = f'{pasted["In a shell"]}\nprintf \'%s|%s\' "$SHOWN_URL" "$SHOWN_WORDS"'
    shell = subprocess.run(
        ["sh", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert shell.stdout.split("|") == list(stand_in.environment().values())


def test_it_shows_how_to_name_a_connection(page: Page) -> None:
    """The command line and the project's file contain the keyword and its options."""
    _, command, written = (one["text"] for one in state(page)["pasted"])
    assert shlex.split(command)[:5] == [
        *("mlflow-connections", "run", "--option", "config=shown.yml", "shown"),
    ]
    assert written.splitlines() == [
        "server:",
        "  tracking_uri: shown",
        "  connection:",
        "    config: shown.yml",
    ]


def test_a_stand_ins_own_tables_come_first(page: Page) -> None:
    """A stand-in's own tables come before its requests."""
    assert [table["title"] for table in state(page)["tables"]] == ["Its own", "Requests"]


def test_texts_that_cannot_be_encoded_do_no_harm(page: Page, stand_in: Shown) -> None:
    """Half of a surrogate pair, as in JSON from a client, reaches the browser."""
    stand_in.text = "\ud800 <b>"
    assert texts(state(page)["tables"][0]) == [["\ud800 <b>"]]


@pytest.mark.parametrize("path", ["/state.json", "/runs.json", "/outboxes.json", *STATIC])
def test_only_this_machine_is_answered(page: Page, path: str) -> None:
    """Another host's name, as in DNS rebinding, gets no response; loopback's names do."""
    port = page.url.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
        assert requests.get(page.url + path, headers={"Host": host}, timeout=5).status_code == 400
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert requests.get(page.url + path, headers={"Host": host}, timeout=5).status_code == 200


@pytest.mark.parametrize("path", ["/state.json", "/nothing", *STATIC])
def test_nothing_from_other_origins_is_allowed(page: Page, path: str) -> None:
    """Every response restricts the browser to the page's own files, and forbids caching."""
    headers = requests.get(page.url + path, timeout=5).headers
    policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert policy.pop("default-src") == "'none'"
    assert set(policy.values()) == {"'self'", "'none'"}
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", STATIC)
def test_its_files_use_no_other_origin(page: Page, path: str) -> None:
    """No font, script or style comes from another host, and no markup is created from texts."""
    text = requests.get(page.url + path, timeout=5).text
    named = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text))
    assert named <= {"http://www.w3.org"}  # the name of SVG
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_it_is_read_only(page: Page) -> None:
    """No request can change anything."""
    for place in ("/state.json", "/runs.json", "/outboxes.json", "/"):
        assert requests.post(page.url + place, timeout=5).status_code == 405


def test_an_unavailable_mlflow_is_reported(page: Page) -> None:
    """The section of runs shows it, and the page stays."""
    table = requests.get(f"{page.url}/runs.json", timeout=5).json()
    assert table["rows"] == []
    assert "does not answer" in table["empty"]


def test_runs_link_to_mlflows_pages(tmp_path: Path) -> None:
    """A run is shown under its name with its values; names and times chosen by a client do no harm."""

    def experiments(request: Request) -> Response:
        return JSONResponse({"experiments": [{"experiment_id": "7", "name": "/Shared/<i>"}]})

    def runs(request: Request) -> Response:
        values: list[Any] = [0.98765, "NaN", 3, 4]
        metrics = [{"key": f"m{n}", "value": value} for n, value in enumerate(values)]
        info = {"experiment_id": "7", "status": "FINISHED", "start_time": 10**20, "end_time": 1}
        good = {**info, "run_id": "a/b", "run_name": "<script>"}
        bare = {"experiment_id": "7", "run_id": "c", "status": "RUNNING"}
        return JSONResponse(
            {"runs": [{"info": good, "data": {"metrics": metrics}}, {"info": bare, "data": {}}]}
        )

    api = "/api/2.0/mlflow"
    backend = LoopbackServer("backend")
    page = Page(backend.url, tmp_path, [])
    backend.start(
        Starlette(
            routes=[
                Route(f"{api}/experiments/search", experiments, methods=["POST"]),
                Route(f"{api}/runs/search", runs, methods=["POST"]),
            ]
        )
    )
    page.start()
    try:
        table = requests.get(f"{page.url}/runs.json", timeout=5).json()
    finally:
        page.close()
        backend.close()
    good = table["rows"][0]
    assert good["cells"][1]["text"] == "<script>"
    assert good["cells"][1]["href"] == f"{backend.url}/#/experiments/7/runs/a%2Fb"
    assert good["cells"][2]["text"] == "/Shared/<i>"
    assert good["cells"][2]["href"] == f"{backend.url}/#/experiments/7"
    assert good["cells"][5]["text"] == "m0 0.9877, m1 NaN, m2 3, 1 more"
    assert texts(table)[1][1:] == ["c", "/Shared/<i>", "running", "", ""]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0 ms"), (0.0126, "13 ms"), (1.26, "1.3 s"), (59.9, "59.9 s"), (90, "1 min 30 s")],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    """The unit fits the value."""
    assert duration(seconds).text == text


def test_a_time_has_its_date() -> None:
    """A page that is open for days shows the day."""
    now = time.time()
    assert moment(now).text == time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))


@pytest.mark.parametrize("at", [0.0, -1e9, 1e12, 1e18, 1e300])
def test_any_time_can_be_shown(at: float) -> None:
    """A client may send any time for its run."""
    assert moment(at).text


def test_the_beginning_of_a_long_statement_is_shown() -> None:
    """It is on one line, and omitted text is marked."""
    assert code("SELECT\n  1") == Cell("SELECT 1", "code")
    for text in ("x" * 500, f"SELECT {' ' * 10_000_000} 1"):
        shown = code(text).text
        assert shown == f"{text[:400].strip()}…"


def test_the_end_of_a_long_path_is_shown() -> None:
    """Paths of one service differ at their end, and a hostile one must not fill the page."""
    assert path("/short") == Cell("/short", "path")
    cell = path(f"/{'4' * 100_000}/runs/log-metric")
    assert cell.text.endswith("/runs/log-metric")
    assert len(cell.text) < 500
