"""The web side of the tokenizer process: numbered questions, sent to the process one at a time.

A request is admitted only when its prompt fits the context, so its token ids are needed before; and ``/tokenize`` needs
ids at any time. But the pipeline process answers nothing while it evaluates a prompt in one call. So ids come from a
process of their own, which never computes for longer than an encoding takes.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from glm_api.backend.base import Cause
from glm_api.backend.errors import (
    BackendError,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    ModelLoading,
    PromptError,
    shutting_down,
)
from glm_api.pipeline.child_process import ChildProcess, LoadFailures
from glm_api.pipeline.conversation import Conversation, StructuredOutput, without_images
from glm_api.pipeline.formats.base import Prompt
from glm_api.pipeline.frames import (
    FROM_TOKENIZER,
    Decoded,
    DecodeIds,
    EncodeChat,
    Encoded,
    EncodeText,
    LoadModel,
    Rejected,
    TokenizerAnswer,
    TokenizerQuestion,
    TooLong,
    pack,
)
from glm_api.pipeline.model_info import ModelInfo, OutputSpec

logger = logging.getLogger(__name__)

# A process that computes for longer than this, plus what the question's length adds, is hung. (One that does nothing is
# found sooner.) The slowest megabyte that was found takes 5 s on a busy core. Seconds.
HUNG_AFTER = 5.0
HUNG_AFTER_PER_MEGABYTE = 10.0
# Questions of up to this many bytes take milliseconds, so they do not wait for longer ones.
SHORT_BYTES = 64 * 1024
# A question is given up when the process has ended this often while it had it.
MOST_DEATHS = 2
# The most tokens of a text that is not a prompt, and the most ids that are turned into text; the context's length where
# that is more. An answer with a piece for each of so many takes the web process some 30 ms.
MOST_TOKENS = 32_768


@dataclass(eq=False, slots=True)
class _Question:
    """A question. ``data`` is its packed frame; ``deaths`` counts how often the process has ended while it had it."""

    id: int
    data: bytes
    answer: queue.SimpleQueue[TokenizerAnswer | BackendError] = field(default_factory=queue.SimpleQueue)
    deaths: int = 0
    abandoned: bool = False

    @property
    def first(self) -> bool:
        """Whether it is asked before long questions, and before those that may have ended the process."""
        return len(self.data) <= SHORT_BYTES and not self.deaths

    @property
    def patience(self) -> float:
        """Seconds after which a process that has not answered counts as hung."""
        return HUNG_AFTER + HUNG_AFTER_PER_MEGABYTE * len(self.data) / 2**20


class TokenizerClient:
    """Asks the tokenizer process and waits for its answers. Methods may be called from any thread.

    The process has one question at a time; the others wait here. So the process's deadline is that of one question: it
    begins when the question is sent, and no other question moves it. A process that has stopped blocks at most one
    sender. When the process dies, it is known at which question; the others are asked of the next process.
    ``timeout`` is the number of seconds that a question may take in all, the time that it waits included.
    """

    def __init__(
        self,
        load_model: LoadModel,
        environment: Mapping[str, str],
        on_ready: Callable[[ModelInfo], None],
        timeout: float,
        load_failures: LoadFailures,
    ) -> None:
        self.process: ChildProcess[TokenizerAnswer] = ChildProcess(
            "tokenizer", FROM_TOKENIZER, load_model, self, environment, load_failures
        )
        self._on_ready = on_ready
        self._timeout = timeout
        self._model: ModelInfo | None = None
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._state: Literal["loading", "ready", "restarting", "failed", "stopped"] = "loading"
        self._waiting: dict[int, _Question] = {}
        self._asked: _Question | None = None

    @property
    def ready(self) -> bool:
        """Whether the process takes questions."""
        return self._state == "ready"

    def stop(self) -> None:
        """End the process; questions that wait fail with `ShuttingDown`. Idempotent."""
        self._end("stopped", lambda: shutting_down(begun=False))
        self.process.stop()

    # --- questions ---
    # Besides the errors that it names, each raises `ModelLoading`, `ShuttingDown`, `EngineError` or `DeadlineExceeded`.

    def encode_chat(self, conversation: Conversation) -> Prompt:
        """Return the prompt of ``conversation``. Raises `PromptError` and `ContextLengthExceeded`."""
        # Tools and calls add to the prompt too, but not by their length here: the process looks at them.
        length = sum(len(message.content) for message in conversation.messages)
        shows_image = any(message.image is not None for message in conversation.messages)
        answer = self._encode_prompt(
            length,
            lambda id, most: EncodeChat(id, without_images(conversation), most),
            self._known.image_tokens if shows_image else 0,
        )
        return Prompt(answer.ids, answer.output)

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of ``text``, the prompt of a raw completion. Raises `ContextLengthExceeded`."""
        try:
            return self._encode_prompt(len(text), lambda id, most: EncodeText(id, text, True, most)).ids
        except ContextLengthExceeded as error:
            raise error.at("prompt") from None

    def text_output(self, structured: StructuredOutput) -> OutputSpec:
        """Return how to read the answer of a raw completion that must be ``structured``. Raises `PromptError`."""
        answer = self._ask(lambda id: EncodeText(id, "", False, 0, structured))
        assert isinstance(answer, Encoded)
        return answer.output

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Return the ids of ``text``. Raises `PromptError` for too many.

        ``special`` adds the ids that open the prompt of a raw completion.
        """
        most = self._most_tokens
        answer = self._encode(len(text), most, lambda id, most: EncodeText(id, text, special, most))
        if isinstance(answer, TooLong):
            count = f"at least {answer.tokens}" if answer.at_least else f"{answer.tokens}"
            raise PromptError(
                f"The text has {count} tokens, and this server tokenizes at most {most} at a time. Send it in parts.",
                "content",
            )
        return answer.ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of ``ids``, special tokens shown. Raises `PromptError` for unknown ids and for too many."""
        return b"".join(self.pieces(ids)).decode(errors="replace")

    def pieces(self, ids: list[int]) -> list[bytes]:
        """Return the UTF-8 bytes that each of ``ids`` adds to their text. Raises `PromptError` as `decode` does."""
        most = self._most_tokens
        if len(ids) > most:
            raise PromptError(
                f"There are {len(ids)} token ids, and this server detokenizes at most {most} at a time. Send them "
                "in parts.",
                "tokens",
            )
        answer = self._ask(lambda id: DecodeIds(id, ids))
        assert isinstance(answer, Decoded)
        return answer.pieces

    def _encode_prompt(
        self, length: int, question: Callable[[int, int], TokenizerQuestion], image_tokens: int = 0
    ) -> Encoded:
        context = self._known.context_length
        answer = self._encode(length, max(0, context - 1 - image_tokens), question)
        if isinstance(answer, TooLong):
            tokens = answer.tokens + image_tokens
            raise ContextLengthExceeded(tokens, context, image_tokens, at_least=answer.at_least)
        return answer

    def _encode(self, length: int, most: int, question: Callable[[int, int], TokenizerQuestion]) -> Encoded | TooLong:
        """Ask for at most ``most`` ids of ``length`` characters of text, unless so many characters need more ids."""
        longest = self._known.characters_per_token
        if longest and length > most * longest:
            return TooLong(0, -(-length // longest), at_least=True)
        answer = self._ask(lambda id: question(id, most))
        assert isinstance(answer, (Encoded, TooLong))
        return answer

    @property
    def _known(self) -> ModelInfo:
        if self._model is None:
            raise self._refusal()
        return self._model

    @property
    def _most_tokens(self) -> int:
        return max(MOST_TOKENS, self._known.context_length)

    def _refusal(self) -> BackendError:
        if self._state == "stopped":
            return shutting_down(begun=False)
        return ModelLoading("The model is being loaded. Try again in a few seconds.", retry_after=2)

    # --- asking ---

    def _ask(self, make: Callable[[int], TokenizerQuestion]) -> Encoded | TooLong | Decoded:
        id = next(self._ids)
        question = _Question(id, pack(make(id)))
        with self._lock:
            if self._state not in ("ready", "restarting"):
                raise self._refusal()
            self._waiting[id] = question
        self._ask_next()
        try:
            answer = question.answer.get(timeout=self._timeout)
        except queue.Empty:
            raise DeadlineExceeded(
                "The text could not be turned into tokens in time, or tokens into text. Try again later."
            ) from None
        finally:
            with self._lock:
                question.abandoned = True
                self._waiting.pop(id, None)
        if isinstance(answer, BackendError):
            raise answer
        if isinstance(answer, Rejected):
            failed = answer.kind == "engine"
            raise EngineError(answer.message) if failed else PromptError(answer.message, answer.param)
        return answer

    def _ask_next(self) -> None:
        """Send the next question, if there is one and the process has none."""
        with self._lock:
            if self._state != "ready" or self._asked is not None or not self._waiting:
                return
            waiting = self._waiting.values()
            question = next((question for question in waiting if question.first), None) or next(iter(waiting))
            del self._waiting[question.id]
            self._asked = question
            self.process.expect_within(question.patience)
        if not self.process.send_packed(question.data):
            # The process has ended, but not over this question. `on_down` will be called.
            with self._lock:
                if self._asked is question:
                    self._asked = None
                    self._waiting = {question.id: question, **self._waiting}
                    self.process.expect_within(None)

    # --- calls from the process's supervisor ---

    def on_ready(self, info: ModelInfo) -> None:
        """The tokenizer process takes questions."""
        with self._lock:
            self._model = info
            again = self._state in ("restarting", "failed")
            if self._state != "stopped":
                self._state = "ready"
        if again:
            logger.info("The tokenizer is ready again.")
        self._on_ready(info)
        self._ask_next()

    def on_frame(self, frame: TokenizerAnswer) -> None:
        """The tokenizer process has answered."""
        with self._lock:
            question = self._asked
            if question is None or question.id != frame.id:
                return
            self._asked = None
            self.process.expect_within(None)
        self._ask_next()
        question.answer.put(frame)

    def on_down(self, cause: Cause, message: str) -> None:
        """The process is gone. The next one gets the questions that wait, and last the one that this process had."""
        if cause in ("stopped", "load_failed"):
            self._end("stopped" if cause == "stopped" else "failed", self._refusal)
            return
        with self._lock:
            if self._state != "stopped":
                self._state = "restarting"
            question, self._asked = self._asked, None
            if question is None or question.abandoned:
                return
            question.deaths += 1
            if question.deaths < MOST_DEATHS:
                self._waiting[question.id] = question
                return
        question.answer.put(
            EngineError(
                "The server failed twice to turn this text into tokens, or these tokens into text. Change it: the same "
                "again will probably fail again."
            )
        )

    def _end(self, state: Literal["failed", "stopped"], error: Callable[[], BackendError]) -> None:
        """Fail the questions that wait: there is no process to ask, and none is about to come."""
        with self._lock:
            if self._state != "stopped":
                self._state = state
            lost = [*self._waiting.values(), *filter(None, [self._asked])]
            self._waiting.clear()
            self._asked = None
        for question in lost:
            question.answer.put(error())
