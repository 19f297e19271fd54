"""A real Chromium for the pages.

`PAGES_TEST_URL` names a running server for the tests that need no scripted model (`test_any_server.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.support.pages_stub import Stub

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Chromium logs each answer with an error status, and each request that fails because the server is gone. The tests of
# these errors check themselves what the page shows.
FAILED_RESPONSE = re.compile(
    r"Failed to load resource: (the server responded with a status of \d+|net::ERR_CONNECTION_REFUSED)"
)

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.close()


@pytest.fixture
def server_url(request: pytest.FixtureRequest) -> str:
    """The address of the pages, with a slash at the end."""
    given = os.environ.get("PAGES_TEST_URL")
    if given:
        return given.rstrip("/") + "/"
    stub: Stub = request.getfixturevalue("stub")
    return stub.url


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Return a function that opens an address in a new profile.

    The test fails if a page asks another origin, breaks its policy or fails in a script.
    """
    faults: list[str] = []
    contexts = []

    def open_page(url: str, **options: Any) -> Page:
        context = browser.new_context(locale=options.pop("locale", "en-GB"), **options)
        contexts.append(context)
        origin = urlsplit(url).netloc

        def check_request(request: Request) -> None:
            address = urlsplit(request.url)
            if address.scheme != "data" and address.netloc != origin:
                faults.append(f"asked another origin: {request.url}")

        def check_message(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not FAILED_RESPONSE.match(message.text):
                faults.append(f"console: {message.text}")

        context.on("request", check_request)
        context.on("console", check_message)
        context.on("weberror", lambda error: faults.append(f"script: {error.error}"))
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
