"""Tools get names that a model can say; no two of a request get the same."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.conversation import Conversation, Message, Tool, ToolCall, ToolChoice
from glm_api.pipeline.formats.tool_names import speakable, with_speakable_names

HI = Message("user", "hi")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("weather.get", "weather_get"),
        ("/fs/read", "fs_read"),
        ("mcp://notion:search", "mcp_notion_search"),
        ("Get the weather", "Get_the_weather"),
        ("天气.today", "today"),
        ("x" * 65, "x" * 64),
    ],
)
def test_a_name_is_changed_as_little_as_can_be(name: str, said: str) -> None:
    assert speakable([name, "other"]) == {name: said}


def test_a_name_without_letters_that_can_be_said_gets_one_of_its_own() -> None:
    said = speakable(["查天气", "查时间"])
    assert len(set(said.values())) == 2
    assert all(re.fullmatch(r"tool_[0-9a-f]{6}", name) for name in said.values())
    # It is the same in each turn, whatever other tools there are.
    assert speakable(["查时间", "f", "查天气", "g.h"])["查天气"] == said["查天气"]


def test_a_name_that_can_be_said_stays_as_it_is() -> None:
    names = ["get_weather", "Notion-search", "x" * 64, "1", "interpreter"]
    assert speakable(names) == {}
    # ChatGLM3 writes code for a tool of this name.
    assert speakable(["/interpreter"])["/interpreter"] != "interpreter"


def hashed(name: str, digits: int) -> str:
    return f"a_b_{hashlib.sha256(name.encode()).hexdigest()[:digits]}"


@pytest.mark.parametrize("names", [["a.b", "a_b"], ["a.b", "a/b"], ["a.b", "a/b", "a_b", hashed("a.b", 6)]])
def test_names_that_would_be_said_the_same_way_are_kept_apart(names: list[str]) -> None:
    told_apart(names)


def told_apart(names: list[str]) -> None:
    spoken = speakable(names)
    said = [spoken.get(name, name) for name in dict.fromkeys(names)]
    assert len(set(said)) == len(said)
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in said)
    assert not any(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in spoken)
    assert speakable(names[::-1]) == spoken


def test_a_client_that_takes_all_hashed_names_gets_others() -> None:
    names = ["a.b", "a/b", *(hashed("a.b", digits) for digits in range(6, 41)), "tool_0"]
    assert speakable(names)["a.b"] == "tool_1"


@given(names=st.lists(st.text("ab._/ 查x-", min_size=1, max_size=5) | st.text(min_size=1, max_size=130)))
def test_no_two_names_become_one(names: list[str]) -> None:
    told_apart(names)


def test_a_conversation_has_the_names_that_the_model_says_everywhere() -> None:
    calls = (ToolCall("1", "weather.get", "{}"), ToolCall("2", "f", "{}"), ToolCall("3", "old.tool", "{}"))
    conversation = Conversation(
        (HI, Message("assistant", "", calls)),
        (Tool("weather.get", "Get the weather."), Tool("fs.read"), Tool("f", "F")),
        ToolChoice("required", "weather.get"),
    )
    changed, names = with_speakable_names(conversation)
    assert [call.name for call in changed.messages[1].tool_calls] == ["weather_get", "f", "old_tool"]
    described = [(tool.name, tool.description) for tool in changed.tools]
    # What the name says is not lost.
    assert described == [("weather_get", "weather.get: Get the weather."), ("fs_read", "fs.read"), ("f", "F")]
    assert changed.tool_choice == ToolChoice("required", "weather_get")
    assert dict(names) == {"weather_get": "weather.get", "fs_read": "fs.read", "old_tool": "old.tool"}


def test_a_conversation_without_such_names_stays_as_it_is() -> None:
    conversation = Conversation((HI,), (Tool("f"),), ToolChoice("required", "f"))
    assert with_speakable_names(conversation) == (conversation, ())
