"""Tool calls and their results are brought into the order of the training data."""

from __future__ import annotations

import pytest

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Message, ToolCall
from glm_api.pipeline.formats.turns import Turn, to_turns


def user(text: str = "?", position: int = 0) -> Message:
    return Message("user", text, position=position)


def calls(*ids: str, content: str = "", position: int = 1) -> Message:
    return Message("assistant", content, tuple(ToolCall(id, f"tool_{id}", "{}") for id in ids), position=position)


def result(text: str, id: str | None, position: int = 2) -> Message:
    return Message("tool", text, tool_call_id=id, position=position)


def written(*messages: Message) -> list[tuple[str, str, str]]:
    turns = to_turns(messages, lambda name, arguments: f"{name}{arguments}")
    return [(turn.role, turn.metadata, turn.content) for turn in turns]


CALL_A, CALL_B = ("assistant", "tool_a", "tool_a{}"), ("assistant", "tool_b", "tool_b{}")


def test_each_plain_message_becomes_a_turn() -> None:
    messages = [Message("system", "s"), user("u"), Message("assistant", "a"), Message("assistant", ""), user("v")]
    assert to_turns(messages, lambda name, arguments: "") == [
        Turn("system", "s"),
        Turn("user", "u"),
        Turn("assistant", "a"),
        Turn("assistant", ""),
        Turn("user", "v"),
    ]


def test_the_result_of_each_call_is_written_after_it() -> None:
    turns = written(user(), calls("a", "b", content="Let me see."), result("B", "b"), result("A", "a"))
    assert turns[1:] == [
        ("assistant", "", "Let me see."),
        CALL_A,
        ("observation", "", "A"),
        CALL_B,
        ("observation", "", "B"),
    ]


def test_a_call_without_a_result_is_written_alone() -> None:
    assert written(user(), calls("a", "b"), result("B", "b"), user("next"))[1:] == [
        CALL_A,
        CALL_B,
        ("observation", "", "B"),
        ("user", "", "next"),
    ]


def test_a_late_result_is_written_where_it_stands() -> None:
    turns = written(user(), calls("a"), user("hurry"), result("A", "a"))
    assert turns[1:] == [CALL_A, ("user", "", "hurry"), ("observation", "", "A")]


def test_a_result_without_an_id_answers_the_oldest_open_call() -> None:
    turns = written(user(), calls("a", "b"), result("A", None), result("B", None))
    assert turns[1:] == [CALL_A, ("observation", "", "A"), CALL_B, ("observation", "", "B")]


def test_ids_may_be_used_again_in_a_later_turn() -> None:
    turns = written(user(), calls("a"), result("1", "a"), calls("a"), result("2", "a"))
    assert turns[1:] == [CALL_A, ("observation", "", "1"), CALL_A, ("observation", "", "2")]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ((user(), result("A", "a", 1)), "messages.1.tool_call_id"),
        ((user(), result("A", None, 1)), "messages.1.role"),
        ((user(), calls("a"), result("A", "x", 2)), "messages.2.tool_call_id"),
        ((user(), calls("a"), result("A", "a", 2), result("A", "a", 3)), "messages.3.tool_call_id"),
        ((user(), calls("a"), result("A", None, 2), result("A", None, 3)), "messages.3.role"),
        ((user(), calls("a", "a", position=1)), "messages.1.tool_calls.1.id"),
    ],
)
def test_results_that_belong_to_no_call_are_refused_by_name(messages: tuple[Message, ...], param: str) -> None:
    with pytest.raises(PromptError) as refused:
        written(*messages)
    assert refused.value.param == param
