"""Answer prompts of token ids: llama.cpp chooses the ids, our formats read them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from glm_api.backend.errors import PromptError
from glm_api.pipeline.frames import Event, Finished, FinishReason, Generate, Progress, Started
from glm_api.pipeline.worker.bounded_reader import BoundedReader
from glm_api.pipeline.worker.llama_cpp.chunks import Chunk, Logprob, PromptProgress
from glm_api.pipeline.worker.llama_cpp.client import LlamaError, Stopped
from glm_api.pipeline.worker.llama_cpp.grammar import for_llama_cpp
from glm_api.pipeline.worker.llama_cpp.requests import completion_body
from glm_api.pipeline.worker.llama_cpp.slots import Slot
from glm_api.pipeline.worker.llama_cpp.streamed import GrammarDropped, StreamedAnswer
from glm_api.pipeline.worker.logprobs import LogprobQueue, named

if TYPE_CHECKING:
    from glm_api.pipeline.worker.constraints import Constraint


class CannotGoOn(Exception):
    """A process that has died began the answer, and llama.cpp begins a grammar only with an answer."""


class _Timings(msgspec.Struct):
    cache_n: int = 0


class _Chunk(Chunk):
    """An event of ``/completion``, or all of its answer. The last event has ``stop``."""

    tokens: list[int] = msgspec.field(default_factory=list)
    content: str = ""
    tokens_predicted: int = 0
    stop: bool = False
    timings: _Timings | None = None
    completion_probabilities: list[Logprob] = msgspec.field(default_factory=list)


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


@dataclass(slots=True)
class _Task:
    """One prompt on its slot. ``ids`` are what has been generated. Times are those of ``perf_counter``."""

    request: Generate
    index: int
    prompt: list[int]
    size: int
    limit: int
    slot: Slot | None
    reader: BoundedReader
    grammar: str | None
    constraint: Constraint | None
    end_ids: frozenset[int]
    logprobs: LogprobQueue = field(default_factory=LogprobQueue)
    ids: list[int] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)
    prefilled: float | None = None
    started: bool = False
    untold: int = 0
    """Ids at the end that llama.cpp does not tell: those of a character that the end has cut."""

    @property
    def may_end(self) -> bool:
        """Whether an id may end the answer."""
        sampling = self.request.sampling
        return not sampling.ignore_eos and len(self.ids) >= sampling.min_tokens

    @property
    def forbidden(self) -> frozenset[int]:
        """The ids that must not come next, because they would end the answer."""
        return frozenset() if self.may_end else self.end_ids.union(self.request.sampling.stop_token_ids)

    @property
    def next_limit(self) -> int:
        """How many ids may be generated until `may_end` changes, or the answer is over."""
        left = self.limit - len(self.ids)
        missing = self.request.sampling.min_tokens - len(self.ids)
        return min(left, missing) if missing > 0 and not self.request.sampling.ignore_eos else left


class Answer(StreamedAnswer):
    """The answers to one request, chosen and read id by id."""

    def run(self) -> None:
        """Answer all prompts. Raises `PromptError`, `LlamaError`, `GrammarDropped`, `CannotGoOn` and `ParentGone`."""
        request = self._request
        if request.sampling.prompt_logprobs:
            raise PromptError("llama.cpp gives no log-probabilities for the tokens of a prompt.", "logprobs")
        if request.fed and request.output.grammar is not None:
            raise CannotGoOn
        if request.sampling.min_tokens and request.output.grammar is not None:
            # The answer would be asked for in two parts, and the second would begin the grammar again.
            reason = "llama.cpp has no fewest tokens for an answer that is structured or may call tools."
            raise PromptError(reason, "min_tokens")
        prompts = zip(request.prompts, request.sizes, request.limits, strict=True)
        for index, (prompt, size, limit) in enumerate(prompts):
            if index < request.answered:
                continue
            fed = request.fed if index == request.answered else []
            if self._answer(index, prompt, fed, size, limit) == "cancelled":
                return

    def _answer(self, index: int, prompt: list[int], fed: list[int], size: int, limit: int) -> FinishReason:
        request, model = self._request, self._model
        self._writer.begin()
        grammar = None if request.output.grammar is None else for_llama_cpp(request.output.grammar)
        reader = BoundedReader(
            model.format.reader(request.output, request.stop),
            limit,
            request.sampling.stop_token_ids,
            min(model.tokenizer.end_ids),
        )
        constraint = None if grammar is None else model.tokenizer.constraints.compile(grammar)
        # Last of what may fail: what follows gives the slot back.
        slot = model.pool.take([*prompt, *fed])
        task = _Task(
            request, index, prompt, size, limit, slot, reader, grammar, constraint, frozenset(model.tokenizer.end_ids)
        )
        reason: FinishReason = "length"
        try:
            for token in fed:
                # What it completes is told already.
                reader.feed(token)
                task.ids.append(token)
            if limit == 0 or self._nothing_may_follow(task):
                self._start(task, 0)
            elif self._generate(task):
                reason = reader.reason or "length"
            else:
                reason = "cancelled"
        finally:
            if slot is not None:
                # The last id is not in the cache: nothing has been evaluated behind it.
                model.pool.give_back(slot, [*prompt, *task.ids[:-1]])
        now = time.perf_counter()
        prefilled = task.prefilled or now
        self._writer.flush()
        self._writer.send(
            Finished(
                reason,
                reader.tokens + task.untold,
                (prefilled - task.begun) * 1000,
                (now - prefilled) * 1000,
                0 if slot is None else slot.index,
                len(prompt) + max(0, len(task.ids) - 1),
                model.threads,
                model.threads,
                stop_string=reader.stop_string,
            )
        )
        return reason

    def _generate(self, task: _Task) -> bool:
        """Generate until the answer is over; return False if it was cancelled."""
        over = False
        while not over and task.next_limit > 0:
            before, asked = len(task.ids), task.next_limit
            try:
                for token, logprob in self._choose(task):
                    over = self._take(task, token, logprob)
                    if over:
                        break
            except Stopped:
                return False
            # With fewer ids the answer has ended, or the context is full.
            over = over or len(task.ids) - before < asked
        self._put(task, task.reader.finish())
        if self._request.output.mode == "text":
            self._writer.put(task.logprobs.rest())
        return True

    def _choose(self, task: _Task) -> Iterator[tuple[int, Logprob | None]]:
        """Let llama.cpp generate, and yield each id. Raises `Stopped`."""
        model, request = self._model, self._request
        body = completion_body(
            request.sampling,
            [*task.prompt, *task.ids],
            limit=task.next_limit,
            index=task.index,
            slot=None if task.slot is None else task.slot.index,
            size=model.tokenizer.size,
            context=model.context,
            whole=task.next_limit == task.limit - len(task.ids),
            grammar=task.grammar,
            forbidden=task.forbidden,
        )
        predicted = 0
        with self._open(body) as stream:
            for data in stream.events("/completion"):
                chunk = _decode_chunk(data)
                chunk.check()
                if chunk.prompt_progress is not None:
                    self._report(task, chunk.prompt_progress)
                elif chunk.stop:
                    if not task.started:
                        self._start(task, 0 if chunk.timings is None else chunk.timings.cache_n)
                    task.untold = max(0, chunk.tokens_predicted - predicted - len(chunk.tokens))
                    yield from _paired(chunk)
                    return
                else:
                    lost = chunk.tokens_predicted - predicted - len(chunk.tokens)
                    predicted = chunk.tokens_predicted
                    if lost > 0:
                        yield from ((token, None) for token in self._find_lost(chunk, lost))
                    yield from _paired(chunk)
        raise self._without_end()

    def _find_lost(self, chunk: _Chunk, count: int) -> list[int]:
        """Return the ids in front of those of ``chunk``, whose text it has. Raises `LlamaError`."""
        model = self._model
        text = chunk.content.encode()
        text = text[: len(text) - len(model.tokenizer.decode(chunk.tokens))]
        found = model.lost_ids.find(text, count)
        if not found:
            raise LlamaError(500, "", "some ids of the answer are missing")
        return found

    def _take(self, task: _Task, token: int, logprob: Logprob | None) -> bool:
        """Take the next id of the answer; return whether the answer is over.

        Raises `GrammarDropped`, and `GrammarError` for a grammar that is too complex.
        """
        if task.prefilled is None:
            task.prefilled = time.perf_counter()
        if task.constraint is not None:
            try:
                task.constraint.consume(token)
            except ValueError:
                raise GrammarDropped from None
        if logprob is not None:
            top = logprob.top_logprobs[: task.request.sampling.top_logprobs or 0]
            found = [(entry.id, entry.value) for entry in top]
            task.logprobs.put(named(self._model.tokenizer, token, logprob.value, found))
        elif task.request.sampling.top_logprobs is not None:
            task.logprobs.skip(token)
        task.ids.append(token)
        events = task.reader.feed(token)
        self._writer.feed(token)
        if task.reader.reason is None and task.constraint is not None and task.constraint.over:
            events += task.reader.end()
        self._put(task, events)
        return task.reader.reason is not None or self._nothing_may_follow(task)

    def _nothing_may_follow(self, task: _Task) -> bool:
        """Return whether the grammar admits none of the allowed ids. llama.cpp would choose any other one then."""
        if task.constraint is None or task.request.sampling.allowed_token_ids is None:
            return False
        forbidden = task.constraint.forbidden()
        allowed = set(task.request.sampling.allowed_token_ids).difference(task.forbidden)
        if any(not forbidden[token] for token in allowed if token < len(forbidden)):
            return False
        print("An answer ended early: no token may follow.", flush=True)
        return True

    def _put(self, task: _Task, events: list[Event]) -> None:
        self._writer.put(task.logprobs.add_to(events))

    def _report(self, task: _Task, progress: PromptProgress) -> None:
        if not task.started:
            self._start(task, progress.cache)
        elif not task.ids:
            self._writer.send(Progress(progress.processed, progress.total, progress.cache, progress.time_ms))

    def _start(self, task: _Task, cached: int) -> None:
        task.started = True
        self._writer.send(Started(task.size, cached, None if task.slot is None else task.slot.index))


def _paired(chunk: _Chunk) -> Iterator[tuple[int, Logprob | None]]:
    """Yield the ids of ``chunk``, each with its log-probability.

    llama.cpp has none for an id at whose end the text is inside a character.
    """
    left = deque(chunk.completion_probabilities)
    for token in chunk.tokens:
        yield token, left.popleft() if left and left[0].id == token else None
