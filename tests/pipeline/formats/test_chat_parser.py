"""Answers of ChatGLM3 and GLM-4 as text and tool calls, from scripted ids."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.formats.base import AnswerReader
from glm_api.pipeline.formats.chatglm3 import chatglm3
from glm_api.pipeline.formats.glm4 import glm4
from glm_api.pipeline.frames import Event, FinishReason, Text, ToolArguments, ToolCallStarted
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.bounded_reader import BoundedReader
from tests.support.model_files.scripted_tokenizer import (
    ScriptedTokenizer,
    calls_of,
    ids_of,
    read,
    splits,
    text_of,
    whole_characters,
)

FORMATS = {"chatglm3": chatglm3, "glm4": glm4}
TOOLS = ("get", "get_weather", "查天气")
FENCE = "```"


class Answer:
    """One answer, read to its end."""

    def __init__(
        self, family: str, pieces: Sequence[str | bytes], output: OutputSpec | None = None, stop: Sequence[str] = ()
    ) -> None:
        tokenizer = ScriptedTokenizer()
        self.ids = tokenizer.tokens(pieces)
        self.reader: AnswerReader = FORMATS[family](tokenizer).reader(output or OutputSpec(tools=TOOLS), stop)
        self.each: list[list[Event]] = [self.reader.feed(id) for id in self.ids]
        self.each.append(self.reader.finish())
        self.events = [event for events in self.each for event in events]
        self.text = text_of(self.events)
        self.reason: FinishReason | None = self.reader.reason

    @property
    def calls(self) -> list[tuple[str, Any]]:
        return [(name, json.loads(arguments)) for name, arguments in calls_of(self.events)]


def call_pieces(family: str, name: str = "get_weather", arguments: str = '{"city": "北京"}') -> list[str]:
    """A call, a piece a character."""
    if family == "glm4":
        return [*f"{name}\n{arguments}", "<|observation|>"]
    keywords = ", ".join(f"{key}={value!r}" for key, value in json.loads(arguments).items())
    return [*f" {name}\n {FENCE}python\ntool_call({keywords})\n{FENCE}", "<|observation|>"]


both = pytest.mark.parametrize("family", ["chatglm3", "glm4"])


@both
def test_plain_text_is_streamed_when_there_are_tools(family: str) -> None:
    answer = Answer(family, ["\n", " Hello", " world", ".\n", "<|user|>"])
    assert [text_of(events) for events in answer.each] == ["", "Hello", " world", ".\n", "", ""]
    assert answer.reason == "stop"


@both
def test_a_call_has_its_name_and_arguments(family: str) -> None:
    answer = Answer(family, call_pieces(family))
    assert answer.calls == [("get_weather", {"city": "北京"})]
    assert answer.text == ""
    assert answer.reason == "tool_calls"
    (started,) = (event for event in answer.events if isinstance(event, ToolCallStarted))
    assert re.fullmatch(r"call_[0-9a-f]{24}", started.call_id)


@both
@pytest.mark.parametrize("name", TOOLS)
def test_a_tools_name_may_be_the_beginning_of_another(family: str, name: str) -> None:
    assert Answer(family, call_pieces(family, name)).calls == [(name, {"city": "北京"})]


@both
def test_prose_in_front_of_a_call_is_text(family: str) -> None:
    pieces = ["\n", "让我查一下。", "<|assistant|>", *call_pieces(family)]
    answer = Answer(family, pieces)
    assert answer.text == "让我查一下。"
    assert answer.calls == [("get_weather", {"city": "北京"})]
    assert answer.reason == "tool_calls"


@both
def test_two_calls_of_one_answer_are_numbered(family: str) -> None:
    first = call_pieces(family, "get", "{}")[:-1]
    answer = Answer(family, [*first, "<|assistant|>", *call_pieces(family)])
    assert answer.calls == [("get", {}), ("get_weather", {"city": "北京"})]


@both
def test_text_of_two_segments_is_joined_by_a_line_break(family: str) -> None:
    answer = Answer(family, ["\n", "A", "<|assistant|>", "\n", " B", "<|user|>"])
    assert answer.text == "A\nB"


@both
@pytest.mark.parametrize(
    "text",
    [
        "get_weather",
        "get_weather is a tool",
        "get_weather\nis a tool",
        "get_weather\n",
        "get_weatherman\n{}",
        "unknown\n{}",
        "get_weather {}",
        "get_weather\n" + "\n" * 100 + "{}",
        "北京",
    ],
)
def test_text_that_begins_like_a_call_stays_text(family: str, text: str) -> None:
    answer = Answer(family, [*text, "<|user|>"])
    assert answer.text == text
    assert answer.calls == []
    assert answer.reason == "stop"


@both
def test_a_header_waits_only_as_long_as_it_may_become_a_tools_name(family: str) -> None:
    answer = Answer(family, ["get", "_w", "ays", " out"])
    assert [text_of(events) for events in answer.each] == ["", "", "get_ways", " out", ""]


@both
def test_without_tools_nothing_is_a_call(family: str) -> None:
    answer = Answer(family, call_pieces(family), OutputSpec())
    assert answer.calls == []
    assert answer.text.startswith("get_weather\n")
    assert answer.reason == "stop"


@both
@pytest.mark.parametrize("end", ["<|user|>", "<|endoftext|>", "<|observation|>"])
def test_every_end_id_ends_an_answer_and_is_not_shown(family: str, end: str) -> None:
    answer = Answer(family, ["\n", "hi", end, "more"])
    assert answer.text == "hi"
    assert answer.reason == "stop"


@both
def test_an_answer_that_is_cut_has_no_reason(family: str) -> None:
    answer = Answer(family, ["\n", "hi"])
    assert answer.text == "hi"
    assert answer.reason is None


@both
@pytest.mark.parametrize("mode", ["chat", "text"])
@pytest.mark.parametrize("end", [[], ["<|user|>"]])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_an_answer_that_is_cut_inside_a_character_ends_before_it(
    family: str, mode: Literal["chat", "text"], end: list[str], cut: int
) -> None:
    bytes_of_a_face = [b"\xf0", b"\x9f", b"\x98"][:cut]
    answer = Answer(family, ["hi", *bytes_of_a_face, *end], OutputSpec(mode=mode))
    assert answer.text == "hi"
    assert ids_of(answer.events) == answer.ids[: 1 + cut]


@both
def test_arguments_that_are_cut_inside_a_character_end_before_it(family: str) -> None:
    written = '{"city": "北' if family == "glm4" else "city='北"
    answer = Answer(family, [written, b"\xe4", b"\xba"], OutputSpec(tools=("get",), forced="get"))
    assert calls_of(answer.events) == [("get", '{"city": "北')]
    assert ids_of(answer.events) == answer.ids


@both
def test_an_incomplete_character_is_replaced_when_text_follows(family: str) -> None:
    assert Answer(family, ["hi", b"\xf0\x9f", "<|assistant|>", "\n", "you"]).text == "hi\ufffd\nyou"
    assert Answer(family, ["hi", b"\xf0\x9f", "you"]).text == "hi\ufffdyou"


@both
@pytest.mark.parametrize("before", [[], ["\n", "Let me see.", "<|assistant|>"]])
@pytest.mark.parametrize("cut", ["g", "get", " get_wea", "get_weather", "get_weather \t"])
def test_a_header_that_is_cut_while_it_may_name_a_tool_is_not_shown(family: str, before: list[str], cut: str) -> None:
    answer = Answer(family, [*before, cut])
    assert (answer.text, answer.calls, answer.reason) == ("Let me see." if before else "", [], None)
    assert ids_of(answer.events) == answer.ids


@both
def test_a_header_that_is_cut_when_it_cannot_name_a_tool_is_text(family: str) -> None:
    assert Answer(family, ["got_wea"]).text == "got_wea"
    assert Answer(family, ["get_weather\n"]).text == "get_weather\n"


@both
def test_a_complete_call_is_a_call_if_the_answer_is_cut_right_after_it(family: str) -> None:
    assert Answer(family, call_pieces(family)[:-1]).reason == "tool_calls"


@both
def test_a_model_that_goes_on_after_a_call_is_stopped(family: str) -> None:
    answer = Answer(family, [*call_pieces(family)[:-1], "\n", "And", " so"])
    assert answer.calls == [("get_weather", {"city": "北京"})]
    assert answer.text == ""
    assert answer.reason == "tool_calls"


@both
def test_stop_strings_end_text_and_leave_arguments_alone(family: str) -> None:
    answer = Answer(family, ["\n", "a", "bST", "OPc"], stop=["STOP"])
    assert (answer.text, answer.reason) == ("ab", "stop")
    answer = Answer(family, ["\n", "ab<|assist", "<|assistant|>", *call_pieces(family)], stop=["city", "<|assistant|>"])
    assert (answer.text, answer.calls) == ("ab<|assist", [("get_weather", {"city": "北京"})])


@both
@pytest.mark.parametrize("stop", ["\n", "_", "城", "`", "}", ")"])
def test_a_stop_id_ends_text_and_leaves_a_call_alone(family: str, stop: str) -> None:
    tokenizer = ScriptedTokenizer()
    stop_ids, end = tuple(tokenizer.tokens([stop])), min(tokenizer.end_ids)
    text, call = ["\n", "ab", stop, "cd"], [*call_pieces(family, arguments='{"city": "城_"}'), "more"]
    got = []
    for pieces in (text, call, ["\n", "ab", "<|assistant|>", *call]):
        reader = BoundedReader(FORMATS[family](tokenizer).reader(OutputSpec(tools=TOOLS), ()), 100, stop_ids, end)
        events = [event for id in tokenizer.tokens(pieces) for event in reader.feed(id)] + reader.finish()
        got.append((text_of(events), [json.loads(arguments) for _, arguments in calls_of(events)], reader.reason))
    calls = [{"city": "城_"}]
    assert got == [("ab", [], "stop"), ("", calls, "tool_calls"), ("ab", calls, "tool_calls")]


@both
def test_a_stop_string_is_not_found_in_white_space_before_the_text(family: str) -> None:
    answer = Answer(family, ["\n", "\n", " a", "\n", "b"], stop=["\n"])
    assert (answer.text, answer.reason) == ("a", "stop")


@both
def test_a_forced_call_needs_no_header(family: str) -> None:
    arguments = '{"city": "北京"}' if family == "glm4" else f"city='北京')\n{FENCE}"
    answer = Answer(family, [*arguments, "<|observation|>"], OutputSpec(tools=("get_weather",), forced="get_weather"))
    assert answer.calls == [("get_weather", {"city": "北京"})]
    assert isinstance(answer.events[0], ToolCallStarted)
    assert answer.reason == "tool_calls"


@both
def test_forced_arguments_that_do_not_parse_are_returned_unchanged(family: str) -> None:
    answer_pieces = ["{'city", "': oops", "<|user|>"]
    tokenizer = ScriptedTokenizer()
    reader = FORMATS[family](tokenizer).reader(OutputSpec(tools=("get",), forced="get"), ())
    events = read(reader, tokenizer.tokens(answer_pieces))
    assert calls_of(events) == [("get", "{'city': oops")]
    assert text_of(events) == ""


@both
def test_a_call_carries_the_clients_name(family: str) -> None:
    output = OutputSpec(tools=("get_weather", "get"), names=(("get_weather", "weather.get"),))
    assert Answer(family, call_pieces(family), output).calls == [("weather.get", {"city": "北京"})]
    assert Answer(family, call_pieces(family, "get"), output).calls == [("get", {"city": "北京"})]


@both
@pytest.mark.parametrize("written", ["get_weather\n", " get_weather \n\n"])
def test_a_call_without_a_body_has_no_arguments(family: str, written: str) -> None:
    answer = Answer(family, [*written, "<|observation|>"])
    assert (answer.text, answer.calls, answer.reason) == ("", [("get_weather", {})], "tool_calls")
    after_text = Answer(family, ["\n", "Let me see.", "<|assistant|>", *written, "<|observation|>"])
    assert (after_text.text, after_text.calls) == ("Let me see.", [("get_weather", {})])
    assert ids_of(after_text.events) == after_text.ids[:-1]
    # Without the id that the model waits with, it is only the name of a tool.
    assert Answer(family, [*written, "<|user|>"]).calls == []
    assert Answer(family, ["get", "<|observation|>"]).text == "get"


@both
@pytest.mark.parametrize("end", ["<|observation|>", "<|user|>", "<|assistant|>"])
def test_a_demanded_call_without_a_body_has_no_arguments(family: str, end: str) -> None:
    answer = Answer(family, [end, "<|user|>"], OutputSpec(tools=("get",), forced="get"))
    assert (answer.text, answer.calls, answer.reason) == ("", [("get", {})], "tool_calls")


@both
@pytest.mark.parametrize("written", ["", " "])
def test_a_demanded_call_that_is_cut_before_its_arguments_begins_an_object(family: str, written: str) -> None:
    answer = Answer(family, [*written], OutputSpec(tools=("get",), forced="get"))
    assert calls_of(answer.events) == [("get", "{")]
    held = Answer(family, [*f"get\n{written}"], OutputSpec(tools=("get",), required=True, grammar="start:"))
    assert calls_of(held.events) == [("get", "{")]


def test_glm4_arguments_stream_as_they_are_written() -> None:
    answer = Answer("glm4", ["get", "\n", '{"a"', ': "}', '\\"', '{"', ', "b": [{}]}\n', "<|observation|>"])
    streamed = [event.text for event in answer.events if isinstance(event, ToolArguments)]
    assert streamed == ['{"a"', ': "}', '\\"', '{"', ', "b": [{}]}']
    assert answer.calls == [("get", {"a": '}"{', "b": [{}]})]


def test_chatglm3_arguments_that_do_not_parse_are_text() -> None:
    text = f"get_weather\n {FENCE}python\nprint(1)\n{FENCE}"
    answer = Answer("chatglm3", [*text, "<|observation|>"])
    assert (answer.text, answer.calls, answer.reason) == (text, [], "stop")


@pytest.mark.parametrize(
    "body",
    [
        f"{FENCE}python\ntool_call(\n  city='北京',\n)\n{FENCE}",
        f"{FENCE}\ntool_call(city='北京')\n{FENCE}",
        f"{FENCE}json\n" + '{"city": "北京"}' + f"\n{FENCE}",
        f"{FENCE}python\ntool_call(city='北京')",
        "tool_call(city='北京')",
        '{"city": "北京"}',
    ],
)
def test_chatglm3_may_vary_the_fence(body: str) -> None:
    assert Answer("chatglm3", [*f"get\n{body}", "<|observation|>"]).calls == [("get", {"city": "北京"})]


def test_chatglm3_arguments_may_contain_fences() -> None:
    body = f"{FENCE}python\ntool_call(code='{FENCE}py\\n1\\n{FENCE}')\n{FENCE}"
    answer = Answer("chatglm3", [*f"get\n{body}", "<|observation|>"])
    assert answer.calls == [("get", {"code": f"{FENCE}py\n1\n{FENCE}"})]


def test_chatglm3_code_for_the_interpreter_is_a_call_that_the_caller_may_run() -> None:
    code = "import os\nprint(os.name)"
    written = [*f" interpreter\n {FENCE}python\n{code}\n{FENCE}", "<|observation|>"]
    answer = Answer("chatglm3", written, OutputSpec(tools=("interpreter",)))
    assert answer.calls == [("interpreter", {"code": code})]
    assert answer.reason == "tool_calls"
    # Nobody waits for a call of a tool that is not declared.
    answer = Answer("chatglm3", written, OutputSpec(tools=("get",)))
    assert (answer.calls, answer.reason) == ([], "stop")
    assert code in answer.text


def test_chatglm3_code_that_was_cut_is_text() -> None:
    answer = Answer("chatglm3", [*f"interpreter\n{FENCE}python\nimport os"], OutputSpec(tools=("interpreter",)))
    assert (answer.text, answer.calls) == (f"interpreter\n{FENCE}python\nimport os", [])


def test_a_raw_completion_is_shown_unchanged() -> None:
    answer = Answer("chatglm3", [" get", "\n", "{}", "<|assistant|>", " x ", "<|user|>"], OutputSpec(mode="text"))
    assert [text_of(events) for events in answer.each] == [" get", "\n", "{}", "", " x ", "", ""]
    assert answer.reason == "stop"


TEXTS = st.text("ab \n`{}\"'北😀_") | st.sampled_from(["get\n{", "get_weather\n```", "\n", " 查天气\n", "STOP", "ST"])
ANSWERS = st.lists(TEXTS, max_size=4).map("".join)


@both
@given(data=st.data())
def test_any_split_of_an_answer_gives_the_same(family: str, data: st.DataObject) -> None:
    text = data.draw(ANSWERS)
    pieces = data.draw(splits(st.just(text)))
    end = data.draw(st.sampled_from(["<|user|>", "<|observation|>", "<|assistant|>"]))
    whole = Answer(family, [text, end] if text else [end], stop=["STOP"])
    split = Answer(family, [*pieces, end], stop=["STOP"])
    assert (split.text, split.reason) == (whole.text, whole.reason)
    assert calls_of(split.events) == calls_of(whole.events)


@both
@given(data=st.data())
def test_text_is_the_whole_decode_without_white_space_in_front(family: str, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.binary(max_size=5)))
    answer = Answer(family, pieces, OutputSpec())
    assert answer.text == whole_characters(b"".join(pieces)).lstrip()


@both
@given(data=st.data())
def test_each_id_is_in_one_event_and_the_ids_restore_the_reader(family: str, data: st.DataObject) -> None:
    pieces = data.draw(splits(ANSWERS))
    tokenizer = ScriptedTokenizer()
    ids = tokenizer.tokens(pieces)
    reader = FORMATS[family](tokenizer).reader(OutputSpec(tools=TOOLS), ["STOP"])
    fed: list[int] = []
    sent: list[Event] = []
    for id in ids:
        if reader.reason is None:
            fed.append(id)
        sent += reader.feed(id)
    again = FORMATS[family](tokenizer).reader(OutputSpec(tools=TOOLS), ["STOP"])
    replayed = [event for id in ids_of(sent) for event in again.feed(id)]
    assert (text_of(replayed), calls_of(replayed)) == (text_of(sent), calls_of(sent))
    assert ids_of(sent) + ids_of(reader.finish()) == fed


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)


@both
@given(data=st.data())
def test_a_call_is_read_back_from_the_text_that_the_format_writes(family: str, data: st.DataObject) -> None:
    arguments: dict[str, Any] = data.draw(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3))
    name = data.draw(st.sampled_from(TOOLS))
    tokenizer = ScriptedTokenizer()
    format = FORMATS[family](tokenizer)
    body = format._style.write_body(name, json.dumps(arguments, ensure_ascii=False))  # type: ignore[attr-defined]
    pieces = data.draw(splits(st.just(f"{name}\n{body}")))
    events = read(format.reader(OutputSpec(tools=TOOLS), ()), tokenizer.tokens([*pieces, "<|observation|>"]))
    ((called, text),) = calls_of(events)
    assert (called, json.loads(text)) == (name, arguments)
    assert not any(isinstance(event, Text) and event.text for event in events)


@both
@pytest.mark.parametrize("body", ["`" * 20_000, "{" * 20_000, "[" * 20_000, "get\n" * 5_000, "tool_call(" * 2_000])
def test_no_answer_breaks_the_parser(family: str, body: str) -> None:
    answer = Answer(family, ["get\n", *re.findall("(?s).{1,7}", body), "<|user|>"], OutputSpec(tools=("get",)))
    assert answer.reason is not None
    assert answer.text or answer.events
