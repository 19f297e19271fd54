"""The loop of the tokenizer process: no question ends it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

import pytest

from glm_api.pipeline.conversation import Conversation, Message
from glm_api.pipeline.formats.base import Prompt
from glm_api.pipeline.frames import Decoded, DecodeIds, EncodeChat, Encoded, EncodeText, Frame, Rejected
from glm_api.pipeline.worker.connection import ParentGone
from glm_api.pipeline.worker.limited import LimitedTokenizer
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
    def show(ids: list[int]) -> str:
        raise UnicodeDecodeError("utf-8", b"secret", 0, 1, "secret")

    monkeypatch.setattr(model.tokenizer, "show", show)
    return DecodeIds(1, [400], False)


@pytest.mark.parametrize("broken", [break_render, break_encode, break_show])
def test_an_error_costs_only_the_question_that_raised_it(
    broken: Callable[[OpenModel, pytest.MonkeyPatch], Frame],
    open_demo: OpenModel,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    connection = ScriptedConnection()
    tokenizer = LimitedTokenizer(open_demo.pipeline, inspect(open_demo.path))
    model = open_demo._replace(tokenizer=tokenizer)
    service = TokenizerService(connection, tokenizer, model.format)  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        connection.incoming.append(broken(model, patched))
        with pytest.raises(ParentGone):
            service.serve()
    (answer,) = connection.sent
    assert isinstance(answer, Rejected)
    assert answer.id == 1
    assert "secret" not in answer.message
    assert re.fullmatch(r"A question failed: \w+ at \S+\.py:\d+ in .+\n", capfd.readouterr().out)

    connection.incoming += [CHAT, DecodeIds(2, [400], False)]
    with pytest.raises(ParentGone):
        service.serve()
    assert [type(answer) for answer in connection.sent[1:]] == [Encoded, Decoded]
