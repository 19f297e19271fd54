"""ChatGLM-6B and ChatGLM2: the dialogue as one text."""

from __future__ import annotations

import pytest

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Conversation, Message, Tool, ToolCall, ToolChoice
from glm_api.pipeline.formats.chatglm import chatglm
from glm_api.pipeline.formats.chatglm2 import chatglm2
from glm_api.pipeline.model_info import OutputSpec
from tests.support.model_files.scripted_tokenizer import ScriptedTokenizer, ids_of, read, text_of

FORMATS = {"chatglm": chatglm, "chatglm2": chatglm2}
both = pytest.mark.parametrize("family", FORMATS)
DIALOGUE = (Message("user", "你好"), Message("assistant", "Hello"), Message("user", "bye"))


def prompt(family: str, *messages: Message, tools: tuple[Tool, ...] = (), choice: ToolChoice | None = None) -> str:
    tokenizer = ScriptedTokenizer()
    rendered = FORMATS[family](tokenizer).render(Conversation(messages, tools, choice or ToolChoice()))
    assert rendered.output == OutputSpec()
    return tokenizer.show(rendered.ids)


def test_chatglm_counts_rounds_from_0_and_ends_with_the_special_ids() -> None:
    assert prompt("chatglm", DIALOGUE[0]) == "你好<|[gMASK]|><|sop|>"
    assert prompt("chatglm", *DIALOGUE) == "[Round 0]\n问：你好\n答：Hello\n[Round 1]\n问：bye\n答：<|[gMASK]|><|sop|>"


def test_chatglm2_counts_rounds_from_1_and_begins_with_the_special_ids() -> None:
    assert prompt("chatglm2", DIALOGUE[0]) == "<|[gMASK]|><|sop|>[Round 1]\n\n问：你好\n\n答："
    assert prompt("chatglm2", *DIALOGUE) == (
        "<|[gMASK]|><|sop|>[Round 1]\n\n问：你好\n\n答：Hello\n\n[Round 2]\n\n问：bye\n\n答："
    )


@both
def test_system_text_stands_in_front_of_the_first_question(family: str) -> None:
    messages = (Message("system", "Be brief."), Message("user", "hi"), Message("system", "Be kind."))
    assert prompt(family, *messages) == prompt(family, Message("user", "Be brief.\nBe kind.\nhi"))


@both
def test_neighbours_of_one_role_are_merged(family: str) -> None:
    _first, answer, last = DIALOGUE
    split = (Message("user", "a"), Message("user", "b"), answer, Message("assistant", "c"), last)
    merged = (Message("user", "a\nb"), Message("assistant", "Hello\nc"), last)
    assert prompt(family, *split) == prompt(family, *merged)


@both
@pytest.mark.parametrize(
    ("messages", "tools", "choice", "param"),
    [
        ((), (), None, "messages"),
        ((Message("system", "s"),), (), None, "messages"),
        (DIALOGUE[1:], (), None, "messages"),
        (DIALOGUE[:2], (), None, "messages"),
        (DIALOGUE, (Tool("t"),), None, "tools"),
        (DIALOGUE, (Tool("t"),), ToolChoice("required", "t"), "tool_choice"),
        ((*DIALOGUE, Message("tool", "r", position=3)), (), None, "messages.3.role"),
        ((Message("assistant", "", (ToolCall("c", "t", "{}"),), position=0),), (), None, "messages.0.tool_calls"),
        ((Message("user", "", image=b"", position=0),), (), None, "messages.0.content"),
    ],
)
def test_the_faulty_part_of_a_conversation_is_named(
    family: str, messages: tuple[Message, ...], tools: tuple[Tool, ...], choice: ToolChoice | None, param: str
) -> None:
    with pytest.raises(PromptError) as refused:
        prompt(family, *messages, tools=tools, choice=choice)
    assert refused.value.param == param


@both
def test_tools_that_must_not_be_called_change_nothing(family: str) -> None:
    assert prompt(family, *DIALOGUE, tools=(Tool("t"),), choice=ToolChoice("none")) == prompt(family, *DIALOGUE)


@both
def test_an_answer_has_chinese_punctuation_and_stop_strings_see_it(family: str) -> None:
    tokenizer = ScriptedTokenizer()
    ids = tokenizer.tokens([" ", "你好", ",", "a", ",", "b", "!", "<|endoftext|>"])
    reader = FORMATS[family](tokenizer).reader(OutputSpec(), ["，b", "!x"])
    assert [text_of(reader.feed(id)) for id in ids] == ["", "你好", "", "，a", "", ",b", "", "!"]
    assert reader.reason == "stop"


@both
def test_a_raw_completion_is_shown_unchanged(family: str) -> None:
    tokenizer = ScriptedTokenizer()
    ids = tokenizer.tokens([" 你好", ",", "b\n", "<|endoftext|>"])
    events = read(FORMATS[family](tokenizer).reader(OutputSpec(mode="text"), ()), ids)
    assert text_of(events) == " 你好,b\n"
    assert ids_of(events) == ids[:-1]


@both
def test_a_stop_string_ends_the_answer_and_no_id_is_lost(family: str) -> None:
    tokenizer = ScriptedTokenizer()
    ids = tokenizer.tokens(["a", "S", "TOP", "b"])
    reader = FORMATS[family](tokenizer).reader(OutputSpec(), ["STOP"])
    events = read(reader, ids)
    assert (text_of(events), reader.reason) == ("a", "stop")
    assert ids_of(events) == ids[:3]
