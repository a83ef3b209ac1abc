"""Databand's stand-in: accepted requests, refused requests, and idempotence."""

import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mlflow_connections_sandbox._databand import Databand

RECORDED: dict[str, list[Any]] = json.loads(
    (Path(__file__).parent / "data" / "databand-requests.json").read_text()
)
"""Bodies sent by dbnd 1.0.34.1, recorded."""

ORDER = (
    "init_run",
    "add_task_runs",
    "update_task_run_attempts",
    "log_metrics",
    "log_datasets",
    "log_targets",
    "set_run_state",
)


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Databand]:
    """A running stand-in."""
    tracker = Databand("http://127.0.0.1:9", tmp_path / "databand")
    tracker.start()
    yield tracker
    tracker.close()


def post(
    tracker: Databand, endpoint: str, body: Any, session: Any = requests, **headers: str
) -> requests.Response:
    """Send a request as dbnd does."""
    sent = {
        "Authorization": f"Bearer {tracker.account.token}",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "X-Databand-Version": "1.0.34.1",
        **headers,
    }
    answer: requests.Response = session.post(
        f"{tracker.url}/api/v1/{endpoint}",
        data=gzip.compress(json.dumps(body).encode()),
        headers={name: value for name, value in sent.items() if value},
        timeout=10,
    )
    return answer


def tell(tracker: Databand) -> None:
    """Send the whole recorded run."""
    for endpoint in ORDER:
        answer = post(tracker, f"tracking/{endpoint}", RECORDED[endpoint][0])
        assert answer.status_code == 200, answer.text


def test_it_accepts_recorded_requests_of_dbnd(tracker: Databand) -> None:
    """The recorded run is stored, with its task's param, metric, dataset and target."""
    tell(tracker)
    (run,) = tracker.runs()
    assert (run["name"], run["job_name"], run["state"]) == ("run_a", "job_a", "SUCCESS")
    root, prepare = run["tasks"]
    assert [m["key"] for m in root["metrics"]] == ["root_metric"]
    assert prepare["params"]["x"] == "3"
    assert len(prepare["datasets"]) == len(prepare["targets"]) == 1


def test_a_repeated_request_is_stored_once(tracker: Databand) -> None:
    """A whole run that is sent again changes nothing."""
    tell(tracker)
    before = tracker.runs()
    tell(tracker)
    assert tracker.runs() == before
    assert tracker.database.repeated() == 3


def test_it_returns_its_data_over_http_and_after_a_restart(tracker: Databand) -> None:
    """The data is JSON, for people and tests, and stored in SQLite."""
    tell(tracker)
    tracker.close()
    tracker.start()
    (run,) = requests.get(f"{tracker.url}/sandbox/runs", timeout=10).json()
    one = requests.get(f"{tracker.url}/sandbox/runs/{run['run_uid']}", timeout=10).json()
    assert one == run == tracker.run(run["run_uid"])
    assert requests.get(f"{tracker.url}/sandbox/runs/none", timeout=10).status_code == 404


def _walk(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the path of each object in a body."""
    if isinstance(body, dict):
        yield path
    items = body.items() if isinstance(body, dict) else enumerate(body) if _lists(body) else ()
    for key, value in items:
        yield from _walk(value, (*path, key))


def _lists(body: Any) -> bool:
    return isinstance(body, list)


def _at(body: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        body = body[key]
    return body


@pytest.mark.parametrize("endpoint", ORDER)
def test_it_refuses_unknown_and_missing_fields_anywhere(endpoint: str, tracker: Databand) -> None:
    """At every depth of a body an unknown field is an error, and so is a missing one."""
    tell(tracker)
    body = RECORDED[endpoint][0]
    for path in _walk(body):
        more = copy.deepcopy(body)
        _at(more, path)["surprise"] = 1
        answer = post(tracker, f"tracking/{endpoint}", more)
        assert (answer.status_code, "surprise" in answer.text) == (400, True), path
        fewer = copy.deepcopy(body)
        removed, _ = _at(fewer, path).popitem()
        answer = post(tracker, f"tracking/{endpoint}", fewer)
        assert (answer.status_code, removed in answer.text) == (400, True), path


@pytest.mark.parametrize("endpoint", ORDER[1:])
def test_it_refuses_data_of_unknown_runs(endpoint: str, tracker: Databand) -> None:
    """Data of a run or an attempt that was not announced is refused."""
    answer = post(tracker, f"tracking/{endpoint}", RECORDED[endpoint][0])
    assert answer.status_code == 400
    assert "was not announced" in answer.text
    assert tracker.runs() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("value_int", 10**15 + 1),
        ("value_str", "x" * 5_001),
        ("timestamp", "2026-11-21T19:36:59"),
        ("key", None),
        ("value_float", float("nan")),
    ],
)
def test_it_refuses_values_that_databand_cannot_store(
    field: str, value: Any, tracker: Databand
) -> None:
    """Large ints, long texts, times without an offset, and bare NaN are errors."""
    tell(tracker)
    body = copy.deepcopy(RECORDED["log_metrics"][0])
    body["metrics_info"][0]["metric"][field] = value
    assert post(tracker, "tracking/log_metrics", body).status_code == 400


def test_it_refuses_without_the_token(tracker: Databand) -> None:
    """A wrong or missing token is 401."""
    body = RECORDED["init_run"][0]
    assert post(tracker, "tracking/init_run", body, Authorization="Bearer no").status_code == 401
    assert post(tracker, "tracking/init_run", body, Authorization="").status_code == 401
    assert tracker.runs() == []


def test_a_login_needs_the_csrf_token(tracker: Databand) -> None:
    """Without the header that matches the cookie neither the login nor a call is accepted."""
    login = {"username": tracker.account.username, "password": tracker.account.password}
    body = RECORDED["init_run"][0]
    with requests.Session() as session:
        assert post(tracker, "auth/login", login, session, Authorization="").status_code == 403
        session.get(f"{tracker.url}/api/v1/auth/csrf", timeout=10)
        csrf = session.cookies["X-CSRF-TOKEN"]
        wrong = {**login, "password": "no"}
        headers = {"Authorization": "", "X-CSRFToken": csrf}
        assert post(tracker, "auth/login", wrong, session, **headers).status_code == 401
        assert post(tracker, "auth/login", login, session, **headers).status_code == 200
        refused = post(tracker, "tracking/init_run", body, session, Authorization="")
        assert refused.status_code == 403
        assert post(tracker, "tracking/init_run", body, session, **headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/plain"}, {"Content-Encoding": ""}, {"X-Databand-Version": ""}],
)
def test_it_refuses_requests_that_dbnd_never_sends(
    headers: dict[str, str], tracker: Databand
) -> None:
    """JSON, gzip and the version are required."""
    answer = post(tracker, "tracking/init_run", RECORDED["init_run"][0], **headers)
    assert answer.status_code == 400


def test_an_old_state_is_not_restored(tracker: Databand) -> None:
    """A RUNNING that is repeated after the end changes nothing."""
    tell(tracker)
    end = {
        "run_uid": RECORDED["set_run_state"][0]["run_uid"],
        "state": "FAILED",
        "timestamp": "2026-11-21T19:40:00+00:00",
    }
    post(tracker, "tracking/set_run_state", end)
    late = {**end, "state": "RUNNING", "timestamp": "2026-11-21T19:39:00+00:00"}
    assert post(tracker, "tracking/set_run_state", late).status_code == 200
    assert tracker.runs()[0]["state"] == "FAILED"


def test_the_page_shows_the_counts_of_each_run(tracker: Databand) -> None:
    """The sandbox's page gets one row per run: its name, its job, its state and counts."""
    tell(tracker)
    (told,) = tracker.runs()
    (table,) = tracker.tables()
    (row,) = table.rows
    assert row.key == told["run_uid"]
    assert [cell.text for cell in row.cells[1:]] == [
        told["name"],
        told["job_name"],
        told["state"].lower(),
        str(len(told["tasks"])),
        *(str(sum(len(task[what]) for task in told["tasks"])) for what in ("params", "metrics")),
        "0",
        str(sum(len(task["datasets"] + task["targets"]) for task in told["tasks"])),
    ]
    assert [cell.text for cell in row.cells[4:]] == ["2", "2", "1", "0", "2"]
    assert len(table.columns) == len(row.cells)


def test_a_note_is_not_counted_as_a_metric(tracker: Databand) -> None:
    """A fact that arrives as a metric of the system has its own count on the page."""
    tell(tracker)
    body = copy.deepcopy(RECORDED["log_metrics"][0])
    fact = body["metrics_info"][0]["metric"]
    fact.update(key="mlflow.status", source="system", value="FINISHED", value_str="FINISHED")
    assert post(tracker, "tracking/log_metrics", body).status_code == 200
    (table,) = tracker.tables()
    counts = dict(zip(table.columns, (cell.text for cell in table.rows[0].cells), strict=True))
    assert (counts["Metrics"], counts["Notes"]) == ("1", "1")
