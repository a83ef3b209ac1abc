"""The sandbox's page in a real browser, while real clients talk to the stand-ins."""

import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import (  # type: ignore[import-untyped]  # without types
    Axe,
)
from playwright.sync_api import Locator, Page, expect

from mlflow_connections_databand._composite import SINK
from mlflow_connections_outbox import Destination, Event, Outbox
from mlflow_connections_outbox.admin import outboxes
from mlflow_connections_sandbox import Fault, Sandbox
from mlflow_connections_sandbox._page import Page as SandboxPage

Visit = Callable[..., Page]

CLIPBOARD = ("clipboard-read", "clipboard-write")
TRAIN = """
import mlflow

mlflow.set_experiment("/Shared/{name}")
with mlflow.start_run(run_name="seen <b>live</b>"):
    mlflow.log_metric("rmse", 0.5)
"""


def stand_in(page: Page, title: str) -> Locator:
    """Return a stand-in's section."""
    return page.get_by_role("region", name=title, exact=True)


def rows(section: Locator, table: str) -> Locator:
    """Return the rows of one of its tables, without the heading."""
    return section.get_by_role("group", name=table).locator("tbody tr")


def send(sandbox: Sandbox, path: str) -> None:
    """Send a path to the workspace unchanged, which most clients would quote first."""
    connection = http.client.HTTPConnection("127.0.0.1", sandbox["databricks"].port, timeout=10)
    connection.request("GET", path)
    connection.getresponse().read()
    connection.close()


def test_it_lists_the_stand_ins_and_their_variables(visit: Visit, sandbox: Sandbox) -> None:
    """Each has its address, its state, its lines to paste, its guide and a place among the links."""
    page = visit(sandbox.page_url)
    expect(page.get_by_role("status")).to_have_text("Live")
    expect(page.get_by_role("link", name="Open MLflow")).to_have_attribute(
        "href", sandbox.mlflow_url
    )
    for name, title in (("databricks", "Databricks"), ("databand", "Databand")):
        section = stand_in(page, title)
        expect(section.get_by_text("Running")).to_be_visible()
        expect(section.locator(".address")).to_have_text(sandbox[name].url)
        for variable, value in sandbox.environment(name).items():
            expect(section.get_by_label("In a shell", exact=True)).to_contain_text(
                f"export {variable}={value}"
            )
        expect(section.get_by_role("link", name="Guide")).to_have_attribute(
            "href",
            f"https://github.com/mlflow-connections/mlflow-connections/blob/main/docs/"
            f"{sandbox[name].guide}.md",
        )
        link = page.get_by_role("navigation").get_by_role("link", name=title)
        expect(link).to_have_attribute("href", f"#{name}")


@pytest.mark.parametrize(
    ("name", "title", "table", "text"),
    [
        ("databricks", "Databricks", "Requests", "/api/2.0/mlflow/runs/log-metric"),
        ("databand", "Databand", "Received runs", "/Shared/databand"),
    ],
)
def test_copied_lines_make_a_run_that_appears_and_links_to_mlflow(
    visit: Visit, sandbox: Sandbox, tmp_path: Path, name: str, title: str, table: str, text: str
) -> None:
    """The copied lines, run in a shell, log a run that appears on the page without a reload."""
    page = visit(sandbox.page_url, permissions=CLIPBOARD)
    page.evaluate("window.notReloaded = true")
    section = stand_in(page, title)
    lines = []
    for where in ("In a shell", "Then run a script"):
        section.get_by_role("button", name=f"Copy: {where}").click()
        expect(section.get_by_role("button", name=f"Copy: {where}")).to_have_text("Copied")
        lines.append(page.evaluate("navigator.clipboard.readText()"))
    assert lines == [
        "\n".join(f"export {name}={value}" for name, value in sandbox.environment(name).items()),
        f"mlflow-connections run {name} -- python train.py",
    ]
    (tmp_path / "train.py").write_text(TRAIN.format(name=name))
    bin_folder = str(Path(sys.executable).parent)
    subprocess.run(
        ["sh", "-ec", "\n".join(lines)],
        cwd=tmp_path,
        check=True,
        env={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
    )
    # Another process that outlives the shell delivers to Databand.
    expect(rows(section, table).filter(has_text=text).first).to_be_visible()
    run = rows(page.locator("#runs"), "Newest runs").filter(has_text=f"/Shared/{name}")
    expect(run).to_contain_text("rmse 0.5")
    expect(run).to_contain_text("finished")
    assert page.evaluate("window.notReloaded")
    with page.context.expect_page() as opened:
        run.get_by_role("link", name="seen <b>live</b>").click()
    expect(opened.value.get_by_role("heading", name="seen <b>live</b>")).to_be_visible()
    assert opened.value.url.startswith(f"{sandbox.mlflow_url}/#/experiments/")


def test_hostile_paths_are_text(visit: Visit, sandbox: Sandbox) -> None:
    """Markup in a path is shown as text and has no effect."""
    page = visit(sandbox.page_url)
    path = "/<img/src=x/onerror=hurt=1><script>hurt=1</script>"
    long = f"{path}&amp;'\"{path}"
    cell = rows(stand_in(page, "Databricks"), "Requests").first.locator("td").nth(2)
    send(sandbox, path)
    expect(cell).to_have_text(path)
    send(sandbox, long)
    expect(cell).to_have_text(long)
    assert page.evaluate("typeof hurt") == "undefined"
    assert page.locator("main img, main script").count() == 0


def test_new_rows_come_first_and_the_others_stay(visit: Visit, sandbox: Sandbox) -> None:
    """A new request comes first; the existing rows are the same elements, and faults are marked."""
    page = visit(sandbox.page_url)
    requests = rows(stand_in(page, "Databricks"), "Requests")
    send(sandbox, "/earlier")
    expect(requests.first).to_contain_text("/earlier")
    requests.first.evaluate("row => { row.mark = 'the same' }")
    sandbox["databricks"].faults.inject(Fault("/later", status=503, times=1))
    send(sandbox, "/later")
    expect(requests.first).to_contain_text("503 fault")
    expect(requests.nth(1)).to_contain_text("/earlier")
    assert requests.nth(1).evaluate("row => row.mark") == "the same"


def test_rows_can_be_filtered_and_cleared(visit: Visit, sandbox: Sandbox) -> None:
    """Rows that do not match are hidden, cleared ones as well until they are requested, and new ones appear."""
    page = visit(sandbox.page_url)
    requests = rows(stand_in(page, "Databricks"), "Requests")
    seen = requests.filter(visible=True)
    send(sandbox, "/some-apples")
    send(sandbox, "/some-pears")
    expect(requests.first).to_contain_text("/some-pears")
    page.get_by_label("Filter").fill("APPLES")
    expect(seen).to_have_count(1)
    expect(seen).to_contain_text("/some-apples")
    page.get_by_label("Filter").fill("no such thing")
    section = stand_in(page, "Databricks")
    expect(section.get_by_text("Nothing here matches the filter.")).to_be_visible()
    page.get_by_label("Filter").fill("")
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(seen).to_have_count(0)
    expect(section.get_by_text("Nothing new here.")).to_be_visible()
    send(sandbox, "/some-plums")
    expect(seen).to_have_count(1)
    expect(seen).to_contain_text("/some-plums")
    page.get_by_role("button", name="Show all").click()
    expect(requests.filter(has_text="/some-apples")).to_be_visible()
    expect(page.get_by_role("button", name="Show all")).to_be_hidden()


def test_an_error_shows_its_reason(visit: Visit, sandbox: Sandbox) -> None:
    """The workspace's text is next to the status of a request that it refused."""
    page = visit(sandbox.page_url)
    send(sandbox, "/api/2.0/mlflow/runs/get")
    refused = rows(stand_in(page, "Databricks"), "Requests").first
    expect(refused).to_contain_text("401")
    expect(refused).to_contain_text("Credential was not sent")


def test_waiting_events_of_an_outbox_are_shown_live(visit: Visit, sandbox: Sandbox) -> None:
    """Waiting events appear in a separate card, which is hidden while there is no outbox."""
    page = visit(sandbox.page_url)
    card = page.get_by_role("region", name="Waiting in outboxes")
    expect(page.get_by_role("status")).to_have_text("Live")
    expect(card).to_be_hidden()
    outbox = Outbox(Destination("elsewhere", "http://127.0.0.1:9", SINK))
    waiting = rows(card, "Outboxes").filter(has_text="elsewhere").locator("td").nth(1)
    for count in ("1", "2"):
        outbox.append(Event("run", "status", 0, {"status": "RUNNING"}))
        expect(waiting).to_have_text(count)
    outbox.close()
    for report in outboxes():
        shutil.rmtree(report.folder)
    expect(card).to_be_hidden()


def test_an_outage_is_shown(visit: Visit, sandbox: Sandbox) -> None:
    """A stand-in that is closed is down on the page, and running again after a restart."""
    page = visit(sandbox.page_url)
    section = stand_in(page, "Databand")
    sandbox["databand"].close()
    expect(section.get_by_text("Down")).to_be_visible()
    sandbox["databand"].start()
    expect(section.get_by_text("Running")).to_be_visible()


def test_without_a_clipboard_the_lines_are_selected(visit: Visit, sandbox: Sandbox) -> None:
    """If the browser forbids copying by a page, the text is selected for the user's own keys."""
    page = visit(sandbox.page_url, permissions=[])
    # As in a browser that does not trust the page.
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject() }")
    section = stand_in(page, "Databricks")
    button = section.get_by_role("button", name="Copy: In a shell")
    button.click()
    expect(button).to_have_text("Selected")
    assert page.evaluate("getSelection().toString()").strip().startswith("export DATABRICKS_HOST=")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_accessible(visit: Visit, sandbox: Sandbox, scheme: str, width: int) -> None:
    """In light and dark, on a desktop and on a phone, axe finds no violation.

    It checks contrast, landmarks, headings, tables, names and keyboard access.
    """
    sandbox["databricks"].faults.inject(Fault("/served", status=500, times=1))
    send(sandbox, "/served")
    page = visit(
        sandbox.page_url,
        color_scheme=scheme,
        reduced_motion="reduce",
        viewport={"width": width, "height": 800},
    )
    expect(page.get_by_text("500 fault").first).to_be_visible()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(14, 18, 23)") is (scheme == "dark")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_it_fits_a_narrow_screen(visit: Visit, sandbox: Sandbox) -> None:
    """Nothing is wider than a phone, so the page never scrolls sideways."""
    page = visit(sandbox.page_url, viewport={"width": 360, "height": 740})
    expect(stand_in(page, "Databricks").get_by_text("Running")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_it_shows_that_the_sandbox_has_ended(visit: Visit, sandbox: Sandbox) -> None:
    """The page keeps its content readable and continues when the address responds again."""
    server = SandboxPage(sandbox.mlflow_url, sandbox.folder, [sandbox["databricks"]])
    server.start()
    page = visit(server.url)
    expect(page.get_by_role("status")).to_have_text("Live")
    server.close()
    expect(page.get_by_role("status")).to_have_text("The sandbox has ended")
    expect(stand_in(page, "Databricks").locator(".address")).to_be_visible()
    expect(stand_in(page, "Databricks").get_by_text("Running")).to_be_hidden()
    server.start()
    expect(page.get_by_role("status")).to_have_text("Live")
    server.close()


def test_without_javascript_it_shows_a_sentence(visit: Visit, sandbox: Sandbox) -> None:
    """A browser without scripts shows a sentence instead of an empty page."""
    page = visit(sandbox.page_url, java_script_enabled=False)
    expect(page.get_by_text("which needs JavaScript")).to_be_visible()
