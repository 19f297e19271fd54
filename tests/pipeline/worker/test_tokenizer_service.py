"""The loop of the tokenizer process: no question ends it."""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest

from glm_api.pipeline import formats
from glm_api.pipeline.conversation import Conversation, JsonOutput, Message, Tool
from glm_api.pipeline.formats.answer_grammar import TRIALS_SECONDS
from glm_api.pipeline.formats.base import Prompt
from glm_api.pipeline.frames import Decoded, DecodeIds, EncodeChat, Encoded, EncodeText, Frame, Rejected
from glm_api.pipeline.worker.chatglm_cpp.tokenizer import PipelineTokenizer
from glm_api.pipeline.worker.connection import ParentGone
from glm_api.pipeline.worker.constraints import TRIAL_CPU_SECONDS
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.tokenizer_service import TokenizerService
from tests.support.model_files.fixtures import OpenModel


class ScriptedConnection:
    """Gives out frames, then is gone; keeps what is sent."""

    def __init__(self) -> None:
        self.incoming: deque[Frame] = deque()
        self.sent: list[Frame] = []
        self.received = 0

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)

    def receive(self) -> Frame:
        if not self.incoming:
            raise ParentGone
        return self.incoming.popleft()


CHAT = EncodeChat(1, Conversation((Message("user", "secret"),)), 100)


def break_render(model: OpenModel, monkeypatch: pytest.MonkeyPatch) -> Frame:
    def render(conversation: Conversation) -> Prompt:
        raise LookupError(conversation.messages[0].content)

    monkeypatch.setattr(model.format, "render", render)
    return CHAT


def break_encode(model: OpenModel, monkeypatch: pytest.MonkeyPatch) -> Frame:
    def encode(text: str) -> list[int]:
        raise RecursionError(text)

    monkeypatch.setattr(model.tokenizer, "encode", encode)
    return EncodeText(1, "secret", False, 100)


def break_show(model: OpenModel, monkeypatch: pytest.MonkeyPatch) -> Frame:
    def shown_pieces(ids: list[int]) -> list[bytes]:
        raise UnicodeDecodeError("utf-8", b"secret", 0, 1, "secret")

    monkeypatch.setattr(model.tokenizer, "shown_pieces", shown_pieces)
    return DecodeIds(1, [400])


@pytest.mark.parametrize("broken", [break_render, break_encode, break_show])
def test_an_error_costs_only_the_question_that_raised_it(
    broken: Callable[[OpenModel, pytest.MonkeyPatch], Frame],
    open_demo: OpenModel,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    connection = ScriptedConnection()
    tokenizer = PipelineTokenizer(open_demo.pipeline, inspect(open_demo.path))
    model = open_demo._replace(tokenizer=tokenizer)
    service = TokenizerService(connection, tokenizer, model.format)  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        connection.incoming.append(broken(model, patched))
        with pytest.raises(ParentGone):
            service.serve()
    (answer,) = connection.sent
    assert isinstance(answer, Rejected)
    # A fault of the server, which the client cannot mend.
    assert (answer.id, answer.kind) == (1, "engine")
    assert "secret" not in answer.message
    assert re.fullmatch(r"A question failed: \w+ at \S+\.py:\d+ in .+\n", capfd.readouterr().out)

    connection.incoming += [CHAT, DecodeIds(2, [400])]
    with pytest.raises(ParentGone):
        service.serve()
    assert [type(answer) for answer in connection.sent[1:]] == [Encoded, Decoded]


def test_a_schema_made_to_be_slow_is_refused_and_holds_up_nobody(
    open_demo: OpenModel,
) -> None:
    multiples = {"allOf": [{"type": "integer", "multipleOf": prime} for prime in (7, 11, 13, 17, 19, 23)]}
    slow = JsonOutput(json.dumps(multiples), "the.param")
    tool = Tool("f", parameters=json.dumps({"type": "object", "properties": {"a": multiples}}))
    connection = ScriptedConnection()
    tokenizer = PipelineTokenizer(open_demo.pipeline, inspect(open_demo.path))
    format = formats.format_for("ChatGLM3", tokenizer)
    service = TokenizerService(connection, tokenizer, format)  # type: ignore[arg-type]
    tools = tuple(replace(tool, name=f"f{number}") for number in range(128))
    connection.incoming += [
        EncodeChat(1, Conversation(CHAT.conversation.messages, structured=slow), 100),
        EncodeText(2, "", False, 100, slow),
        EncodeChat(3, Conversation(CHAT.conversation.messages, tools), 100_000),
        CHAT,
    ]
    begun = time.process_time()
    children = os.times()
    with pytest.raises(ParentGone):
        service.serve()
    assert [type(answer) for answer in connection.sent] == [Rejected, Rejected, Encoded, Encoded]
    refused = [(answer.kind, answer.param) for answer in connection.sent[:2] if isinstance(answer, Rejected)]
    assert refused == [("prompt", "the.param")] * 2
    # One trial for both demands, one for the tools together, and some for single ones.
    assert os.times().children_user - children.children_user < 4 * TRIAL_CPU_SECONDS + TRIALS_SECONDS
    assert time.process_time() - begun < 3
