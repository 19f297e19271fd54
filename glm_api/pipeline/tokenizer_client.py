"""The web side of the tokenizer process: questions with an id each, answered in order.

Token ids are needed before a request is admitted (does the prompt fit?) and by ``/tokenize`` at any time, but the
pipeline process is deaf while it evaluates a prompt. So ids come from a process of their own, which never computes
for longer than an encoding takes.
"""

from __future__ import annotations

import base64
import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping

from glm_api.backend.base import Cause
from glm_api.backend.errors import DeadlineExceeded, EngineError, ModelLoading, PipelineError, PromptError
from glm_api.pipeline.child_process import ChildProcess
from glm_api.pipeline.conversation import Conversation, conversation_to_json
from glm_api.pipeline.formats.base import Prompt
from glm_api.pipeline.frames import Decoded, DecodeIds, EncodeChat, Encoded, EncodeText, Frame, Open, Rejected
from glm_api.pipeline.model_info import ModelInfo, OutputSpec

# Encoding a megabyte takes well under a second; what takes longer is a prompt made to be slow.
ANSWER_TIMEOUT = 20.0


def image_to_json(image: bytes | None) -> str | None:
    """A file as base64, for a frame."""
    return None if image is None else base64.b64encode(image).decode()


class TokenizerClient:
    """Asks the tokenizer process and waits for its answers. Methods may be called from any thread."""

    def __init__(self, opening: Open, environment: Mapping[str, str], on_ready: Callable[[ModelInfo], None]) -> None:
        self.process = ChildProcess("tokenizer", opening, self, environment)
        self.ready = False
        self._announce = on_ready
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._asked: dict[int, queue.SimpleQueue[Frame | PipelineError]] = {}

    def encode_chat(self, conversation: Conversation) -> Prompt:
        """The prompt of ``conversation``. Raises `PromptError`, `ModelLoading`, `EngineError`, `DeadlineExceeded`."""
        answer = self._ask(lambda id: EncodeChat(id, conversation_to_json(conversation)))
        assert isinstance(answer, Encoded)
        return Prompt(answer.ids, OutputSpec.from_json(answer.output))

    def encode_text(self, text: str, prefix: bool) -> list[int]:
        """The ids of ``text``; ``prefix``: with the special ids that open a raw completion's prompt."""
        answer = self._ask(lambda id: EncodeText(id, text, prefix))
        assert isinstance(answer, Encoded)
        return answer.ids

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids``, special tokens shown. Raises `PromptError` for ids outside the vocabulary."""
        answer = self._ask(lambda id: DecodeIds(id, ids))
        assert isinstance(answer, Decoded)
        return answer.text

    def _ask(self, question: Callable[[int], Frame]) -> Frame:
        id = next(self._ids)
        box: queue.SimpleQueue[Frame | PipelineError] = queue.SimpleQueue()
        with self._lock:
            self._asked[id] = box
            self.process.expect_within(ANSWER_TIMEOUT)
        try:
            if not self.process.send(question(id)):
                raise ModelLoading("The model is being loaded. Try again in a few seconds.", retry_after=2)
            deadline = time.monotonic() + 2 * ANSWER_TIMEOUT
            try:
                answer = box.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise DeadlineExceeded(
                    "The prompt could not be turned into tokens in time. Send a shorter prompt, or try again."
                ) from None
        finally:
            with self._lock:
                self._asked.pop(id, None)
                if not self._asked:
                    self.process.expect_within(None)
        if isinstance(answer, PipelineError):
            raise answer
        if isinstance(answer, Rejected):
            raise PromptError(answer.message, answer.param)
        return answer

    def on_ready(self, info: ModelInfo) -> None:
        """The tokenizer process takes questions."""
        self.ready = True
        self._announce(info)

    def on_frame(self, frame: Frame) -> None:
        """The tokenizer process has answered."""
        assert isinstance(frame, (Encoded, Decoded, Rejected))
        with self._lock:
            box = self._asked.get(frame.id)
            if self._asked:
                self.process.expect_within(ANSWER_TIMEOUT)
        if box is not None:
            box.put(frame)

    def on_down(self, cause: Cause, message: str) -> None:
        """The tokenizer process is gone; what was asked of it gets no answer."""
        self.ready = False
        with self._lock:
            boxes = list(self._asked.values())
        for box in boxes:
            box.put(EngineError("The server could not turn this prompt into tokens. Check the prompt, then try again."))
