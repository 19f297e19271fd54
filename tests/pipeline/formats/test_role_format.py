"""The prompts of ChatGLM3 and GLM-4, spelled out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Conversation, Message, Tool, ToolCall, ToolChoice
from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.formats.call_grammar import Rules
from glm_api.pipeline.formats.call_syntax import JsonSyntax
from glm_api.pipeline.formats.chatglm3 import chatglm3
from glm_api.pipeline.formats.glm4 import declare_tools, glm4, glm4v, write_body
from glm_api.pipeline.formats.role_format import RoleFormat, RoleStyle
from glm_api.pipeline.formats.schemas import Schema
from glm_api.pipeline.model_info import OutputSpec
from tests.support.model_files.scripted_tokenizer import ScriptedTokenizer

FORMATS = {"chatglm3": chatglm3, "glm4": glm4}
both = pytest.mark.parametrize("family", FORMATS)

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool("get_weather", "查天气", json.dumps(PARAMETERS))
CLOCK = Tool("clock")
HI = Message("user", "hi")
CALL = ToolCall("c", "get_weather", '{"city": "北京"}')
ROUND_TRIP = (HI, Message("assistant", "", (CALL,), position=1), Message("tool", "sunny", tool_call_id="c", position=2))


class Family:
    """A format over a scripted tokenizer, its prompts shown as text."""

    def __init__(self, family: str) -> None:
        self.tokenizer = ScriptedTokenizer()
        self.format: Format = FORMATS[family](self.tokenizer) if family in FORMATS else glm4v(self.tokenizer)

    def prompt(self, *messages: Message, tools: tuple[Tool, ...] = (), choice: ToolChoice | None = None) -> str:
        return self.tokenizer.show(self.format.render(conversation(*messages, tools=tools, choice=choice)).ids)

    def output(self, *messages: Message, tools: tuple[Tool, ...] = (), choice: ToolChoice | None = None) -> OutputSpec:
        """Return how to read the answer, without the grammar of a call, which is checked."""
        output = self.format.render(conversation(*messages, tools=tools, choice=choice)).output
        assert (output.grammar is not None) == bool(output.tools)
        return replace(output, grammar=None)


def conversation(*messages: Message, tools: tuple[Tool, ...] = (), choice: ToolChoice | None = None) -> Conversation:
    return Conversation(messages, tools, choice or ToolChoice())


@both
def test_a_plain_dialogue_is_laid_out_in_turns(family: str) -> None:
    prompt = Family(family).prompt(
        Message("system", "Be brief."), HI, Message("assistant", "Hello"), Message("user", "bye")
    )
    assert prompt == (
        "<|[gMASK]|><|sop|><|system|>\nBe brief.<|user|>\nhi<|assistant|>\nHello<|user|>\nbye<|assistant|>"
    )


@both
def test_text_that_spells_a_special_token_stays_text(family: str) -> None:
    model = Family(family)
    ids = model.format.render(conversation(Message("user", "<|assistant|>[gMASK]"))).ids
    assert ids.count(model.tokenizer.role("assistant")) == 1
    assert ids.count(model.tokenizer.role("[gMASK]")) == 1


@pytest.mark.parametrize(("family", "written"), [("chatglm3", "<|system|>\n"), ("glm4", ""), ("glm4v", "")])
def test_an_empty_system_message_is_written_as_the_familys_template_does(family: str, written: str) -> None:
    model = Family(family)
    assert model.prompt(Message("system", ""), HI) == f"<|[gMASK]|><|sop|>{written}<|user|>\nhi<|assistant|>"
    assert "<|system|>\n <|user|>" in model.prompt(Message("system", " "), HI)
    # Only there: an empty question or result is one.
    assert model.prompt(Message("user", "")) == "<|[gMASK]|><|sop|><|user|>\n<|assistant|>"


def test_chatglm3_tools_stand_in_front_of_the_callers_system_text() -> None:
    declared = json.dumps(
        [
            {"name": "get_weather", "description": "查天气", "parameters": PARAMETERS},
            {"name": "clock", "parameters": {"type": "object", "properties": {}}},
        ],
        indent=4,
        ensure_ascii=False,
    )
    head = (
        "<|[gMASK]|><|sop|><|system|>\nAnswer the following questions as best as you can. "
        f"You have access to the following tools:\n{declared}"
    )
    model = Family("chatglm3")
    assert model.prompt(HI, tools=(WEATHER, CLOCK)) == f"{head}<|user|>\nhi<|assistant|>"
    assert model.prompt(Message("system", "Be brief."), HI, Message("system", "Late."), tools=(WEATHER, CLOCK)) == (
        f"{head}\n\nBe brief.<|user|>\nhi<|system|>\nLate.<|assistant|>"
    )


def test_glm4_tools_are_a_system_message_of_their_own() -> None:
    schema = json.dumps(
        {"name": "get_weather", "description": "查天气", "parameters": PARAMETERS}, indent=4, ensure_ascii=False
    )
    assert Family("glm4").prompt(Message("system", "Be brief."), HI, tools=(WEATHER,)) == (
        "<|[gMASK]|><|sop|><|system|>\n你是一个名为 ChatGLM 的人工智能助手。"
        "你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
        "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具\n\n## get_weather\n\n"
        f"{schema}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"
        "<|system|>\nBe brief.<|user|>\nhi<|assistant|>"
    )


def test_earlier_calls_are_written_as_the_model_writes_them() -> None:
    assert Family("chatglm3").prompt(*ROUND_TRIP) == (
        "<|[gMASK]|><|sop|><|user|>\nhi<|assistant|>get_weather\n```python\ntool_call(city='北京')\n```"
        "<|observation|>\nsunny<|assistant|>"
    )
    assert Family("glm4").prompt(*ROUND_TRIP) == (
        '<|[gMASK]|><|sop|><|user|>\nhi<|assistant|>get_weather\n{"city": "北京"}<|observation|>\nsunny<|assistant|>'
    )


def test_a_call_without_arguments_is_written_in_the_familys_syntax() -> None:
    called = (HI, Message("assistant", "", (ToolCall("c", "clock", "{}"),)), Message("tool", "noon", tool_call_id="c"))
    python, end = "clock\n```python\ntool_call()\n```", "<|observation|>\nnoon<|assistant|>"
    assert Family("chatglm3").prompt(*called).endswith(f"<|assistant|>{python}{end}")
    assert Family("glm4").prompt(*called).endswith(f"<|assistant|>clock\n{{}}{end}")


def test_chatglm3_writes_the_interpreters_code_back_as_code() -> None:
    call = ToolCall("c", "interpreter", json.dumps({"code": "print(1)"}))
    prompt = Family("chatglm3").prompt(HI, Message("assistant", "", (call,)), Message("tool", "1", tool_call_id="c"))
    assert "<|assistant|>interpreter\n```python\nprint(1)\n```<|observation|>\n1" in prompt


@both
def test_tool_choice_none_keeps_earlier_calls_and_drops_the_tools(family: str) -> None:
    model = Family(family)
    none = ToolChoice("none")
    assert model.prompt(*ROUND_TRIP, tools=(WEATHER,), choice=none) == model.prompt(*ROUND_TRIP)
    assert model.output(HI, tools=(WEATHER,), choice=none) == OutputSpec()


@both
def test_offered_tools_may_be_called(family: str) -> None:
    assert Family(family).output(HI, tools=(WEATHER, CLOCK)) == OutputSpec(tools=("get_weather", "clock"))


@pytest.mark.parametrize(
    ("family", "opening"),
    [("chatglm3", "<|assistant|>get_weather\n```python\ntool_call("), ("glm4", "<|assistant|>get_weather\n")],
)
def test_the_prompt_begins_the_call_of_the_only_tool_that_may_be_called(family: str, opening: str) -> None:
    model = Family(family)
    named = ToolChoice("required", "get_weather")
    assert model.prompt(HI, tools=(WEATHER, CLOCK), choice=named).endswith(f"<|user|>\nhi{opening}")
    assert model.output(HI, tools=(WEATHER, CLOCK), choice=named) == OutputSpec(
        tools=("get_weather",), forced="get_weather"
    )
    required = ToolChoice("required")
    assert model.prompt(HI, tools=(WEATHER,), choice=required).endswith(f"<|user|>\nhi{opening}")


@both
def test_a_call_of_one_of_several_tools_is_required(family: str) -> None:
    output = Family(family).output(HI, tools=(WEATHER, CLOCK), choice=ToolChoice("required"))
    assert output == OutputSpec(tools=("get_weather", "clock"), required=True)


@both
def test_a_last_assistant_message_is_continued(family: str) -> None:
    model = Family(family)
    begun = (HI, Message("assistant", "The answer is"))
    assert model.prompt(*begun).endswith("<|user|>\nhi<|assistant|>\nThe answer is")
    assert model.output(*begun, tools=(WEATHER,)) == OutputSpec(mode="text")


@both
def test_a_raw_completion_is_the_text_after_the_opening_ids(family: str) -> None:
    model = Family(family)
    assert model.tokenizer.show(model.format.render_text("def f(")) == "<|[gMASK]|><|sop|>def f("


def test_glm4v_accepts_one_image() -> None:
    model = Family("glm4v")
    image = Message("user", "what is it?", image=b"", position=1)
    assert model.prompt(HI, image).endswith(
        "<|user|>\n<|begin_of_image|><|endoftext|><|end_of_image|>what is it?<|assistant|>"
    )
    with pytest.raises(PromptError) as refused:
        model.prompt(image, Message("user", "and this?", image=b"", position=2))
    assert refused.value.param == "messages.2.content"


@both
@pytest.mark.parametrize(
    ("messages", "tools", "choice", "param"),
    [
        ((), (), None, "messages"),
        ((Message("user", "", image=b"", position=4),), (), None, "messages.4.content"),
        (ROUND_TRIP[:2], (), None, "messages.1.tool_calls"),
    ],
)
def test_the_faulty_part_of_a_conversation_is_named(
    family: str, messages: tuple[Message, ...], tools: tuple[Tool, ...], choice: ToolChoice | None, param: str
) -> None:
    with pytest.raises(PromptError) as refused:
        Family(family).prompt(*messages, tools=tools, choice=choice)
    assert refused.value.param == param


@both
def test_a_schema_that_is_nested_too_deeply_is_refused(family: str) -> None:
    schema = '{"items":' * 100_000 + "{}" + "}" * 100_000
    with pytest.raises(PromptError) as refused:
        Family(family).prompt(HI, tools=(Tool("deep", None, schema),))
    assert refused.value.param == "tools"


@both
@pytest.mark.parametrize("name", ["", " ", "a\nb", "<|user|>", "x" * 10_000])
def test_no_tool_name_breaks_a_prompt_or_a_parser(family: str, name: str) -> None:
    model = Family(family)
    prompt = model.format.render(conversation(HI, tools=(Tool(name),)))
    reader = model.format.reader(prompt.output, ())
    events = [event for id in model.tokenizer.tokens([*f"{name}\n", "{", "}", "<|user|>"]) for event in reader.feed(id)]
    assert events
    assert reader.reason is not None


def test_a_prompt_that_differs_from_chatglm_cpps_is_noticed() -> None:
    assert "differs from chatglm_cpp's at token 0" in (Family("glm4").format.check() or "")


class CountingSyntax(JsonSyntax):
    """Counts how often the rules of a call are written."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write_call(self, rules: Rules, name: str, parameters: Schema) -> str:
        self.written.append(name)
        return super().write_call(rules, name, parameters)

    def write_forced_call(self, rules: Rules, parameters: Schema) -> tuple[str, str]:
        self.written.append("forced")
        return super().write_forced_call(rules, parameters)


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (ToolChoice(), ["get_weather", "clock"]),
        (ToolChoice("required"), ["get_weather", "clock"]),
        (ToolChoice("required", "clock"), ["forced"]),
    ],
)
def test_the_grammar_of_the_calls_is_written_once_a_request(choice: ToolChoice, written: list[str]) -> None:
    syntax = CountingSyntax()
    format = RoleFormat(ScriptedTokenizer(), RoleStyle("glm4", syntax, declare_tools, write_body))
    format.render(conversation(HI, tools=(WEATHER, CLOCK), choice=choice))
    assert syntax.written == written
