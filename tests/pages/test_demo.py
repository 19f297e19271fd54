"""The chat page of the real server with the demo model: its suggestions, and its requests through the shipped nginx."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.pages.conftest import OpenPage
from tests.support.nginx import MakeProxy
from tests.support.server import Server

ANSWER_MS = 60_000

# The demo model's answers, from `demo/expected.json`; a dictionary has the arguments of a call.
ANSWERS: dict[str, dict[str, str | dict[str, str]]] = {
    "en": {
        "What can you do?": "I can chat a little in English and Chinese, count, repeat text, tell short stories",
        "What is the capital of Japan?": "The capital of Japan is Tokyo.",
        "Tell me a story about a fox.": "the fox and the bird played together every morning, and Leo was never lonely",
        "What is the weather in Paris?": {"city": "Paris"},
    },
    "zh": {
        "你会做什么？": "我会用中文和英文简单聊天，会数数、复述文字、讲小故事，还会调用工具。",
        "日本的首都是哪里？": "日本的首都是东京。",
        "讲个故事": "从那天起，兔子和小鸟每天早上一起玩，再也不孤单了。",
        "北京今天天气怎么样？": {"city": "北京"},
    },
}

WEATHER = {
    "en": "The weather in Paris is sunny with a temperature of 21°C.",
    "zh": "北京现在的天气是晴，气温21°C。",
}


@pytest.mark.parametrize("tools", [False, True], ids=["alone", "beside tools"])
@pytest.mark.parametrize(("language", "locale"), [("en", "en-GB"), ("zh", "zh-CN")])
def test_the_demo_model_answers_each_suggested_question(
    demo: Server, open_page: OpenPage, language: str, locale: str, tools: bool
) -> None:
    url = demo.url + "/"
    page = open_page(url, locale=locale)
    suggestions = page.evaluate("import('/assets/suggestions.js').then((module) => module.SUGGESTIONS.demo)")[language]
    assert {suggestion["text"] for suggestion in suggestions} == ANSWERS[language].keys()
    for suggestion in suggestions:
        # The tools stay on after the question about the weather, so the model answers the others with tools.
        preferences = json.dumps({"temperature": 0, "tools": tools})
        page.evaluate("(text) => localStorage.setItem('glm.preferences', text)", preferences)
        page.goto(url)
        page.locator(".suggestions").get_by_role("button", name=suggestion["text"]).click()
        reply = page.locator(".message.assistant:not(.live)")
        expect(reply.locator(".stats")).to_contain_text("token", timeout=ANSWER_MS)
        expected = ANSWERS[language][suggestion["text"]]
        if isinstance(expected, str):
            expect(reply.locator(".markdown")).to_contain_text(expected)
        else:
            assert json.loads(reply.locator(".tool pre").inner_text()) == expected
            page.locator(".results button").click()
            expect(reply.last.locator(".markdown")).to_contain_text(WEATHER[language], timeout=ANSWER_MS)


def test_the_page_opens_repeatedly_behind_the_shipped_nginx(
    demo: Server, make_proxy: MakeProxy, open_page: OpenPage, tmp_path: Path
) -> None:
    proxy = make_proxy(demo.url.removeprefix("http://"))
    page = open_page(str(proxy.base_url), ignore_https_errors=True)
    for reload in (page.reload, page.reload, page.reload, None):
        expect(page.locator("#model")).to_have_value("chatglm3-demo")
        expect(page.get_by_role("button", name="Tell me a story about a fox.")).to_be_visible()
        if reload:
            reload()
    page.get_by_role("textbox", name="Message").fill("What is the capital of Japan?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Model")).to_contain_text("Tokyo", timeout=ANSWER_MS)
    page.close()
    entries = [json.loads(line) for line in (tmp_path / "glm.log").read_text().splitlines()]
    assert sum(entry["request"] == "GET /" for entry in entries) == 4
    assert {entry["status"] for entry in entries} <= {200, 304}


@pytest.mark.parametrize("path", ["/tokenize", "/v1/chat/completions"])
def test_the_shipped_nginx_limits_requests_that_cost_something(demo: Server, make_proxy: MakeProxy, path: str) -> None:
    proxy = make_proxy(demo.url.removeprefix("http://"))
    with ThreadPoolExecutor(10) as pool:
        # Either the server refuses the request, or nginx has refused it before.
        statuses = {response.status_code for response in pool.map(lambda _: proxy.post(path, json={}), range(100))}
    assert statuses == {400, 429}
