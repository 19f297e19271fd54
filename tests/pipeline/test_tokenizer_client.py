"""Which questions the tokenizer process is asked, and when. A process of the test's own stands in for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

import pytest

from glm_api.backend.base import Cause
from glm_api.backend.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    ModelLoading,
    PromptError,
    ShuttingDown,
)
from glm_api.pipeline import tokenizer_client
from glm_api.pipeline.child_process import LoadFailures
from glm_api.pipeline.conversation import Conversation, Message
from glm_api.pipeline.frames import (
    HEADER,
    TO_TOKENIZER,
    Decoded,
    DecodeIds,
    Encoded,
    EncodeText,
    LoadModel,
    Rejected,
    TokenizerQuestion,
    TooLong,
    unpack,
)
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.tokenizer_client import SHORT_BYTES, TokenizerClient
from tests.support.fake_pipeline import MODEL
from tests.support.processes import PATIENCE, until

INFO = replace(MODEL, context_length=100_000, characters_per_token=16)


class Process:
    """Takes what is sent and does nothing; the test answers."""

    def __init__(self, *_: object) -> None:
        self.sent: list[TokenizerQuestion] = []
        self.deadlines: list[float | None] = []
        self.alive = True

    def send_packed(self, data: bytes) -> bool:
        if self.alive:
            frame = unpack(data[HEADER.size :], TO_TOKENIZER)
            assert isinstance(frame, TokenizerQuestion)
            self.sent.append(frame)
        return self.alive

    def expect_within(self, seconds: float | None) -> None:
        self.deadlines.append(seconds)

    def stop(self) -> None:
        self.alive = False


class Tokenizer:
    """A `TokenizerClient` and its process, with what may happen to both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor, timeout: float = PATIENCE) -> None:
        monkeypatch.setattr(tokenizer_client, "ChildProcess", Process)
        self.client = TokenizerClient(
            LoadModel("model", None, 1, "auto", 1), {}, lambda info: None, timeout, LoadFailures()
        )
        process: Any = self.client.process
        self.process: Process = process
        self._pool = pool

    def ask(self, text: str) -> Future[list[int]]:
        """Ask for the ids of ``text``; return when the question waits or has been sent."""
        asked = threading.Event()
        ask_next: Callable[[], None] = self.client._ask_next

        def seen() -> None:
            ask_next()
            asked.set()

        self.client._ask_next = seen  # type: ignore[method-assign]
        future = self._pool.submit(self.client.tokenize, text, False)
        assert asked.wait(PATIENCE)
        self.client._ask_next = ask_next  # type: ignore[method-assign]
        return future

    def asked(self) -> list[str]:
        """Return the texts whose ids the processes were asked for, each by its first character."""
        return [frame.text[0] for frame in self.process.sent if isinstance(frame, EncodeText)]

    def answer(self, ids: list[int]) -> None:
        self.client.on_frame(Encoded(self.process.sent[-1].id, ids, OutputSpec()))

    def die(self, cause: Cause = "died") -> None:
        self.client.on_down(cause, "It ended.")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor) -> Iterator[Tokenizer]:
    """A `Tokenizer` that is ready."""
    tokenizer = Tokenizer(monkeypatch, pool)
    tokenizer.client.on_ready(INFO)
    yield tokenizer
    tokenizer.client.stop()


def test_one_question_is_asked_at_a_time_and_in_order(tokenizer: Tokenizer) -> None:
    answers = [tokenizer.ask(text) for text in "abc"]
    for number, future in enumerate(answers):
        assert tokenizer.asked() == list("abc"[: number + 1])
        tokenizer.answer([number])
        assert future.result(PATIENCE) == [number]


def test_a_short_question_does_not_wait_for_long_ones(tokenizer: Tokenizer) -> None:
    for text in ("a" * SHORT_BYTES, "b" * SHORT_BYTES, "c"):
        tokenizer.ask(text)
    for _ in range(3):
        tokenizer.answer([])
    assert tokenizer.asked() == ["a", "c", "b"]


def test_the_deadline_is_that_of_the_current_question(tokenizer: Tokenizer) -> None:
    tokenizer.ask("a")
    set_for_the_first = list(tokenizer.process.deadlines)
    assert set_for_the_first == [pytest.approx(tokenizer_client.HUNG_AFTER, abs=0.1)]
    tokenizer.ask("b" * 2**20)
    tokenizer.ask("c")
    # The questions that come meanwhile do not move it.
    assert tokenizer.process.deadlines == set_for_the_first
    tokenizer.answer([])
    tokenizer.answer([])
    longest = tokenizer_client.HUNG_AFTER + tokenizer_client.HUNG_AFTER_PER_MEGABYTE
    assert tokenizer.process.deadlines[-1] == pytest.approx(longest, abs=0.1)
    tokenizer.answer([])
    assert tokenizer.process.deadlines[-1] is None


@pytest.mark.parametrize("cause", ["died", "hung"])
def test_the_next_process_is_asked_the_questions_of_the_one_that_ended(cause: Cause, tokenizer: Tokenizer) -> None:
    answers = {text: tokenizer.ask(text) for text in "abc"}
    tokenizer.die(cause)
    assert not tokenizer.client.ready
    answers["d"] = tokenizer.ask("d")
    assert tokenizer.asked() == ["a"]
    tokenizer.client.on_ready(INFO)
    # The question that may have ended the process comes after those that have not.
    for number in range(4):
        tokenizer.answer([number])
    assert tokenizer.asked() == list("abcda")
    assert {text: future.result(PATIENCE) for text, future in answers.items()} == {
        "b": [0],
        "c": [1],
        "d": [2],
        "a": [3],
    }


@pytest.mark.parametrize(("kind", "error"), [("prompt", PromptError), ("engine", EngineError)])
def test_who_can_mend_it_decides_the_error(
    tokenizer: Tokenizer, kind: Literal["prompt", "engine"], error: type[Exception]
) -> None:
    answer = tokenizer.ask("a")
    tokenizer.client.on_frame(Rejected(tokenizer.process.sent[-1].id, kind, "Refused.", "content"))
    with pytest.raises(error, match="Refused"):
        answer.result(PATIENCE)


def test_only_the_question_at_two_deaths_fails(tokenizer: Tokenizer) -> None:
    poison = tokenizer.ask("x")
    tokenizer.die()
    tokenizer.client.on_ready(INFO)
    innocent = tokenizer.ask("a")
    tokenizer.die()
    with pytest.raises(EngineError, match="twice"):
        poison.result(PATIENCE)
    tokenizer.client.on_ready(INFO)
    tokenizer.answer([1])
    assert innocent.result(PATIENCE) == [1]
    assert tokenizer.asked() == list("xxa")


def test_the_end_of_a_process_that_was_not_asked_is_not_counted(tokenizer: Tokenizer) -> None:
    tokenizer.process.alive = False
    answer = tokenizer.ask("a")
    for _ in range(2):
        tokenizer.die()
        tokenizer.client.on_ready(INFO)
    tokenizer.process.alive = True
    tokenizer.die()
    tokenizer.client.on_ready(INFO)
    tokenizer.answer([1])
    assert answer.result(PATIENCE) == [1]


def test_a_question_that_nobody_waits_for_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> None:
    tokenizer = Tokenizer(monkeypatch, pool, timeout=0.05)
    tokenizer.client.on_ready(INFO)
    asked, waiting = tokenizer.ask("a"), tokenizer.ask("b")
    for future in (asked, waiting):
        with pytest.raises(DeadlineExceeded):
            future.result(PATIENCE)
    # The answer to the first question comes all the same, and nobody waits for it.
    tokenizer.answer([1])
    assert tokenizer.asked() == ["a"]
    tokenizer.ask("c")
    assert tokenizer.asked() == ["a", "c"]


def test_before_the_first_load_questions_are_refused(monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor) -> None:
    tokenizer = Tokenizer(monkeypatch, pool)
    with pytest.raises(ModelLoading):
        tokenizer.client.tokenize("a", special=False)
    assert not tokenizer.asked()


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda tokenizer: tokenizer.client.stop(), ShuttingDown),
        (lambda tokenizer: tokenizer.die("load_failed"), ModelLoading),
    ],
)
@pytest.mark.parametrize("restarting", [False, True])
def test_waiting_questions_fail_when_no_process_will_come(
    restarting: bool, end: Callable[[Tokenizer], None], expected: type[Exception], tokenizer: Tokenizer
) -> None:
    answers = [tokenizer.ask("a"), tokenizer.ask("b")]
    if restarting:
        tokenizer.die()
    end(tokenizer)
    for future in answers:
        with pytest.raises(expected):
            future.result(PATIENCE)
    with pytest.raises(expected):
        tokenizer.client.tokenize("c", special=False)


def test_questions_are_answered_once_the_model_can_be_loaded(tokenizer: Tokenizer) -> None:
    tokenizer.die("load_failed")
    tokenizer.client.on_ready(INFO)
    answer = tokenizer.ask("a")
    tokenizer.answer([1])
    assert answer.result(PATIENCE) == [1]


class TestLength:
    """``INFO``'s tokens have at most 16 characters."""

    def test_a_prompt_that_cannot_fit_is_refused_without_a_question(self, tokenizer: Tokenizer) -> None:
        context = INFO.context_length
        for ask in (
            lambda: tokenizer.client.encode_text("a" * 16 * context),
            lambda: tokenizer.client.encode_chat(Conversation((Message("user", "a" * 8 * context),) * 2)),
        ):
            with pytest.raises(ContextLengthExceeded, match="at least 100000 tokens") as refused:
                ask()
            assert (refused.value.prompt_tokens, refused.value.context_length) == (context, context)
        assert not tokenizer.process.sent

    def test_a_prompt_that_may_fit_is_encoded(self, tokenizer: Tokenizer, pool: ThreadPoolExecutor) -> None:
        most = INFO.context_length - 1
        fits = pool.submit(tokenizer.client.encode_text, "a" * 16 * most)
        until(lambda: bool(tokenizer.process.sent))
        (frame,) = tokenizer.process.sent
        assert isinstance(frame, EncodeText)
        assert frame.most == most
        tokenizer.answer([1] * most)
        assert len(fits.result(PATIENCE)) == most

    @pytest.mark.parametrize(("at_least", "said"), [(True, "at least 123456 tokens"), (False, "in 123456 tokens")])
    def test_the_count_of_a_prompt_that_is_too_long_is_told(
        self, at_least: bool, said: str, tokenizer: Tokenizer, pool: ThreadPoolExecutor
    ) -> None:
        prompt = pool.submit(tokenizer.client.encode_text, "a")
        until(lambda: bool(tokenizer.process.sent))
        tokenizer.client.on_frame(TooLong(tokenizer.process.sent[-1].id, 123456, at_least))
        with pytest.raises(ContextLengthExceeded, match=said):
            prompt.result(PATIENCE)

    def test_a_text_that_is_not_a_prompt_is_bounded_too(self, tokenizer: Tokenizer) -> None:
        with pytest.raises(PromptError, match=r"at least 100001 tokens.* at most 100000 at a time") as refused:
            tokenizer.client.tokenize("a" * 1_600_001, special=False)
        assert refused.value.param == "content"
        for ask in (tokenizer.client.decode, tokenizer.client.pieces):
            with pytest.raises(PromptError, match="100001 token ids"):
                ask([1] * 100_001)
        assert not tokenizer.process.sent

    def test_a_long_text_whose_characters_may_take_no_token_is_encoded(self, tokenizer: Tokenizer) -> None:
        tokenizer.client.on_ready(replace(INFO, characters_per_token=0))
        tokenizer.ask("a" * 2_000_000)
        assert tokenizer.asked() == ["a"]


def test_all_pieces_are_asked_in_one_question(tokenizer: Tokenizer, pool: ThreadPoolExecutor) -> None:
    pieces = pool.submit(tokenizer.client.pieces, [5, 6, 5])
    until(lambda: bool(tokenizer.process.sent))
    assert tokenizer.process.sent == [DecodeIds(1, [5, 6, 5])]
    tokenizer.client.on_frame(Decoded(1, [b"x", b"y", b"x"]))
    assert pieces.result(PATIENCE) == [b"x", b"y", b"x"]
