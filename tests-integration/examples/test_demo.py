"""The whole demo: its page, its links, and the commands that it prints last."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.request import url2pathname

import mlflow
import pytest
import requests

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LAST_LINE = "They are there until Ctrl-C."


class Links(HTMLParser):
    """Collects the links of a page, and counts its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.pictures = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a link or a picture."""
        self.found += [value for name, value in attrs if name == "href" and value]
        self.pictures += tag in {"svg", "img"}


@pytest.mark.slow
def test_the_demo_ends_with_links_and_commands_that_work(tmp_path: Path) -> None:
    """`--open` opens a page whose links work; after Ctrl-C the last commands, as printed, serve the same runs."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    demo = subprocess.Popen(
        [sys.executable, "examples/demo.py", "--open", "databricks", "durable"],
        cwd=tmp_path,
        env={**os.environ, "BROWSER": f"{browser} %s"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout
    lines = []
    try:
        for line in demo.stdout:
            lines.append(line.rstrip("\n"))
            if lines[-1] == LAST_LINE:
                break
        assert lines[-1] == LAST_LINE, "\n".join(lines)
        rows = [
            line
            for line in lines
            if re.match(r"(connection|-+|sqlite|databricks|durable) .* \S+$", line)
            and not re.search(r"\d s  ", line)
        ]
        assert len([line for line in rows if "0.978" in line]) == 3
        assert max(map(len, rows)) <= 80
        promised = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8").splitlines()
        table = [row for row in rows if "stand-in at" not in row]
        assert [row for row in table if row.rstrip() not in promised] == []
        assert rows[-1].split()[-1] == "equal"
        assert story_of("durable", lines) == [
            "load done",
            "split done",
            "the server is killed",
            "does not",
            "the server is started again",
            "has everything",
        ]
        (link,) = [line.split(": ", 1)[1] for line in lines if line.startswith("A picture of")]
        shown = Links(Path(url2pathname(link.removeprefix("file://"))).read_text(encoding="utf-8"))
        assert shown.pictures == 6
        assert len(shown.found) == 2
        for run_page in shown.found:
            server, _, place = run_page.partition("/#/experiments/")
            run_id = place.rpartition("/")[2]
            assert requests.get(server, timeout=60).ok
            assert mlflow.MlflowClient(server).get_run(run_id).info.status == "FINISHED"
        pages = [
            line.split(": ", 1)[1] for line in lines if re.match(r"[^/]* pages?.*: http", line)
        ]
        assert len(pages) == 3
        assert all(requests.get(page, timeout=60).ok for page in pages)
        while not opened.exists():
            time.sleep(0.1)
        assert opened.read_text().strip() == link
        demo.send_signal(signal.SIGINT)
        assert demo.wait() == 0
    finally:
        demo.kill()
        demo.stdout.close()
    assert max(map(len, lines[:2])) <= 80
    text = "\n".join(lines).replace("\\\n", " ")
    commands = dict(re.findall(r"^  # .*, at (http://\S+)\n(.*)$", text, re.MULTILINE))
    found = [names_served_by(command, url) for url, command in commands.items()]
    assert found == [{f"/Shared/wine-{name}"} for name in ("sqlite", "databricks", "durable")]


def story_of(name: str, lines: list[str]) -> list[str]:
    """Return the progress of a run without lines that may appear at any time: its nodes during the outage."""
    told = "|".join(
        (
            *("load done", "split done", "the server is .*"),
            "does not",
            "has everything",
        )
    )
    text = [line for line in lines if re.match(rf"{name} +\d+\.\d s  ", line)]
    return [found[0] for line in text if (found := re.search(told, line))]


def names_served_by(command: str, url: str) -> set[str]:
    """Run a printed command, and return its server's experiments that contain a run."""
    server = subprocess.Popen(
        ["sh", "-c", command], start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        while not is_healthy(url):
            assert server.poll() is None, command
            time.sleep(0.2)
        client = mlflow.MlflowClient(url)
        experiments = client.search_experiments()
        return {each.name for each in experiments if client.search_runs([each.experiment_id])}
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def is_healthy(url: str) -> bool:
    """Return whether a server responds."""
    try:
        return requests.get(f"{url}/health", timeout=10).ok
    except requests.ConnectionError:
        return False
