"""The built documentation in a Chromium: every page, on a desktop and a phone, light and dark.

`nox -s site` builds it and runs these tests. `SITE` names the folder, `CHROMIUM` the browser.
"""

import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal, NamedTuple

import pytest
from axe_playwright_python.sync_playwright import (  # type: ignore[import-untyped]  # without types
    Axe,
)
from playwright.sync_api import Browser, Page, sync_playwright

SITE = Path(os.environ.get("SITE", Path(__file__).resolve().parents[2] / "docs" / "_build"))
# Pages that Sphinx generates and only JavaScript fills.
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts and path.name not in ("search.html", "genindex.html")
)
_WIDER = """() => [...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1
        && !e.closest("thead, .sidebar-drawer, .toc-drawer, .skip-to-content, pre, .headerlink"))
    .slice(0, 5).map(e => e.outerHTML.slice(0, 160))"""


_CUT_TABLES = """() => [...document.querySelectorAll(".table-wrapper")]
    .filter(e => e.scrollWidth > e.clientWidth).length"""
_CUT_COMMANDS = """() => [...document.querySelectorAll(".highlight-console pre, .highlight-text pre")]
    .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth)
    .map(e => e.textContent.slice(0, 80))"""
_HEADINGS_ALONE = """() => [...document.querySelectorAll("td[data-heading]")]
    .filter(e => innerWidth < 700 && e.checkVisibility() && !e.textContent.trim()).length"""


class Screen(NamedTuple):
    """The screen of a reader."""

    width: int
    scheme: Literal["light", "dark"]


SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
SCREENS = [Screen(width, scheme) for width in (1280, 390) for scheme in SCHEMES]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without logging."""

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The site on a loopback port: copying does not work from a file's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chromium in the variable CHROMIUM."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"])
        yield browser
        browser.close()


@pytest.fixture(
    scope="module", params=SCREENS, ids=lambda screen: f"{screen.width}-{screen.scheme}"
)
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A tab on one of the screens; its console's errors are kept in `errors`."""
    screen: Screen = request.param
    context = browser.new_context(
        viewport={"width": screen.width, "height": 900},
        color_scheme=screen.scheme,
        permissions=["clipboard-read", "clipboard-write"],
    )
    tab = context.new_page()
    yield tab
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_and_is_accessible(path: str, page: Page, address: str) -> None:
    """Nothing is wider than the screen or cut, no cell is blank on a phone, and axe and the console report nothing."""
    errors: list[str] = []
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/{path}")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    assert page.evaluate(_WIDER) == []
    assert page.evaluate(_CUT_TABLES) == 0
    assert page.evaluate(_CUT_COMMANDS) == []
    assert page.evaluate(_HEADINGS_ALONE) == 0
    found = Axe().run(page).response["violations"]
    assert [
        f"{each['id']}: {node['html']} {node.get('failureSummary', '')}"
        for each in found
        for node in each["nodes"][:3]
    ] == []
    assert errors == []


def test_copying_a_command_omits_the_prompt(page: Page, address: str) -> None:
    """The copy button copies the command, with its continued lines, and not the `$`."""
    page.goto(f"{address}/index.html")
    block = page.locator(".highlight-console").first
    block.hover()
    block.locator("button.copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("pip install")
    assert "$" not in copied


def test_a_page_can_be_edited(page: Page, address: str) -> None:
    """Each page links to its source on GitHub."""
    page.goto(f"{address}/kedro.html")
    link = page.locator("a[href*='/edit/main/docs/kedro.md']")
    assert link.count() >= 1


def test_pictures_have_the_colours_of_the_page(page: Page, address: str) -> None:
    """Of a picture that was taken light and dark, the one of the reader's scheme is shown."""
    page.goto(f"{address}/durable.html")
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    shown = [
        image.get_attribute("src") or ""
        for image in page.locator("img[src*='durable-run']").all()
        if image.is_visible()
    ]
    assert [source.endswith("-dark.png") for source in shown] == [dark]
