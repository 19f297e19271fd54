"""What the pages do with any server: the stub, or the one at `PAGES_TEST_URL`."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import Page, expect

from tests.pages.conftest import OpenPage
from tests.support.pages_stub import Stub, answer

ANSWER_MS = 60_000


@pytest.fixture
def page(request: pytest.FixtureRequest, server_url: str, open_page: OpenPage) -> Page:
    """The chat page. When the server asks for a key, it gets the one in `PAGES_TEST_KEY`."""
    if "PAGES_TEST_URL" not in os.environ:
        stub: Stub = request.getfixturevalue("stub")
        stub.replies.append(answer("Hello, ", "how are you?"))
    page = open_page(server_url)
    key = os.environ.get("PAGES_TEST_KEY")
    if key:
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_label("Keep it in this browser").check()
        page.keyboard.press("Enter")
    expect(page.locator("#dot")).to_have_attribute("data-state", "ready", timeout=ANSWER_MS)
    expect(page.locator("#model option").first).to_be_attached()
    return page


def test_a_question_is_answered_and_kept(page: Page) -> None:
    page.get_by_role("textbox", name="Message").fill("Hello")
    page.keyboard.press("Enter")
    reply = page.get_by_role("article", name="Model")
    expect(reply.locator(".stats")).to_contain_text("tokens/s", timeout=ANSWER_MS)
    said = reply.locator(".markdown").inner_text()
    assert said.strip()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.reload()
    expect(reply.locator(".markdown")).to_have_text(said, use_inner_text=True)


def test_the_reference_draws_every_operation(server_url: str, open_page: OpenPage) -> None:
    page = open_page(server_url + "docs")
    document = page.context.request.get(server_url + "openapi.json").json()
    methods = {"get", "post", "put", "patch", "delete", "head", "options"}
    operations = sum(len(methods & path.keys()) for path in document["paths"].values())
    assert operations > 0
    expect(page.locator(".opblock")).to_have_count(operations)
    page.locator(".opblock").filter(has_text="/v1/chat/completions").first.click()
    expect(page.locator(".opblock.is-open .responses-wrapper")).to_be_visible()


def test_the_reference_tries_an_operation_on_this_server(server_url: str, open_page: OpenPage) -> None:
    page = open_page(server_url + "docs")
    block = page.locator(".opblock-get").filter(has=page.locator("[data-path='/v1/models']"))
    block.locator(".opblock-summary-control").click()
    with page.expect_response(server_url + "v1/models") as response:
        block.get_by_role("button", name="Execute").click()
    assert response.value.status in (200, 401)
