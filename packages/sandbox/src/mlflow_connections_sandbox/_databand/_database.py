"""The tracker's data in SQLite: each item once, however often it is sent."""

import json
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ._check import Wrong

_TABLES = """
CREATE TABLE IF NOT EXISTS runs (uid TEXT PRIMARY KEY, root TEXT, state TEXT, state_at TEXT, info TEXT);
CREATE TABLE IF NOT EXISTS tasks (
    uid TEXT PRIMARY KEY, run TEXT, attempt TEXT UNIQUE, state TEXT, state_at TEXT, info TEXT);
CREATE TABLE IF NOT EXISTS params (task TEXT, name TEXT, value TEXT, PRIMARY KEY (task, name));
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY, kind TEXT, attempt TEXT, body TEXT, UNIQUE (kind, attempt, body));
CREATE TABLE IF NOT EXISTS rows_sent (kind TEXT PRIMARY KEY, count INTEGER);
"""

# Facts that Databand has no field for arrive as metrics of this kind.
_NOTE = """(json_extract(body, '$.metric.source') IS 'system'
     AND json_extract(body, '$.metric.key') LIKE 'mlflow.%')"""

_NEWEST = """
SELECT uid, state, info,
    (SELECT COUNT(*) FROM tasks WHERE run = runs.uid) AS tasks,
    (SELECT COUNT(*) FROM tasks JOIN params ON task = uid WHERE run = runs.uid) AS params,
    (SELECT COUNT(*) FROM tasks JOIN rows USING (attempt)
     WHERE run = runs.uid AND kind = 'metric'
     AND NOT {note}) AS metrics,
    (SELECT COUNT(*) FROM tasks JOIN rows USING (attempt)
     WHERE run = runs.uid AND kind = 'metric'
     AND {note}) AS notes,
    (SELECT COUNT(*) FROM tasks JOIN rows USING (attempt)
     WHERE run = runs.uid AND kind IN ('dataset', 'target')) AS data
FROM runs ORDER BY runs.rowid DESC LIMIT ?
"""

Body = Mapping[str, Any]


class TrackerDatabase:
    """The tracker's database. A request that cannot be executed is refused, and changes nothing."""

    def __init__(self, path: Path) -> None:
        # The server's thread writes; a test's thread reads.
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        self._database.executescript(_TABLES)
        self._lock = threading.Lock()
        self._requests: Mapping[str, Callable[[Body], Any]] = {
            "init_run": self._init_run,
            "add_task_runs": lambda body: self._add_tasks(body["task_runs_info"]),
            "update_task_run_attempts": self._update_attempts,
            "set_run_state": self._set_run_state,
            "set_unfinished_tasks_state": self._set_unfinished,
            "log_metrics": lambda body: self._add_rows("metric", body["metrics_info"]),
            "log_datasets": lambda body: self._add_rows("dataset", body["datasets_info"]),
            "log_targets": lambda body: self._add_rows("target", body["targets_info"]),
            "heartbeat": lambda body: self._run(body["run_uid"])["state"],
            "save_task_run_log": lambda body: self._task_of(body["task_run_attempt_uid"]),
            "save_external_links": lambda body: self._task_of(body["task_run_attempt_uid"]),
        }

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def take(self, endpoint: str, body: Body) -> Any:
        """Execute a request, completely or not at all, and return the response.

        Raises:
            Wrong: It cannot be executed: for example, it names a run or an attempt that was not
                announced.
        """
        with self._lock, self._database:
            return self._requests[endpoint](body)

    # ----- reading

    def runs(self) -> list[dict[str, Any]]:
        """Return every run, in the order they were announced."""
        with self._lock:
            uids = [row["uid"] for row in self._rows("SELECT uid FROM runs ORDER BY rowid")]
        return [self.run(uid) for uid in uids]

    def run(self, uid: str) -> dict[str, Any]:
        """Return a run with its tasks, and their params, metrics, datasets and targets.

        Raises:
            KeyError: The run does not exist.
        """
        with self._lock:
            found = self._rows("SELECT * FROM runs WHERE uid = ?", uid)
            if not found:
                raise KeyError(uid)
            (run,) = found
            tasks = self._rows("SELECT * FROM tasks WHERE run = ? ORDER BY rowid", uid)
            return {
                **json.loads(run["info"]),
                "state": run["state"],
                "state_at": run["state_at"],
                "tasks": [self._task(task) for task in tasks],
            }

    def _task(self, task: sqlite3.Row) -> dict[str, Any]:
        params = self._rows("SELECT name, value FROM params WHERE task = ?", task["uid"])
        return {
            **json.loads(task["info"]),
            "state": task["state"],
            "state_at": task["state_at"],
            "params": {param["name"]: param["value"] for param in params},
            "metrics": [row["metric"] for row in self._bodies("metric", task["attempt"])],
            "datasets": self._bodies("dataset", task["attempt"]),
            "targets": self._bodies("target", task["attempt"]),
        }

    def newest(self, count: int) -> list[dict[str, Any]]:
        """Return the newest runs, newest first, with the counts of their parts."""
        with self._lock:
            found = self._rows(_NEWEST.format(note=_NOTE), count)
        return [{**json.loads(row["info"]), **dict(row)} for row in found]

    def repeated(self) -> int:
        """Count the rows that were sent more than once and kept once."""
        with self._lock:
            (sent,) = self._rows("SELECT COALESCE(SUM(count), 0) AS n FROM rows_sent")
            (kept,) = self._rows("SELECT COUNT(*) AS n FROM rows")
        return int(sent["n"] - kept["n"])

    # ----- requests

    def _init_run(self, body: Body) -> None:
        args = body["init_args"]
        uid, root = args["run_uid"], args["root_run_uid"]
        info = args["new_run_info"]
        if {uid} != {args["task_runs_info"]["run_uid"], (info or args)["run_uid"]}:
            raise Wrong("init_args names more than one run_uid")
        if root != uid:
            self._run(root)
        if info is not None:
            self._database.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?) ON CONFLICT (uid) DO NOTHING",
                (uid, root, info["state"], info["start_time"], _json(info)),
            )
            if args["update_existing"]:
                self._database.execute("UPDATE runs SET info = ? WHERE uid = ?", (_json(info), uid))
        self._add_tasks(args["task_runs_info"])

    def _add_tasks(self, info: Body) -> None:
        self._run(info["run_uid"])
        if info["parent_task_run_attempt_uid"] is not None:
            self._task_of(info["parent_task_run_attempt_uid"])
        definitions = {d["task_definition_uid"] for d in info["task_definitions"]}
        for task in info["task_runs"]:
            if task["run_uid"] != info["run_uid"]:
                raise Wrong(f"task run {task['task_run_uid']} belongs to another run")
            if task["task_definition_uid"] not in definitions:
                raise Wrong(f"task run {task['task_run_uid']} has no definition in the request")
            self._add_task(task)

    def _add_task(self, task: Body) -> None:
        uid, attempt = task["task_run_uid"], task["task_run_attempt_uid"]
        known = self._rows("SELECT run FROM tasks WHERE uid = ?", uid)
        if known and known[0]["run"] != task["run_uid"]:
            raise Wrong(f"task run {uid} belongs to another run")
        owner = self._rows("SELECT uid FROM tasks WHERE attempt = ?", attempt)
        if owner and owner[0]["uid"] != uid:
            raise Wrong(f"attempt {attempt} belongs to another task run")
        info = {k: v for k, v in task.items() if k not in {"task_run_params", "state"}}
        self._database.execute(
            "INSERT INTO tasks VALUES (?, ?, ?, ?, '', ?)"
            " ON CONFLICT (uid) DO UPDATE SET attempt = excluded.attempt, info = excluded.info",
            (uid, task["run_uid"], attempt, task["state"], _json(info)),
        )
        self._database.executemany(
            "INSERT INTO params VALUES (?, ?, ?)"
            " ON CONFLICT (task, name) DO UPDATE SET value = excluded.value",
            [(uid, p["parameter_name"], p["value"]) for p in task["task_run_params"]],
        )

    def _update_attempts(self, body: Body) -> None:
        for update in body["task_run_attempt_updates"]:
            task = self._task_of(update["task_run_attempt_uid"])
            if task["uid"] != update["task_run_uid"]:
                raise Wrong(f"attempt {update['task_run_attempt_uid']} belongs to another task run")
            if update["state"] is not None:
                self._set_state("tasks", task["uid"], update["state"], update["timestamp"])

    def _set_run_state(self, body: Body) -> None:
        self._run(body["run_uid"])
        self._set_state("runs", body["run_uid"], body["state"], body["timestamp"])

    def _set_unfinished(self, body: Body) -> None:
        self._run(body["run_uid"])
        self._database.execute(
            "UPDATE tasks SET state = ?, state_at = ? WHERE run = ? AND state IN"
            " ('SCHEDULED', 'QUEUED', 'RUNNING', 'DEFERRED', 'UP_FOR_RETRY')",
            (body["state"], body["timestamp"], body["run_uid"]),
        )

    def _set_state(self, table: str, uid: str, state: str, at: str | None) -> None:
        # A request repeated after later ones must not restore an old state.
        self._database.execute(
            f"UPDATE {table} SET state = ?, state_at = ? WHERE uid = ? AND"  # noqa: S608 - our own two names
            " (? IS NULL OR state_at = '' OR julianday(?) >= julianday(state_at))",
            (state, at or "", uid, at, at),
        )

    def _add_rows(self, kind: str, rows: list[Body]) -> None:
        for row in rows:
            attempt = row["task_run_attempt_uid"]
            task = self._task_of(attempt)
            if row.get("run_uid", task["run"]) != task["run"]:
                raise Wrong(f"attempt {attempt} belongs to another run")
            self._database.execute(
                "INSERT INTO rows (kind, attempt, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (kind, attempt, _json(row)),
            )
        self._database.execute(
            "INSERT INTO rows_sent VALUES (?, ?)"
            " ON CONFLICT (kind) DO UPDATE SET count = count + excluded.count",
            (kind, len(rows)),
        )

    # ----- looking up

    def _run(self, uid: str) -> sqlite3.Row:
        found = self._rows("SELECT * FROM runs WHERE uid = ?", uid)
        if not found:
            raise Wrong(f"run {uid} was not announced")
        return found[0]

    def _task_of(self, attempt: str) -> sqlite3.Row:
        found = self._rows("SELECT * FROM tasks WHERE attempt = ?", attempt)
        if not found:
            raise Wrong(f"attempt {attempt} was not announced")
        return found[0]

    def _bodies(self, kind: str, attempt: str) -> list[dict[str, Any]]:
        rows = self._rows(
            "SELECT body FROM rows WHERE kind = ? AND attempt = ? ORDER BY number", kind, attempt
        )
        return [json.loads(row["body"]) for row in rows]

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        return self._database.execute(query, values).fetchall()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
