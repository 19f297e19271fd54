"""Every family's format over chatglm_cpp itself, on tiny models."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from glm_api.pipeline import formats
from glm_api.pipeline.conversation import Conversation, Message, Tool
from glm_api.pipeline.formats.base import Prompt
from glm_api.pipeline.frames import Event
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C
from tests.support.model_files.fixtures import OpenModel
from tests.support.model_files.scripted_tokenizer import ScriptedTokenizer, calls_of, ids_of, text_of
from tests.support.model_files.writer import FAMILIES, Family

every = pytest.mark.parametrize("family", FAMILIES)
OpenModelFactory = Callable[..., OpenModel]

DIALOGUE = Conversation((Message("user", "hello"), Message("assistant", "你好"), Message("user", " the weather\n\n")))


def answer(model: OpenModel, prompt: Prompt, most: int) -> tuple[list[Event], str | None, list[int]]:
    """A greedy answer, its reason, and the generated ids."""
    reader = model.format.reader(prompt.output, ())
    config = _C.GenerationConfig(do_sample=False)
    ids, past = list(prompt.ids), 0
    events: list[Event] = []
    while reader.reason is None and len(ids) < len(prompt.ids) + most:
        token = model.pipeline.model.generate_next_token(ids, None, config, past, len(prompt.ids))
        past = len(ids)
        ids.append(token)
        events += reader.feed(token)
    events += reader.finish()
    return events, reader.reason, ids[len(prompt.ids) :]


@every
def test_a_plain_dialogue_has_the_ids_of_chatglm_cpp(family: Family, open_model: OpenModelFactory) -> None:
    model = open_model(family)
    template = [_C.ChatMessage(message.role, message.content) for message in DIALOGUE.messages]
    assert model.format.render(DIALOGUE).ids == model.pipeline.tokenizer.apply_chat_template(template, 1 << 20)
    assert model.format.check() is None


@pytest.mark.parametrize("family", ["chatglm", "chatglm2", "chatglm3"])
def test_files_of_the_older_layout_are_read(family: Family, open_model: OpenModelFactory) -> None:
    model = open_model(family, version=1)
    assert model.format.check() is None
    assert answer(model, model.format.render(DIALOGUE), 8)[2]


def test_an_image_is_put_where_chatglm_cpp_puts_it(open_model: OpenModelFactory) -> None:
    model = open_model("glm4v")
    image = _C.Image(memoryview(bytes(3)).cast("B", (1, 1, 3)))
    expected = model.pipeline.tokenizer.apply_chat_template([_C.ChatMessage("user", "hello", image)], 1 << 20)
    assert model.format.render(Conversation((Message("user", "hello", image=b""),))).ids == expected


@every
def test_a_long_answer_of_any_ids_is_read_without_loss(family: Family, open_model: OpenModelFactory) -> None:
    model = open_model(family, extra_rows=300)  # ids that the tokenizer does not have come up
    events, reason, ids = answer(model, model.format.render(DIALOGUE), 60)
    assert ids_of(events) == ids[: len(ids) - (reason is not None)]
    assert text_of(events)


@pytest.mark.parametrize("family", ["chatglm2", "chatglm3", "glm4", "glm4v"])
def test_an_answer_is_read_as_the_text_that_was_encoded(family: Family, open_model: OpenModelFactory) -> None:
    plain = open_model(family)
    prompt = plain.format.render(DIALOGUE)
    said = plain.tokenizer.encode("\n你好 hello the weather{}")
    model = open_model(family, script=((prompt.ids[-1], *said, max(plain.tokenizer.end_ids)),))
    events, reason, ids = answer(model, prompt, 50)
    assert text_of(events) == "你好 hello the weather{}"
    assert reason == "stop"
    assert ids_of(events) == ids[:-1]


@pytest.mark.parametrize(("family", "body"), [("chatglm3", "tool_call()"), ("glm4", "{}")])
def test_a_call_is_read_as_the_call_that_was_encoded(family: Family, body: str, open_model: OpenModelFactory) -> None:
    plain = open_model(family)
    prompt = plain.format.render(Conversation(DIALOGUE.messages, (Tool("find"),)))
    # A script may use an id once: the space in front of the body, which SentencePiece puts there, is dropped.
    said = list(dict.fromkeys(plain.tokenizer.encode("find\n") + plain.tokenizer.encode(body)))
    model = open_model(family, script=((prompt.ids[-1], *said, plain.tokenizer.role("observation")),))
    events, reason, _ = answer(model, prompt, 50)
    assert calls_of(events) == [("find", "{}")]
    assert text_of(events) == ""
    assert reason == "tool_calls"


@pytest.mark.parametrize(
    ("family", "tools", "images", "reuses_prefix"),
    [
        ("chatglm", False, False, False),
        ("chatglm2", False, False, True),
        ("chatglm3", True, False, True),
        ("glm4", True, False, True),
        ("glm4v", True, True, True),
    ],
)
def test_a_family_tells_its_abilities(
    family: Family, tools: bool, images: bool, reuses_prefix: bool, open_model: OpenModelFactory
) -> None:
    format = open_model(family).format
    assert format.family == family
    assert format.supports_tools == tools
    assert (bool(format.image_ids), format.reuses_prefix) == (images, reuses_prefix)


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ValueError, match="'ChatGLM5'"):
        formats.format_for("ChatGLM5", ScriptedTokenizer())
