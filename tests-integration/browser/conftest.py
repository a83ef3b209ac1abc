"""A sandbox with its page, and a real browser."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from mlflow_connections_sandbox import Sandbox

NAMES = ("databricks", "databand")


@pytest.fixture(scope="session")
def sandbox(sandbox_folder: Path) -> Iterator[Sandbox]:
    """A sandbox with a page, for all tests."""
    with Sandbox(sandbox_folder, NAMES, page=True) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium in the variable CHROMIUM, without a window."""
    path = os.environ.get("CHROMIUM")
    if not path:
        pytest.fail("Set CHROMIUM to the path of a Chromium; `nox -s browser` looks for one.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


Visit = Callable[..., Page]

# Time limits fail on a busy machine.
expect.set_options(timeout=30_000)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open an address in a new context; its console must be clean at the end of the test.

    In every test the page must have requested nothing from other hosts.
    """
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        # One of the tests stops the server.
        if message.type in {"error", "warning"} and "net::ERR_CONNECTION" not in message.text:
            said.append(message.text)

    def visit(address: str, **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]  # any of its options
        contexts.append(context)
        context.set_default_timeout(30_000)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []
    assert {urlsplit(url).hostname for url in asked} <= {"127.0.0.1"}
