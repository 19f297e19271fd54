"""The engine on the real chatglm_cpp: the cache must not be visible in any answer."""

from __future__ import annotations

import functools
import gc
import io
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glm_api.pipeline.conversation import Conversation, Message
from glm_api.pipeline.frames import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Frame,
    Generate,
    GenerationEvent,
    PrefillMode,
    Started,
    Text,
)
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker import coalescing
from glm_api.pipeline.worker.chatglm_cpp import bridge, evaluation
from glm_api.pipeline.worker.chatglm_cpp.answering import Answerer
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C
from glm_api.pipeline.worker.chatglm_cpp.evaluation import ChatglmPipeline, Evaluator
from glm_api.pipeline.worker.chatglm_cpp.images import decode_image
from glm_api.pipeline.worker.chatglm_cpp.slots import SlotPool
from glm_api.pipeline.worker.chatglm_cpp.threads import ThreadChooser
from glm_api.pipeline.worker.connection import ParentGone
from glm_api.pipeline.worker.prefix import common_prefix
from tests.support.model_files.fixtures import OpenModel

GREEDY = Sampling(temperature=0.0)


class Recorder:
    """A connection that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Event] = []

    def send(self, frame: Frame) -> None:
        assert isinstance(frame, GenerationEvent)
        self.sent.append(frame.event)


class CountingPipeline:
    """Passes evaluations on to ``pipeline``, and calls ``after`` when it has done ``count`` of them.

    ``layouts`` counts how often ggml has laid out memory for them.
    """

    def __init__(self, pipeline: _C.Pipeline) -> None:
        self._pipeline = pipeline
        self.model = self
        self.count: int | None = None
        self.after: Callable[[], None] = lambda: None
        self.layouts = 0

    def generate_next_token(self, *arguments: object) -> int:
        before = bridge.reservations()
        try:
            token: int = self._pipeline.model.generate_next_token(*arguments)
        finally:
            self.layouts += bridge.reservations() - before
        if self.count is not None:
            self.count -= 1
            if self.count == 0:
                self.after()
        return token


@functools.cache
def pipelines_of(model: OpenModel, count: int) -> list[_C.Pipeline]:
    """``count`` pipelines over the model's file, opened as the engine opens its slots."""
    return [_C.Pipeline(str(model.path), -1) for _ in range(count)]


@pytest.fixture(autouse=True, scope="module")
def close_pipelines() -> Iterator[None]:
    """Close the models: ggml has room for some, which tests of other modules need."""
    yield
    pipelines_of.cache_clear()
    gc.collect()


class Bench:
    """An answerer over an open model, and the answers of chatglm_cpp's own loop to compare with."""

    def __init__(self, model: OpenModel, mode: PrefillMode, slots: int = 2, longest_batch: int = 10_000) -> None:
        self.model = model
        self.connection = Recorder()
        # Reused, since ggml has room for about twenty open models in a process.
        *used, self.reference = pipelines_of(model, slots + 1)
        self.pipelines = [CountingPipeline(pipeline) for pipeline in used]
        spare = iter(self.pipelines[1:])
        self.evaluator = Evaluator(
            mode,
            longest_batch,
            1,
            self.reference.model.config.max_length,
            whole_prompts=not model.format.reuses_prefix,
        )
        pool: SlotPool[ChatglmPipeline] = SlotPool(slots, lambda: next(spare), self.pipelines[0])
        self.size = self.reference.model.config.vocab_size
        tokenizer = model.tokenizer
        compile_grammar = tokenizer.constraints.compile
        self.answerer = Answerer(
            self.connection, model.format, pool, self.evaluator, tokenizer, self.size, compile_grammar
        )
        self.number = 0

    def run(
        self,
        prompt: list[int],
        limit: int,
        cancel_after: int | None = None,
        output: OutputSpec | None = None,
        image: bytes | None = None,
        sampling: Sampling = GREEDY,
        count: int = 1,
        fed: list[int] | None = None,
    ) -> list[Event]:
        """Answer ``prompt``, ``count`` times; the client leaves before the evaluation number ``cancel_after``."""
        self.number += 1
        self.connection.sent = []
        self.answerer.prepare()
        if cancel_after == 1:
            self.answerer.cancel()
        for pipeline in self.pipelines:
            pipeline.count = None if cancel_after is None else cancel_after - 1
            pipeline.after = self.answerer.cancel
        spec = output or OutputSpec(mode="text")
        size = self._size(prompt, image)
        self.answerer.answer(
            Generate(
                self.number,
                [prompt] * count,
                [size] * count,
                [limit] * count,
                sampling,
                (),
                spec,
                image,
                False,
                fed=fed or [],
            )
        )
        bridge.abort(False)
        return self.connection.sent

    def _size(self, prompt: list[int], image: bytes | None) -> int:
        size: int = self.reference.model.count_tokens(prompt, None if image is None else decode_image(image))
        return size

    def expected(self, prompt: list[int], limit: int, image: bytes | None = None) -> list[int]:
        """chatglm_cpp's greedy ids for ``prompt``, evaluated in one call, without the id that ends them."""
        shown = None if image is None else decode_image(image)
        ids = list(prompt)
        config = _C.GenerationConfig(do_sample=False)
        past = 0
        while len(ids) < len(prompt) + limit:
            token = self.reference.model.generate_next_token(ids, shown, config, past, len(prompt))
            if token in self.model.tokenizer.end_ids:
                break
            past = self.reference.model.count_tokens(ids, shown)
            ids.append(token)
        return ids[len(prompt) :]


def ids_of(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, Text) for token in event.ids]


# A dialogue is a walk in a tree of prompts: each step takes some of an earlier prompt and its answer, and says more.
steps = st.lists(
    st.tuples(
        st.integers(0, 5),  # which earlier prompt
        st.integers(0, 60),  # how much of it
        st.lists(st.integers(300, 2000), min_size=1, max_size=12),  # what follows
        st.integers(1, 10),  # how many tokens to answer with
        st.one_of(st.none(), st.none(), st.integers(1, 12)),  # after how many looks the client leaves
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(steps, st.sampled_from(["step", "batch", "auto"]), st.sampled_from([3, 10_000]))
def test_no_answer_depends_on_the_cache(
    open_demo: OpenModel,
    walk: list[tuple[int, int, list[int], int, int | None]],
    mode: PrefillMode,
    longest_batch: int,
) -> None:
    bench = Bench(open_demo, mode, longest_batch=longest_batch)
    seen: list[list[int]] = [list(open_demo.tokenizer.prefix)]
    for which, share, more, limit, cancel_after in walk:
        base = seen[which % len(seen)]
        prompt = [*open_demo.tokenizer.prefix, *base[2 : 2 + share], *more]
        events = bench.run(prompt, limit, cancel_after)
        expected = bench.expected(prompt, limit)
        last = events[-1]
        assert isinstance(last, Finished)
        got = ids_of(events)
        if last.reason == "cancelled":
            expected = expected[: len(got)]
        if got != expected:
            same = common_prefix(got, expected)
            assert is_near_tie(open_demo, [*prompt, *got[:same]])
        seen.append([*prompt, *got])


def is_near_tie(model: OpenModel, prompt: list[int]) -> bool:
    """Whether two ids are about as likely behind ``prompt``, so that rounding may choose either.

    One call for many tokens and one call a token round differently, by up to 0.2 in the logits of the demo model.
    """
    events = Bench(model, "step", slots=1).run(prompt, 1, sampling=Sampling(temperature=0.0, top_logprobs=2))
    [entry] = [entry for event in events if isinstance(event, Text) for entry in event.logprobs]
    return entry.top[0][2] - entry.top[1][2] < 0.4


def test_the_second_turn_evaluates_only_new_tokens(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, "auto")
    prompt = [*open_demo.tokenizer.prefix, *range(400, 440)]
    first = bench.run(prompt, 8)
    second = bench.run([*prompt, *ids_of(first), 500, 501], 2)
    started = second[0]
    assert isinstance(started, Started)
    # The last token of the first answer was chosen, but never evaluated.
    assert started.cached_tokens == len(prompt) + 7


@pytest.mark.parametrize("mode", ["step", "batch"])
def test_ggml_does_not_lay_out_memory_for_each_token(open_demo: OpenModel, mode: PrefillMode) -> None:
    bench = Bench(open_demo, mode)
    bench.run([5, 9, 14, 3], 50, sampling=Sampling(temperature=0, ignore_eos=True))
    # One for the prompt that is evaluated in one call, and one for all tokens that follow.
    assert sum(pipeline.layouts for pipeline in bench.pipelines) <= 2


@pytest.mark.parametrize("mode", ["step", "batch"])
def test_an_evaluation_that_takes_too_long_is_done_again_with_fewer_threads(
    open_demo: OpenModel, mode: PrefillMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "PATIENCE", 0.0)
    bench = Bench(open_demo, mode)
    chooser = ThreadChooser(2)
    chooser.longest = 1e-9
    setattr(bench.evaluator, f"{mode}_threads", chooser)
    prompt = [300 + index for index in range(100)]
    assert ids_of(bench.run(prompt, 5)) == bench.expected(prompt, 5)
    assert chooser.count == 1


def test_the_number_of_threads_is_measured_before_the_first_request(
    open_demo: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MEASURING", 60.0)
    bench = Bench(open_demo, "auto")
    chooser = bench.evaluator.step_threads = ThreadChooser(2)
    bench.answerer.warm_up()
    assert chooser.settled
    assert bench.evaluator.batch_threads.longest == chooser.expected
    prompt = [5, 9, 14, 3]
    assert ids_of(bench.run(prompt, 5)) == bench.expected(prompt, 5)


def test_a_request_does_not_wait_until_the_measurement_is_over(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, "auto")
    chooser = bench.evaluator.step_threads = ThreadChooser(2)
    bench.answerer.prepare()
    bench.answerer.warm_up()
    assert not chooser.settled


@pytest.mark.parametrize("mode", ["step", "batch", "auto"])
def test_an_answer_with_a_seed_does_not_depend_on_the_cache(open_demo: OpenModel, mode: PrefillMode) -> None:
    bench = Bench(open_demo, mode)
    prompt = [300 + index for index in range(40)]

    def answer(prompt: list[int], seed: int) -> list[int]:
        # At such a temperature many ids are about as likely, so a small difference changes what is chosen.
        return ids_of(bench.run(prompt, 100, sampling=Sampling(temperature=2.0, top_p=1.0, seed=seed, ignore_eos=True)))

    for seed in range(8):
        # What others have left, evaluated in one call if that is the mode.
        bench.run([300 + seed] * 20, 3)
        bench.run(prompt[:-1], 3)
        first = answer(prompt, seed)
        assert answer(prompt, seed) == first
        # The second turn of a chat, with what the first one has left, and without.
        turn = [*prompt, *first, 50, 51, 52]
        second = answer(turn, seed)
        for other in range(3):
            bench.run([400 + other] * 20, 3)
        # By now it is known which way is quicker.
        bench.evaluator.rates.note_step(10)
        bench.evaluator.rates.note_batch(1, 1)
        assert answer(turn, seed) == second
        assert answer(prompt, seed) == first


@pytest.mark.parametrize("family", ["chatglm", "chatglm3"])
@pytest.mark.parametrize(
    "sampling",
    [GREEDY, Sampling(temperature=1.0, seed=3, frequency_penalty=0.5, repetition_penalty=1.2, min_tokens=20)],
    ids=["greedy", "sampled"],
)
def test_an_answer_goes_on_behind_what_it_has_begun_with(
    open_model: Callable[[str], OpenModel], family: str, sampling: Sampling
) -> None:
    bench = Bench(open_model(family), "step")
    prompt = [10 + index for index in range(30)]
    events = bench.run(prompt, 40, sampling=sampling)
    texts = [event for event in events if isinstance(event, Text)]
    fed = [token for event in texts for token in event.fed]
    whole = "".join(event.text for event in texts)
    for count in (1, 7, len(fed) - 1):
        begun = reader_text(bench, fed[:count])
        bench.run([100 + count] * 20, 2)
        rest = bench.run(prompt, 40, sampling=sampling, fed=fed[:count])
        assert begun + "".join(event.text for event in rest if isinstance(event, Text)) == whole
        assert finished(rest).completion_tokens == finished(events).completion_tokens


def reader_text(bench: Bench, ids: list[int]) -> str:
    """The text that the answer ``ids`` completes."""
    reader = bench.model.format.reader(OutputSpec(mode="text"), ())
    return "".join(event.text for token in ids for event in reader.feed(token) if isinstance(event, Text))


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def test_the_cache_of_a_cancelled_prefill_is_reused(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, "step")
    prompt = [*open_demo.tokenizer.prefix, *range(400, 440)]
    cancelled = bench.run(prompt, 4, cancel_after=20)[-1]
    assert isinstance(cancelled, Finished)
    assert (cancelled.reason, cancelled.slot_tokens) == ("cancelled", 19)
    started = bench.run(prompt, 4)[0]
    assert isinstance(started, Started)
    assert started.cached_tokens == 19


def test_chatglm_6b_evaluates_each_prompt_anew(open_model: Callable[[str], OpenModel]) -> None:
    model = open_model("chatglm")
    bench = Bench(model, "step")
    prompt = model.format.render_text("hello world")
    for _ in range(2):
        events = bench.run(prompt, 5)
        started = events[0]
        assert isinstance(started, Started)
        assert started.cached_tokens == 0
        assert ids_of(events) == bench.expected(prompt, 5)


class BrokenReader:
    """Returns one text, and then raises ``error``."""

    reason: FinishReason | None = None
    stop_string = ""
    in_call = False

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._fed = 0

    def feed(self, token: int) -> list[Event]:
        self._fed += 1
        if self._fed > 1:
            raise self._error
        return [Text("mine", [token])]

    def finish(self) -> list[Event]:
        return []


class BrokenFormat:
    """A format whose reader fails."""

    reuses_prefix = True
    image_ids: tuple[int, ...] = ()

    def __init__(self, error: Exception) -> None:
        self._error = error

    def reader(self, output: OutputSpec, stop: list[str]) -> BrokenReader:
        return BrokenReader(self._error)


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (LookupError("what was sent"), r"LookupError at \S+\.py:\d+ in .+"),
        (UnicodeEncodeError("utf-8", "what was sent", 0, 1, "x"), r"UnicodeEncodeError at \S+\.py:\d+ in .+"),
        (RecursionError("what was sent"), r"RecursionError at \S+\.py:\d+ in .+"),
        (RuntimeError("check failed\n(chatglm.cpp:1)"), r"RuntimeError \(check failed \(chatglm\.cpp:1\)\) at .+"),
    ],
)
def test_an_error_costs_only_the_request_that_raised_it(
    error: Exception,
    logged: str,
    open_demo: OpenModel,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # The text that the writer holds when the request fails must not become the next one's.
    monkeypatch.setattr(coalescing, "HOLD_SECONDS", float("inf"))
    bench = Bench(open_demo, "auto")
    prompt = [*open_demo.tokenizer.prefix, *range(400, 410)]
    with monkeypatch.context() as patched:
        patched.setattr(bench.answerer, "_format", BrokenFormat(error))
        started, text, failed = bench.run(prompt, 8)
    assert isinstance(started, Started)
    assert isinstance(text, Text)
    assert text.text == "mine"
    assert isinstance(failed, Failed)
    assert failed.kind == "engine"
    assert "sent" not in failed.message
    assert re.fullmatch(rf"A request failed: {logged}\n", capfd.readouterr().out)
    assert ids_of(bench.run(prompt, 8)) == bench.expected(prompt, 8)


def test_the_answer_stops_when_the_web_process_is_gone(open_demo: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(frame: Frame) -> None:
        raise ParentGone

    bench = Bench(open_demo, "auto")
    monkeypatch.setattr(bench.connection, "send", send)
    with pytest.raises(ParentGone):
        bench.run([*open_demo.tokenizer.prefix, *range(400, 410)], 8)


def picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    return file.getvalue()


def with_image(model: OpenModel, before: str = "", after: str = "") -> list[int]:
    """The prompt of a conversation that shows an image in its last message."""
    shown = Message("user", after or "What is this?", image=b"")
    return model.format.render(Conversation((Message("system", before), shown) if before else (shown,))).ids


@pytest.mark.parametrize("mode", ["step", "batch", "auto"])
@pytest.mark.parametrize("longest_batch", [40, 10_000])
def test_the_text_after_an_image_may_be_evaluated_with_it_or_step_by_step(
    mode: PrefillMode, longest_batch: int, open_model: Callable[..., OpenModel]
) -> None:
    model = open_model("glm4v", image_size=32)
    bench = Bench(model, mode, longest_batch=longest_batch)
    prompt = with_image(model, after="Tell me what you see, hello world. " * 4)
    expected = bench.expected(prompt, 12, picture())
    assert len(set(expected)) > 1
    for _ in range(2):
        events = bench.run(prompt, 12, image=picture())
        assert ids_of(events) == expected
        started = events[0]
        assert isinstance(started, Started)
        assert (started.prompt_tokens, started.cached_tokens) == (len(prompt) + 15, 0)
    # No other prompt continues from the image's cache.
    assert bench.expected(with_image(model)[:3], 5) == ids_of(bench.run(with_image(model)[:3], 5))


def test_an_image_after_more_text_than_memory_admits_in_one_call_is_refused(
    open_model: Callable[..., OpenModel],
) -> None:
    model = open_model("glm4v", image_size=32)
    bench = Bench(model, "auto", longest_batch=40)
    (refused,) = bench.run(with_image(model, before="hello world " * 20), 3, image=picture())
    assert isinstance(refused, Failed)
    assert refused.kind == "prompt"
    assert "Shorten the text before the image" in refused.message
    assert isinstance(bench.run(with_image(model), 3, image=picture())[-1], Finished)


def test_ids_that_open_a_missing_image_are_refused(open_model: Callable[..., OpenModel]) -> None:
    model = open_model("glm4v", image_size=32)
    bench = Bench(model, "batch")
    prompt = [*model.tokenizer.prefix, 5, model.format.image_ids[0], 6, 7]
    (refused,) = bench.run(prompt, 3)
    assert isinstance(refused, Failed)
    assert (refused.kind, refused.param) == ("prompt", "prompt")


def test_a_model_that_scores_no_prompt_names_the_parameter(open_model: Callable[..., OpenModel]) -> None:
    bench = Bench(open_model("chatglm"), "auto")
    sampling = Sampling(top_logprobs=0, prompt_logprobs=True)
    (refused,) = bench.run([*range(5, 10), *bench.model.tokenizer.prefix], 0, sampling=sampling)
    assert isinstance(refused, Failed)
    assert (refused.kind, refused.param) == ("prompt", "logprobs")
