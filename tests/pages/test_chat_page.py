"""The chat page in a real browser, with a scripted model."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.pages.conftest import OpenPage
from tests.support.pages_stub import (
    LOADING,
    MODEL,
    PING,
    Failure,
    Gate,
    Stub,
    answer,
    chunk,
    ending,
    text,
    thought,
    tool_call,
)

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def ask(page: Page, question: str) -> None:
    page.get_by_role("textbox", name="Message").fill(question)
    page.keyboard.press("Enter")


def last_answer(page: Page) -> Any:
    return page.get_by_role("article", name="Model").last


def expect_finished(page: Page) -> None:
    expect(page.locator("#send")).to_be_visible()


def test_text_shows_while_it_is_still_arriving(stub: Stub, open_page: OpenPage) -> None:
    first, second = Gate(), Gate()
    stub.replies.append(answer("Hel", first, "lo **wor", second, "ld**"))
    page = open_page(stub.url)
    ask(page, "Hi")
    expect(last_answer(page)).to_contain_text("Hel")
    expect(page.locator("#stop")).to_be_visible()
    first.set()
    expect(last_answer(page)).to_contain_text("Hello **wor")
    second.set()
    expect(last_answer(page).locator("strong")).to_have_text("world")
    expect_finished(page)


def test_a_request_carries_what_the_user_set(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Ahoy"))
    page = open_page(stub.url)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("You are a pirate.")
    page.get_by_label("Temperature").fill("0.3")
    page.get_by_label("Longest answer").fill("77")
    page.get_by_label("Offer example tools").check()
    page.keyboard.press("Escape")
    expect(page.locator("#model")).to_have_value(MODEL)
    ask(page, "Hi")
    expect_finished(page)
    (request,) = stub.requests
    tools = request.pop("tools")
    assert [tool["function"]["name"] for tool in tools] == ["get_weather", "get_time"]
    assert request == {
        "model": MODEL,
        "messages": [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": "Hi"}],
        "temperature": 0.3,
        "max_tokens": 77,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
    }


def test_each_answer_tells_its_speed_and_cached_tokens(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Hello"))
    page = open_page(stub.url)
    ask(page, "Hi")
    expect(last_answer(page)).to_contain_text(
        "29 tokens · 14.5 tokens/s · prompt 1,234, 1,200 cached · first token after"
    )


def test_stop_ends_the_request_and_keeps_what_came(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("The beginning", Gate(), "the end"))
    page = open_page(stub.url)
    ask(page, "Hi")
    expect(last_answer(page)).to_contain_text("The beginning")
    page.get_by_role("button", name="Stop").click()
    expect(last_answer(page)).to_contain_text("You stopped this answer.")
    expect(last_answer(page)).to_contain_text("The beginning")
    assert stub.client_left.wait(5)
    stub.replies.append(answer("Fine"))
    ask(page, "Go on")
    expect(last_answer(page)).to_contain_text("Fine")
    assert [message["role"] for message in stub.requests[1]["messages"]] == ["user", "assistant", "user"]


def thinking(page: Page) -> Any:
    return last_answer(page).locator(".thinking")


def test_what_the_model_thinks_is_shown_folded(stub: Stub, open_page: OpenPage) -> None:
    first, second, third = Gate(), Gate(), Gate()
    role, *end = [chunk({"role": "assistant", "content": ""}), *ending()]
    stub.replies.append(
        [role, thought("Hm, <b>"), first, thought("well"), second, text("Hel"), third, text("lo"), *end]
    )
    page = open_page(stub.url)
    ask(page, "Hi")
    expect(thinking(page).locator("summary")).to_have_text("The model is thinking")
    expect(last_answer(page)).not_to_contain_text("Waiting for the model")
    expect(thinking(page).locator(".reasoning")).to_be_hidden()
    thinking(page).locator("summary").click()
    expect(thinking(page).locator(".reasoning")).to_have_text("Hm, <b>")
    first.set()
    expect(thinking(page).locator(".reasoning")).to_have_text("Hm, <b>well")
    second.set()
    expect(thinking(page).locator("summary")).to_have_text(re.compile(r"^Thought for \d+(\.\d)? s$"))
    expect(last_answer(page).locator(".markdown")).to_have_text("Hel")
    third.set()
    expect_finished(page)
    # What the user has opened stays open.
    expect(thinking(page).locator(".reasoning")).to_have_text("Hm, <b>well")
    expect(last_answer(page).locator(".markdown")).to_have_text("Hello")
    page.reload()
    expect(thinking(page).locator("summary")).to_have_text(re.compile(r"^Thought for \d+(\.\d)? s$"))
    expect(thinking(page).locator(".reasoning")).to_be_hidden()


def test_what_the_model_thinks_is_not_sent_again(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [[chunk({"role": "assistant"}), thought("Hm"), text("Hello"), *ending()], answer("Fine")]
    page = open_page(stub.url)
    ask(page, "Hi")
    expect_finished(page)
    ask(page, "And you?")
    expect(last_answer(page)).to_contain_text("Fine")
    expect(thinking(page)).to_have_count(0)
    assert stub.requests[1]["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And you?"},
    ]


def test_an_answer_that_is_stopped_while_the_model_thinks_keeps_the_thoughts(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append([chunk({"role": "assistant"}), thought("Hm"), Gate()])
    page = open_page(stub.url, locale="zh-CN")
    page.get_by_role("textbox", name="消息").fill("你好")
    page.keyboard.press("Enter")
    live = page.get_by_role("article", name="模型").last
    expect(live.locator(".thinking summary")).to_have_text("模型正在思考")
    page.get_by_role("button", name="停止").click()
    expect(live).to_contain_text("你停止了这次回答。")
    expect(live.locator(".thinking summary")).to_have_text(re.compile(r"^思考了 \d+(\.\d)? 秒$"))
    live.locator(".thinking summary").click()
    expect(live.locator(".reasoning")).to_have_text("Hm")


def test_reasoning_under_the_name_of_other_servers_is_shown(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append([chunk({"role": "assistant"}), chunk({"reasoning": "Hm"}), text("Hello"), *ending()])
    page = open_page(stub.url)
    ask(page, "Hi")
    expect_finished(page)
    expect(thinking(page).locator(".reasoning")).to_have_text("Hm")


ATTACKS = [
    "<script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "[click](javascript:window.owned=1)",
    "[click](  JaVaScRiPt:window.owned=1 'title')",
    "[click](data:text/html,<script>window.owned=1</script>)",
    "![picture](javascript:window.owned=1)",
    '![x"onerror="window.owned=1](https://example.com/x.png)',
    "<svg onload='window.owned = 1'></svg>",
    "<iframe srcdoc='<script>parent.owned = 1</script>'></iframe>",
    "<a href='javascript:window.owned=1'>click</a>",
    "<style>body { display: none }</style>",
    "<form action='https://example.com'><button>send</button></form>",
    '```"><img src=x onerror=window.owned=1>\ncode\n```',
    "| <img src=x onerror=window.owned=1> |\n|---|\n| <base href='https://example.com/'> |",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=window.owned=1&gt;'>",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_in_an_answer_stays_inert(stub: Stub, open_page: OpenPage, attack: str) -> None:
    middle = len(attack) // 2
    stub.replies.append(answer(attack[:middle], attack[middle:]))
    page = open_page(stub.url)
    ask(page, "Hi")
    expect_finished(page)
    markdown = last_answer(page).locator(".markdown")
    expect(markdown).to_be_visible()
    for link in markdown.locator("a").all():
        if link.get_attribute("href") is None:
            link.click()
    assert page.evaluate("window.owned") is None
    forbidden = "script, img, iframe, style, form, base, math, object, embed, svg:not(.icon)"
    assert markdown.locator(forbidden).count() == 0
    assert (
        page.evaluate(
            """() => [...document.querySelectorAll('.markdown *')].flatMap((node) => node.getAttributeNames())
               .filter((name) => name.startsWith('on') || name === 'style' || name === 'src')"""
        )
        == []
    )
    hrefs = markdown.locator("a[href]").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert all(href.startswith("https://") for href in hrefs)


def test_html_in_an_answer_is_shown_as_text(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Use <b>bold</b> & <br>\n\n<div class=x>block</div>"))
    page = open_page(stub.url)
    ask(page, "Hi")
    expect(last_answer(page)).to_contain_text("Use <b>bold</b> & <br>")
    expect(last_answer(page)).to_contain_text("<div class=x>block</div>")


def test_markdown_is_rendered_and_links_are_safe(stub: Stub, open_page: OpenPage) -> None:
    source = "# Title\n\n- [x] done\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n![cat](https://example.com/cat.png)"
    stub.replies.append(answer(source))
    page = open_page(stub.url)
    ask(page, "Hi")
    expect_finished(page)
    drawn = last_answer(page)
    expect(drawn.get_by_role("heading", name="Title")).to_be_visible()
    expect(drawn.get_by_role("checkbox")).to_be_checked()
    expect(drawn.get_by_role("cell", name="2")).to_have_css("text-align", "end")
    link = drawn.get_by_role("link", name="cat")
    expect(link).to_have_attribute("href", "https://example.com/cat.png")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(link).to_have_attribute("target", "_blank")


def test_code_and_answers_can_be_copied(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Here:\n\n```python\nprint('你好')\n```"))
    page = open_page(stub.url, permissions=["clipboard-read", "clipboard-write"])
    ask(page, "Hi")
    expect_finished(page)
    last_answer(page).locator(".code").get_by_role("button", name="Copy").click()
    expect(last_answer(page).locator(".code").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "print('你好')\n"
    last_answer(page).locator(".foot").get_by_role("button", name="Copy").click()
    expect(last_answer(page).locator(".foot").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "Here:\n\n```python\nprint('你好')\n```"


def test_enter_that_ends_a_composition_does_not_send(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("好"))
    page = open_page(stub.url, locale="zh-CN")
    field = page.get_by_role("textbox", name="消息")
    field.focus()
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "nihao", "selectionStart": 5, "selectionEnd": 5})
    expect(field).to_have_value("nihao")
    composing = {"key": "Enter", "code": "Enter", "bubbles": True, "cancelable": True}
    field.dispatch_event("keydown", composing | {"isComposing": True, "keyCode": 13})
    field.dispatch_event("keydown", composing | {"isComposing": False, "keyCode": 229})
    expect(field).to_have_value("nihao")
    session.send("Input.insertText", {"text": "你好"})
    expect(field).to_have_value("你好")
    assert stub.requests == []
    page.keyboard.press("Enter")
    expect_finished(page)
    assert stub.requests[0]["messages"] == [{"role": "user", "content": "你好"}]


def test_shift_enter_starts_a_new_line(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Hello"))
    page = open_page(stub.url)
    page.get_by_role("textbox", name="Message").press_sequentially("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect_finished(page)
    assert stub.requests[0]["messages"] == [{"role": "user", "content": "one\ntwo"}]


def test_an_answer_is_read_out_paragraph_by_paragraph(stub: Stub, open_page: OpenPage) -> None:
    gate = Gate()
    stub.replies.append(answer("First.\n\nSec", gate, "ond."))
    page = open_page(stub.url)
    ask(page, "Hi")
    log = page.locator("[aria-live=polite]")
    expect(log.locator("p")).to_have_text(["The model is answering", "First."])
    gate.set()
    expect(log.locator("p")).to_have_text(["The model is answering", "First.", "Second."])


def test_conversations_survive_a_reload(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("Paris."), answer("Tokyo.")]
    page = open_page(stub.url)
    ask(page, "Capital of France?")
    expect_finished(page)
    page.get_by_role("button", name="New chat").click()
    ask(page, "Capital of Japan?")
    expect_finished(page)
    page.reload()
    expect(last_answer(page)).to_contain_text("Tokyo.")
    page.get_by_role("button", name="Capital of France?").click()
    expect(last_answer(page)).to_contain_text("Paris.")
    expect(last_answer(page)).to_contain_text("1,200 cached")


def test_an_answer_goes_on_while_another_conversation_is_open(stub: Stub, open_page: OpenPage) -> None:
    gate = Gate()
    stub.replies += [answer("Slow ", gate, "and steady"), answer("Quick")]
    page = open_page(stub.url)
    ask(page, "First question")
    expect(last_answer(page)).to_contain_text("Slow")
    page.get_by_role("button", name="New chat").click()
    ask(page, "Second question")
    expect(last_answer(page)).to_contain_text("Quick")
    gate.set()
    page.get_by_role("button", name="First question").click()
    expect(last_answer(page)).to_contain_text("Slow and steady")
    expect_finished(page)


def test_conversations_can_be_renamed_and_deleted(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Paris."))
    page = open_page(stub.url)
    ask(page, "Capital of France?")
    expect_finished(page)
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="Rename").fill("Geography")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Geography")).to_be_visible()
    page.reload()
    row = page.get_by_role("listitem").filter(has_text="Geography")
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(row).to_be_visible()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    page.reload()
    expect(page.get_by_text("Conversations stay in this browser.")).to_be_visible()


def stored(page: Page) -> list[dict[str, Any]]:
    """Return the conversations that the browser stores."""
    entries = page.evaluate(
        "Object.entries(localStorage).filter(([name]) => name.startsWith('glm.conversation.')).map(([, text]) => text)"
    )
    return [json.loads(entry) for entry in entries]


def texts(conversation: dict[str, Any]) -> list[str]:
    return [message["content"] for message in conversation["messages"]]


def keep(page: Page, **conversation: Any) -> None:
    """Store a conversation in the browser, in the form in which the page stores it."""
    entry = {"title": conversation["id"], "updated": 1, "system": "", "messages": []} | conversation
    page.evaluate(
        "([name, text]) => localStorage.setItem(name, text)", [f"glm.conversation.{entry['id']}", json.dumps(entry)]
    )


def edit_question(page: Page, text: str) -> None:
    question = page.get_by_role("article", name="You").last
    question.hover()
    question.get_by_role("button", name="Edit").click()
    question.get_by_role("textbox", name="Message").fill(text)
    question.get_by_role("button", name="Send").click()


def test_old_conversations_are_kept_however_many_there_are(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Hello"))
    page = open_page(stub.url)
    for age in range(150):
        keep(page, id=f"old{age}", updated=1000 - age, messages=[{"role": "user", "content": "Hi"}])
    ask(page, "One more")
    expect_finished(page)
    assert {conversation["title"] for conversation in stored(page)} == {f"old{age}" for age in range(150)} | {
        "One more"
    }
    expect(page.get_by_role("complementary").get_by_role("listitem")).to_have_count(151)


def fill(page: Page, free: int) -> None:
    """Fill the browser's storage except for so many characters."""
    page.evaluate(
        """(free) => {
             let text = '';
             for (let size = 8_000_000; size >= 1; size = Math.floor(size / 2)) {
               const longer = text + 'x'.repeat(size);
               try {
                 localStorage.setItem('other', longer);
                 text = longer;
               } catch {
                 // Less of it then.
               }
             }
             localStorage.setItem('other', text.slice(free));
           }""",
        free,
    )


def test_full_browser_storage_loses_nothing_and_the_page_says_what_to_do(stub: Stub, open_page: OpenPage) -> None:
    gate = Gate()
    stub.replies += [answer("Hello", gate), answer("Hello again")]
    page = open_page(stub.url)
    keep(page, id="old", messages=[{"role": "user", "content": "x" * 60_000}])
    fill(page, 1000)
    ask(page, "y" * 2000)
    told = page.get_by_role("status").filter(has_text="The browser's storage is full.")
    # The answer has not arrived yet, but even the question could not be stored.
    expect(told).to_be_visible()
    gate.set()
    expect(last_answer(page)).to_contain_text("Hello")
    assert [conversation["id"] for conversation in stored(page)] == ["old"]
    # The conversation is still there after another one was open.
    page.get_by_role("button", name="old", exact=True).click()
    expect(told).to_be_hidden()
    page.get_by_role("button", name="yyy").first.click()
    expect(last_answer(page)).to_contain_text("Hello")
    # The page asks before the user leaves, and a file can keep what the browser cannot.
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.once("dialog", stay)
    page.evaluate("location.reload()")
    expect(told).to_be_visible()
    assert asked == ["beforeunload"]
    with page.expect_download() as download:
        told.get_by_role("button", name="Save as a file").click()
    assert download.value.path().read_text() == f"# {'y' * 60}…\n\n## You\n\n{'y' * 2000}\n\n## Model\n\nHello\n"
    # Deleting a conversation makes room, and the waiting one is stored.
    row = page.get_by_role("listitem").filter(has_text="old")
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(told).to_be_hidden()
    page.reload()
    expect(last_answer(page)).to_contain_text("Hello")


def test_settings_work_when_browser_storage_is_full(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Ahoy"))
    page = open_page(stub.url)
    fill(page, 0)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("You are a pirate.")
    page.keyboard.press("Escape")
    ask(page, "Hi")
    expect(last_answer(page)).to_contain_text("Ahoy")
    assert stub.requests[0]["messages"][0] == {"role": "system", "content": "You are a pirate."}


def test_the_last_answer_can_be_regenerated_and_both_versions_stay(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("First try"), answer("Second try"), answer("You are welcome")]
    page = open_page(stub.url)
    ask(page, "Hi")
    page.get_by_role("button", name="Answer again").click()
    expect(last_answer(page)).to_contain_text("Second try")
    expect(page.get_by_text("First try")).to_have_count(0)
    assert stub.requests[1]["messages"] == [{"role": "user", "content": "Hi"}]
    versions = page.get_by_role("article", name="Model").first.get_by_role("group", name="Versions")
    expect(versions).to_have_text("2/2")
    expect(versions.get_by_role("button", name="Later version")).to_be_disabled()
    versions.get_by_role("button", name="Earlier version").click()
    expect(versions).to_have_text("1/2")
    expect(last_answer(page)).to_contain_text("First try")
    # The conversation continues from the version that is shown, after a reload too.
    page.reload()
    expect(last_answer(page)).to_contain_text("First try")
    ask(page, "Thanks")
    expect(last_answer(page)).to_contain_text("You are welcome")
    assert [message["content"] for message in stub.requests[2]["messages"]] == ["Hi", "First try", "Thanks"]
    versions.get_by_role("button", name="Later version").click()
    expect(page.get_by_role("article")).to_have_count(2)
    expect(last_answer(page)).to_contain_text("Second try")
    versions.get_by_role("button", name="Earlier version").click()
    expect(last_answer(page)).to_contain_text("You are welcome")


def test_versions_can_be_chosen_with_the_keyboard(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("one"), answer("two"), answer("three")]
    page = open_page(stub.url)
    ask(page, "Hi")
    for number in ("two", "three"):
        page.get_by_role("button", name="Answer again").click()
        expect(last_answer(page)).to_contain_text(number)
    page.get_by_role("button", name="Earlier version").focus()
    page.keyboard.press("Enter")
    expect(last_answer(page)).to_contain_text("two")
    page.keyboard.press("Enter")
    expect(last_answer(page)).to_contain_text("one")
    expect(page.get_by_role("button", name="Later version")).to_be_focused()


FAILURES: dict[str, Any] = {
    "refused": Failure(503, "The server is stopping.", "shutting_down"),
    "lost": [],
    "broken off": [text("Half an answer")],
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_an_answer_stays_when_its_regeneration_fails(stub: Stub, open_page: OpenPage, failure: Any) -> None:
    stub.replies += [answer("First try"), failure, answer("Second try")]
    page = open_page(stub.url)
    ask(page, "Hi")
    page.get_by_role("button", name="Answer again").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(last_answer(page)).to_contain_text("First try")
    page.reload()
    expect(last_answer(page)).to_contain_text("First try")
    page.get_by_role("button", name="Answer again").click()
    expect(last_answer(page)).to_contain_text("Second try")
    assert {"First try", "Second try"} <= set(texts(*stored(page)))


def test_an_answer_stays_when_the_server_is_gone(open_page: OpenPage) -> None:
    stub = Stub()
    stub.replies.append(answer("First try"))
    page = open_page(stub.url)
    ask(page, "Hi")
    expect_finished(page)
    stub.close()
    page.get_by_role("button", name="Answer again").click()
    expect(page.get_by_role("alert")).to_contain_text("The connection to the server was lost.")
    expect(last_answer(page)).to_contain_text("First try")
    edit_question(page, "Hello")
    expect(page.get_by_role("alert")).to_be_visible()
    assert texts(*stored(page)) == ["Hi", "First try", "Hello"]
    page.get_by_role("button", name="Earlier version").click()
    expect(last_answer(page)).to_contain_text("First try")


@pytest.mark.parametrize("way", ["stopped", "reloaded"])
def test_an_answer_stays_when_its_regeneration_is_cut_short(stub: Stub, open_page: OpenPage, way: str) -> None:
    stub.replies += [answer("First try"), answer("Second", Gate())]
    page = open_page(stub.url)
    ask(page, "Hi")
    page.get_by_role("button", name="Answer again").click()
    expect(last_answer(page)).to_contain_text("Second")
    # The page discards no answer before the next one is complete.
    assert texts(*stored(page)) == ["Hi", "First try"]
    if way == "stopped":
        page.get_by_role("button", name="Stop").click()
    else:
        page.reload()
    expect(last_answer(page)).to_contain_text("You stopped this answer.")
    expect(last_answer(page)).to_contain_text("Second")
    page.get_by_role("button", name="Earlier version").click()
    expect(last_answer(page)).to_contain_text("First try")


def test_stopping_before_the_first_word_shows_the_old_answer(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("First try"), [PING, Gate()]]
    page = open_page(stub.url)
    ask(page, "Hi")
    page.get_by_role("button", name="Answer again").click()
    expect(last_answer(page)).to_contain_text("Waiting for the model")
    page.get_by_role("button", name="Stop").click()
    expect(last_answer(page)).to_contain_text("First try")
    expect(page.get_by_role("group", name="Versions")).to_have_count(0)


def test_the_last_message_can_be_edited_and_both_versions_stay(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("Fine"), answer("Helo?"), answer("Hello!")]
    page = open_page(stub.url)
    ask(page, "How are you?")
    expect_finished(page)
    ask(page, "Helo")
    expect_finished(page)
    page.get_by_role("article", name="You").last.hover()
    page.get_by_role("button", name="Edit").click()
    editor = page.get_by_role("article", name="You").get_by_role("textbox", name="Message")
    expect(editor).to_be_focused()
    page.keyboard.press("Escape")
    expect(editor).to_have_count(0)
    edit_question(page, "Hello")
    expect(last_answer(page)).to_contain_text("Hello!")
    assert [message["content"] for message in stub.requests[2]["messages"]] == ["How are you?", "Fine", "Hello"]
    versions = page.get_by_role("article", name="You").last.get_by_role("group", name="Versions")
    expect(versions).to_have_text("2/2")
    page.reload()
    versions.get_by_role("button", name="Earlier version").click()
    expect(page.get_by_role("article", name="You").last).to_contain_text("Helo")
    expect(last_answer(page)).to_contain_text("Helo?")


def test_conversations_stored_before_there_were_versions_still_work(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Again"))
    page = open_page(stub.url)
    calls = [{"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}]
    messages = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": "", "toolCalls": calls, "ending": "tool_calls", "stats": {}},
        {"role": "tool", "toolCallId": "call_1", "content": "noon"},
        {"role": "assistant", "content": "It is noon.", "ending": "stop", "stats": {"completionTokens": 5}},
    ]
    keep(page, id="old", title="Time", messages=messages)
    page.reload()
    page.get_by_role("button", name="Time").click()
    expect(last_answer(page)).to_contain_text("It is noon.")
    expect(last_answer(page)).to_contain_text("5 tokens")
    ask(page, "And now?")
    expect(last_answer(page)).to_contain_text("Again")
    roles = [message["role"] for message in stub.requests[0]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    [conversation] = stored(page)
    assert texts(conversation) == ["What time is it?", "", "noon", "It is noon.", "And now?", "Again"]


def test_a_turn_in_one_tab_is_shown_and_sent_by_the_other(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("One"), answer("Two"), answer("Three")]
    first = open_page(stub.url)
    ask(first, "1")
    expect_finished(first)
    second = another_tab(first)
    expect(last_answer(second)).to_contain_text("One")
    ask(first, "2")
    expect(last_answer(first)).to_contain_text("Two")
    expect(last_answer(second)).to_contain_text("Two")
    ask(second, "3")
    expect(last_answer(first)).to_contain_text("Three")
    assert [message["content"] for message in stub.requests[2]["messages"]] == ["1", "One", "2", "Two", "3"]


def another_tab(page: Page) -> Page:
    """Open the same conversation in another tab of the same browser."""
    other = page.context.new_page()
    other.goto(page.url)
    return other


def test_a_tab_that_missed_the_changes_of_another_overwrites_nothing(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("One"), answer("Two"), answer("Three")]
    first = open_page(stub.url)
    ask(first, "1")
    expect_finished(first)
    second = first.context.new_page()
    second.add_init_script(
        """window.BroadcastChannel = undefined;
           window.addEventListener('storage', (event) => event.stopImmediatePropagation(), true);"""
    )
    second.goto(first.url)
    expect(last_answer(second)).to_contain_text("One")
    ask(first, "2")
    expect_finished(first)
    expect(last_answer(second)).to_contain_text("One")
    ask(second, "3")
    expect(last_answer(second)).to_contain_text("Three")
    assert sorted(texts(*stored(second))) == ["1", "2", "3", "One", "Three", "Two"]
    assert [message["content"] for message in stub.requests[2]["messages"]] == ["1", "One", "2", "Two", "3"]


def test_questions_asked_in_two_tabs_at_once_are_both_kept(stub: Stub, open_page: OpenPage) -> None:
    gates = [Gate(), Gate()]
    stub.replies += [answer("Two", gates[0]), answer("Three", gates[1])]
    first = open_page(stub.url)
    ask(first, "2")
    expect(last_answer(first)).to_contain_text("Two")
    second = another_tab(first)
    ask(second, "3")
    expect(last_answer(second)).to_contain_text("Three")
    gates[0].set()
    expect_finished(first)
    gates[1].set()
    expect_finished(second)
    expect(last_answer(second)).to_contain_text("Three")
    # Each tab continues with its own question, and the other version is a click away.
    expect(last_answer(first)).to_contain_text("Two")
    versions = first.get_by_role("group", name="Versions")
    expect(versions).to_have_text("2/2")
    versions.get_by_role("button", name="Earlier version").click()
    expect(last_answer(first)).to_contain_text("Three")
    # In whichever order the tabs have written them.
    assert sorted(texts(*stored(first))) == ["2", "3", "Three", "Two"]


def test_a_write_that_crossed_another_tabs_write_is_repaired(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("One"), answer("Two")]
    page = open_page(stub.url)
    ask(page, "1")
    expect_finished(page)
    [before] = stored(page)
    ask(page, "2")
    expect_finished(page)
    other = page.context.new_page()
    other.goto(stub.url + "docs")
    added = {"id": "x", "parent": before["head"], "role": "user", "content": "3"}
    # A tab that read the conversation before the second turn writes this.
    keep(other, **before | {"messages": [*before["messages"], added], "head": "x"})
    expect(page.get_by_role("group", name="Versions")).to_have_text("2/2")
    assert sorted(texts(*stored(page))) == ["1", "2", "3", "One", "Two"]


def test_a_tab_says_that_another_tab_is_answering_the_conversation(stub: Stub, open_page: OpenPage) -> None:
    gate = Gate()
    stub.replies += [answer("Slow ", gate, "and steady")]
    first = open_page(stub.url)
    ask(first, "Hi")
    expect(last_answer(first)).to_contain_text("Slow")
    second = another_tab(first)
    told = second.get_by_text("This conversation is being answered in another tab.")
    expect(told).to_be_visible()
    expect(second.get_by_role("button", name="Try again")).to_have_count(0)
    gate.set()
    expect(last_answer(second)).to_contain_text("Slow and steady")
    expect(told).to_have_count(0)


def test_another_tab_does_not_disturb_typing(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("One"), answer("Two"), answer("Three")]
    first = open_page(stub.url)
    ask(first, "1")
    expect_finished(first)
    second = another_tab(first)
    second.get_by_role("article", name="You").hover()
    second.get_by_role("button", name="Edit").click()
    editor = second.get_by_role("article", name="You").get_by_role("textbox", name="Message")
    editor.fill("1, please")
    ask(first, "2")
    expect_finished(first)
    # The page would draw the thread at the same time as the list.
    first.get_by_role("button", name="Rename").click()
    first.get_by_role("textbox", name="Rename").fill("Numbers")
    first.keyboard.press("Enter")
    expect(second.get_by_role("button", name="Numbers")).to_be_visible()
    expect(editor).to_have_value("1, please")
    second.get_by_role("article", name="You").get_by_role("button", name="Send").click()
    expect(last_answer(second)).to_contain_text("Three")
    assert stub.requests[2]["messages"] == [{"role": "user", "content": "1, please"}]
    [conversation] = stored(second)
    assert conversation["title"] == "Numbers"
    assert texts(conversation) == ["1", "One", "2", "Two", "1, please", "Three"]


def test_a_conversation_deleted_in_one_tab_stays_deleted_in_another(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Slow ", Gate()))
    first = open_page(stub.url)
    ask(first, "Hi")
    expect(last_answer(first)).to_contain_text("Slow")
    second = another_tab(first)
    second.get_by_role("listitem").get_by_role("button", name="Delete").click()
    second.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(first.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    assert stub.client_left.wait(5)
    assert stored(first) == []


def test_a_tool_call_is_shown_and_its_result_goes_back(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [tool_call("get_weather", '{"city": ', '"Paris"}'), answer("It is sunny.")]
    page = open_page(stub.url)
    ask(page, "Weather in Paris?")
    call = page.get_by_role("group").filter(has_text="Calls get_weather")
    expect(call.locator("pre")).to_have_text('{\n  "city": "Paris"\n}')
    call.locator("summary").click()
    expect(call.locator("pre")).to_be_hidden()
    page.get_by_label("Result of get_weather").fill('{"sky": "blue"}')
    page.get_by_role("button", name="Send the result").click()
    expect(last_answer(page)).to_contain_text("It is sunny.")
    call_sent = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    assert stub.requests[1]["messages"] == [
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call_sent]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "blue"}'},
    ]


def test_a_tool_call_without_a_result_is_left_out_of_the_next_request(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [tool_call("get_weather", "{}"), answer("Fine.")]
    page = open_page(stub.url)
    ask(page, "Weather?")
    expect(page.get_by_label("Result of get_weather")).to_be_visible()
    ask(page, "Never mind")
    expect(last_answer(page)).to_contain_text("Fine.")
    assert stub.requests[1]["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "user", "content": "Never mind"},
    ]


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
def test_a_refused_request_asks_for_a_key_and_is_sent_again(stub: Stub, open_page: OpenPage, keep: bool) -> None:
    stub.key = "sk-right"
    page = open_page(stub.url)
    dialog = page.get_by_role("dialog", name="API key")
    dialog.get_by_label("Key", exact=True).fill("sk-wrong")
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Key", exact=True)).to_have_value("")
    expect(dialog).to_contain_text("The server did not accept this key.")
    dialog.get_by_label("Key", exact=True).fill("sk-right")
    dialog.get_by_label("Keep it in this browser").set_checked(keep)
    dialog.get_by_role("button", name="Use this key").click()
    expect(page.locator("#model")).to_have_value(MODEL)
    stub.replies.append(answer("Welcome"))
    stub.key = "sk-newer"
    ask(page, "Hi")
    dialog.get_by_label("Key", exact=True).fill("sk-newer")
    page.keyboard.press("Enter")
    expect(last_answer(page)).to_contain_text("Welcome")
    stored = page.evaluate("JSON.stringify(localStorage)")
    assert ("sk-newer" in stored) is keep
    assert "sk-wrong" not in stored
    page.reload()
    if keep:
        expect(page.locator("#model")).to_have_value(MODEL)
        expect(dialog).to_be_hidden()
    else:
        expect(dialog).to_be_visible()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            Failure(429, "The queue is full.", "queue_full", {"Retry-After": "7"}),
            "The queue is full. Try again in 7 s.",
        ),
        (Failure(503, "The server is stopping.", "shutting_down", {"Retry-After": "3"}), "Try again in 3 s."),
        (Failure(400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded"), "8192 tokens"),
        ([text("Half"), 'data: {"error": {"message": "The model failed.", "code": null}}\n\n'], "The model failed."),
        ([text("Half")], "The connection to the server was lost."),
        ([text("Half"), "data: {broken\n\n"], "The connection to the server was lost."),
    ],
    ids=["full", "stopping", "too long", "error in the stream", "cut stream", "broken stream"],
)
def test_a_failure_is_explained_and_can_be_retried(stub: Stub, open_page: OpenPage, reply: Any, words: str) -> None:
    stub.replies += [reply, answer("Now it works")]
    page = open_page(stub.url)
    ask(page, "Hi")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(words)
    if not isinstance(reply, Failure):
        expect(last_answer(page)).to_contain_text("Half")
        expect(last_answer(page)).to_contain_text("This answer broke off.")
    alert.get_by_role("button", name="Try again").click()
    expect(last_answer(page)).to_contain_text("Now it works")
    expect(alert).to_have_count(0)
    assert stub.requests[1]["messages"] == [{"role": "user", "content": "Hi"}]


def test_an_error_without_json_is_shown_by_its_status(stub: Stub, open_page: OpenPage) -> None:
    page = open_page(stub.url)
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    ask(page, "Hi")
    expect(page.get_by_role("alert")).to_contain_text("The server answered with an error (502).")


def test_the_page_says_that_the_model_is_loading_until_it_is_ready(stub: Stub, open_page: OpenPage) -> None:
    stub.health = LOADING
    page = open_page(stub.url)
    expect(page.get_by_role("status").filter(has_text="The model is loading")).to_be_visible()
    stub.health = None
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#model")).to_have_value(MODEL)


def test_a_long_prompt_shows_its_progress(stub: Stub, open_page: OpenPage) -> None:
    gate = Gate()
    progress = {"total": 200, "cache": 0, "processed": 90, "time_ms": 5}
    head = chunk({"role": "assistant", "content": ""})
    stub.replies.append([PING, head, chunk(prompt_progress=progress), gate, text("Done"), *ending()])
    page = open_page(stub.url)
    ask(page, "Long")
    expect(last_answer(page)).to_contain_text("Reading the prompt 45 %")
    gate.set()
    expect(last_answer(page)).to_contain_text("Done")
    expect(page.get_by_text("Reading the prompt")).to_have_count(0)


def test_the_page_asks_for_the_models_until_it_has_them(stub: Stub, open_page: OpenPage) -> None:
    stub.models_fail = [Failure(429, "Too many requests from this address."), Failure(502, "")]
    page = open_page(stub.url)
    expect(page.locator("#model")).to_have_value(MODEL)
    assert stub.models_fail == []


def test_only_the_demo_model_is_called_a_demo(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("Tokyo."), answer("Tokyo.")]
    page = open_page(stub.url)
    page.get_by_role("button", name="What is the capital of Japan?").click()
    expect_finished(page)
    expect(page.get_by_text("demo model")).to_have_count(1)
    expect(page.get_by_text("demo model")).to_be_hidden()
    stub.models = ["chatglm3-demo"]
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("button", name="Write a Python function that reverses a string")).to_be_visible()
    page.reload()
    expect(page.get_by_text("This is a tiny demo model of 5 MB")).to_be_visible()
    expect(page.get_by_role("button", name="Write a Python function that reverses a string")).to_have_count(0)
    page.get_by_role("button", name="What is the capital of Japan?").last.click()
    expect(last_answer(page)).to_contain_text("Tokyo.")
    expect(page.get_by_text("A tiny demo model: do not take its answers for facts.")).to_be_visible()


def test_the_suggestions_follow_the_chosen_model(stub: Stub, open_page: OpenPage) -> None:
    stub.models = ["glm-4-9b-chat", "chatglm3-demo"]
    page = open_page(stub.url)
    expect(page.get_by_role("button", name="Write a Python function that reverses a string")).to_be_visible()
    page.get_by_label("Model", exact=True).select_option("chatglm3-demo")
    expect(page.get_by_role("button", name="Tell me a story about a fox.")).to_be_visible()


def test_the_weather_question_offers_the_weather_tool_and_shows_it(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("Sunny."), answer("Fine."), answer("Hi.")]
    page = open_page(stub.url)
    offered = page.get_by_role("button", name="Do not offer the example tools")
    expect(offered).to_be_hidden()
    page.get_by_role("button", name="What is the weather in Paris? with the weather tool").click()
    expect(last_answer(page)).to_contain_text("Sunny.")
    ask(page, "And tomorrow?")
    expect(last_answer(page)).to_contain_text("Fine.")
    offered.click()
    expect(offered).to_be_hidden()
    ask(page, "Hi")
    expect(last_answer(page)).to_contain_text("Hi.")
    names = [[tool["function"]["name"] for tool in request.get("tools", [])] for request in stub.requests]
    assert names == [["get_weather", "get_time"]] * 2 + [[]]


def test_an_answer_cut_by_length_says_so(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("And then", finish="length"))
    page = open_page(stub.url)
    ask(page, "Tell")
    expect(last_answer(page)).to_contain_text("The answer was cut at the length limit.")


def test_the_language_follows_the_browser_and_can_be_switched(stub: Stub, open_page: OpenPage) -> None:
    page = open_page(stub.url, locale="zh-CN")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.get_by_role("heading", name="想聊点什么？")).to_be_visible()
    page.get_by_role("button", name="设置").click()
    page.get_by_label("语言").select_option("en")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_both_languages_have_the_same_words(stub: Stub, open_page: OpenPage) -> None:
    page = open_page(stub.url)
    strings = page.evaluate("import('/assets/i18n.js').then((module) => module.STRINGS)")
    assert strings["en"].keys() == strings["zh"].keys()
    for name, english in strings["en"].items():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", strings["zh"][name])), name


def test_the_theme_follows_the_system_and_can_be_switched(stub: Stub, open_page: OpenPage) -> None:
    page = open_page(stub.url, color_scheme="dark")
    body = page.locator("html")
    expect(body).to_have_css("background-color", "rgb(22, 24, 26)")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Theme").select_option("light")
    expect(body).to_have_css("background-color", "rgb(252, 252, 251)")
    page.reload()
    expect(body).to_have_css("background-color", "rgb(252, 252, 251)")


def test_the_pages_work_under_a_path_prefix(open_page: OpenPage) -> None:
    stub = Stub(prefix="/models/glm")
    stub.replies.append(answer("Hello"))
    page = open_page(stub.url)
    ask(page, "Hi")
    expect(last_answer(page)).to_contain_text("Hello")
    page.get_by_role("link", name="API reference").click()
    expect(page.locator(".opblock")).to_have_count(2)
    page.get_by_role("link", name="GLM chat").click()
    expect(page.get_by_role("button", name="Hi", exact=True)).to_be_visible()
    # The page is closed first, so that the end of the server interrupts none of its requests.
    page.close()
    stub.close()


def test_the_page_works_with_the_keyboard_alone(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("Tokyo."), answer("Kyoto?")]
    page = open_page(stub.url)
    page.get_by_role("button", name="What is the capital of Japan?").focus()
    page.keyboard.press("Enter")
    expect(last_answer(page)).to_contain_text("Tokyo.")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.get_by_role("button", name="Answer again").focus()
    page.keyboard.press("Enter")
    expect(last_answer(page)).to_contain_text("Kyoto?")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.get_by_role("button", name="Settings").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Settings")).to_be_focused()


def test_every_control_has_a_name(stub: Stub, open_page: OpenPage) -> None:
    stub.replies += [answer("```\ncode\n```"), tool_call("get_time", "{}")]
    page = open_page(stub.url)
    ask(page, "Hi")
    expect_finished(page)
    ask(page, "What time is it?")
    expect(page.get_by_label("Result of get_time")).to_be_visible()
    session = page.context.new_cdp_session(page)
    roles = {"button", "textbox", "combobox", "checkbox", "slider", "spinbutton", "link"}

    def names() -> list[str]:
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
        return [node["name"]["value"] for node in controls]

    thread = names()
    assert {"Send", "Copy", "Settings", "Result of get_time"} <= set(thread)
    page.get_by_role("button", name="Settings").click()
    dialog = names()
    assert "System prompt" in dialog
    assert "" not in thread + dialog


def test_the_page_fits_the_width_of_a_phone(stub: Stub, open_page: OpenPage) -> None:
    wide = "x" * 300
    stub.replies.append(answer(f"{wide}\n\n```\n{wide}\n```\n\n| {wide} | b |\n|---|---|\n| 1 | 2 |"))
    page = open_page(stub.url, **PHONE)
    sidebar = page.get_by_role("complementary", name="Conversations")
    expect(sidebar).to_be_hidden()
    page.get_by_role("textbox", name="Message").fill(wide)
    page.get_by_role("button", name="Send").tap()
    expect_finished(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#scroller").evaluate("(node) => node.scrollWidth") == 390
    page.locator("#toggle-sidebar").tap()
    expect(sidebar).to_be_visible()
    sidebar.get_by_role("button", name="New chat").tap()
    expect(sidebar).to_be_hidden()


def test_the_page_stays_where_the_reader_scrolled_to(stub: Stub, open_page: OpenPage) -> None:
    gate = Gate()
    lines = "\n\n".join(f"line {number}" for number in range(80))
    stub.replies.append(answer(lines, gate, "\n\nlast line"))
    page = open_page(stub.url)
    ask(page, "Hi")
    end = last_answer(page).get_by_text("line 79")
    expect(end).to_be_in_viewport()
    end.hover()
    page.mouse.wheel(0, -2000)
    expect(end).not_to_be_in_viewport()
    gate.set()
    expect_finished(page)
    expect(last_answer(page)).to_contain_text("last line")
    expect(last_answer(page).get_by_text("last line")).not_to_be_in_viewport()
    page.get_by_role("button", name="Go to the end").click()
    expect(last_answer(page).get_by_text("last line")).to_be_in_viewport()


def test_the_page_works_without_storage(stub: Stub, open_page: OpenPage) -> None:
    stub.replies.append(answer("Hello"))
    page = open_page(stub.url)
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    page.reload()
    ask(page, "Hi")
    expect(last_answer(page)).to_contain_text("Hello")
    expect(page.get_by_role("listitem")).to_have_text("Hi")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_however_the_bytes_are_split(stub: Stub, open_page: OpenPage, size: int) -> None:
    page = open_page(stub.url)
    stream = (
        ': ping\n\ndata: {"a":"你好"}\r\n\r\nid: 4\ndata:first\ndata: second\n\n\n: ping\n: ping\ndata: 😀\n\n'
        "data: cut off"
    )
    events = page.evaluate(
        """async ([bytes, size]) => {
             const { readEvents } = await import('/assets/sse.js');
             const body = new ReadableStream({
               start(controller) {
                 for (let at = 0; at < bytes.length; at += size) {
                   controller.enqueue(new Uint8Array(bytes.slice(at, at + size)));
                 }
                 controller.close();
               },
             });
             const events = [];
             for await (const data of readEvents(body)) events.push(data);
             return events;
           }""",
        [list(stream.encode()), size],
    )
    assert events == [json.dumps({"a": "你好"}, ensure_ascii=False, separators=(",", ":")), "first\nsecond", "😀"]
