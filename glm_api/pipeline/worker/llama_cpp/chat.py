"""Answer a conversation with llama.cpp's chat API: it writes the prompt, and reads thinking, text and calls."""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from glm_api.backend.errors import PromptError
from glm_api.pipeline.formats.text_filter import TextFilter
from glm_api.pipeline.frames import (
    Event,
    Finished,
    FinishReason,
    Progress,
    Reasoning,
    Started,
    Text,
    TokenLogprob,
    ToolArguments,
    ToolCallStarted,
)
from glm_api.pipeline.worker.images import open_image
from glm_api.pipeline.worker.llama_cpp.chunks import Chunk, Logprob, PromptProgress, TopLogprob
from glm_api.pipeline.worker.llama_cpp.client import LlamaError, Stopped
from glm_api.pipeline.worker.llama_cpp.requests import bias_body, sampling_body
from glm_api.pipeline.worker.llama_cpp.streamed import GrammarDropped, StreamedAnswer
from glm_api.pipeline.worker.llama_cpp.thinking import ThinkingSplitter

# What llama.cpp says of an answer's end, and what that is here.
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str = ""


class _Call(msgspec.Struct):
    index: int = 0
    function: _Function = msgspec.field(default_factory=_Function)


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] = []


class _Logprobs(msgspec.Struct):
    content: list[Logprob] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Timings(msgspec.Struct):
    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class _Chunk(Chunk):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    timings: _Timings | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


@dataclass(slots=True)
class _State:
    """One answer. ``told`` are the tokens of which the events so far tell."""

    text_filter: TextFilter
    splitter: ThinkingSplitter | None
    begun: float = field(default_factory=time.perf_counter)
    prefilled: float | None = None
    started: bool = False
    reason: FinishReason | None = None
    told: int = 0
    timings: _Timings = field(default_factory=_Timings)
    text: list[str] = field(default_factory=list)
    bare_call: int | None = None
    """The index of the latest call, as long as it has no arguments."""


class ChatAnswer(StreamedAnswer):
    """The answers to one request, in turn, which llama.cpp reads."""

    def run(self) -> None:
        """Answer all prompts. Raises `PromptError`, `LlamaError`, `GrammarDropped` and `ParentGone`."""
        request = self._request
        self._check()
        for index, (size, limit) in enumerate(zip(request.sizes, request.limits, strict=True)):
            if index >= request.answered and self._answer(index, size, limit) == "cancelled":
                return

    def _check(self) -> None:
        """Raise `PromptError` for what llama.cpp's chat API does not do."""
        sampling = self._request.sampling
        if sampling.top_logprobs is not None and self._asks_for("tools"):
            raise PromptError("This model tells no log-probabilities beside tools. Leave one out.", "logprobs")
        for name in ("min_tokens", "stop_token_ids"):
            if getattr(sampling, name):
                raise PromptError(f"{name} is not available with this model. Leave it out.", name)

    def _answer(self, index: int, size: int, limit: int) -> FinishReason:
        request = self._request
        splitter = ThinkingSplitter() if request.output.thinking else None
        state = _State(TextFilter(request.stop, strip=True, punctuation=False), splitter)
        self._writer.begin()
        reason: FinishReason
        try:
            self._receive(state, self._body(index, limit), size)
            reason = state.reason or "length"
            self._writer.put(self._end_call(state, cut=reason == "length"))
            if state.splitter is not None and (thought := state.splitter.flush()):
                self._writer.put([Reasoning(thought, self._count(state))])
            self._writer.put(self._texts(state, state.text_filter.flush()))
            if not self._fits(state, reason):
                if request.sampling.allowed_token_ids is None:
                    raise GrammarDropped
                # None of them fitted the grammar, so llama.cpp has chosen another.
                print("An answer ended early: no token may follow.", flush=True)
                reason = "length"
        except Stopped:
            reason = "cancelled"
        self._writer.flush()
        now = time.perf_counter()
        prefilled = state.prefilled or now
        threads = self._model.threads
        timings = state.timings
        self._writer.send(
            Finished(
                reason,
                timings.predicted_n,
                (prefilled - state.begun) * 1000,
                (now - prefilled) * 1000,
                0,
                timings.cache_n + timings.prompt_n + timings.predicted_n,
                threads,
                threads,
                stop_string=state.text_filter.stop_string,
            )
        )
        return reason

    def _body(self, index: int, limit: int) -> dict[str, Any]:
        request, sampling = self._request, self._request.sampling
        assert request.output.chat is not None
        body: dict[str, Any] = json_decode(request.output.chat)
        if request.image is not None:
            _show(body["messages"], request.image)
        if sampling.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        return {
            **body,
            **sampling_body(sampling, index, self._model.context),
            **bias_body(sampling, self._model.tokenizer.size),
            "ignore_eos": sampling.ignore_eos,
            "max_tokens": limit,
            "stream": True,
            "return_progress": True,
            "timings_per_token": True,
            "cache_prompt": True,
        }

    def _receive(self, state: _State, body: dict[str, Any], size: int) -> None:
        """Turn llama.cpp's chunks into events until the answer is over. Raises `Stopped`."""
        try:
            with self._open(body) as stream:
                for data in stream.events("/v1/chat/completions"):
                    chunk = _decode_chunk(data)
                    chunk.check()
                    if chunk.timings is not None:
                        state.timings = chunk.timings
                    if chunk.prompt_progress is not None:
                        self._report(state, chunk.prompt_progress, size)
                    for choice in chunk.choices:
                        self._take(state, choice)
                    if state.reason is not None:
                        return
        except LlamaError as error:
            raise _refusal(error) from None
        raise self._without_end()

    def _report(self, state: _State, progress: PromptProgress, size: int) -> None:
        if not state.started:
            state.started = True
            self._writer.send(Started(max(size, progress.total), progress.cache))
        else:
            self._writer.send(Progress(progress.processed, progress.total, progress.cache, progress.time_ms))

    def _take(self, state: _State, choice: _Choice) -> None:
        delta = choice.delta
        if state.prefilled is None and state.timings.predicted_n:
            state.prefilled = time.perf_counter()
        events: list[Event] = []
        thought, text = delta.reasoning_content or "", delta.content or ""
        if thought:
            # llama.cpp knows this template.
            state.splitter = None
        elif state.splitter is not None and text:
            thought, text = state.splitter.feed(text)
        if thought:
            events.append(Reasoning(thought, self._count(state)))
        if text:
            state.text.append(text)
            events += self._texts(state, state.text_filter.feed(text), choice.logprobs)
            if state.text_filter.stopped:
                state.reason = "stop"
        for call in delta.tool_calls:
            if call.function.name is not None:
                events += self._end_call(state)
                state.bare_call = call.index
                call_id = f"call_{secrets.token_hex(12)}"
                name = dict(self._request.output.names).get(call.function.name, call.function.name)
                events.append(ToolCallStarted(call.index, call_id, name, self._count(state)))
            if call.function.arguments:
                state.bare_call = None
                events.append(ToolArguments(call.index, call.function.arguments, self._count(state)))
        if choice.finish_reason is not None and state.reason is None:
            state.reason = _REASONS.get(choice.finish_reason, "stop")
        self._writer.put(events)

    def _end_call(self, state: _State, *, cut: bool = False) -> list[Event]:
        """Return the arguments of a call that ends without any: an empty object, of which a cut one begins."""
        index, state.bare_call = state.bare_call, None
        return [] if index is None else [ToolArguments(index, "{" if cut else "{}", self._count(state))]

    def _texts(self, state: _State, text: str, logprobs: _Logprobs | None = None) -> list[Event]:
        top = self._request.sampling.top_logprobs
        found = [_logprob(entry, top) for entry in (logprobs and logprobs.content) or []]
        return [Text(text, self._count(state), found)] if text or found else []

    def _count(self, state: _State) -> list[int]:
        """Return as many ids as have been generated since the last event. llama.cpp's chat API does not tell which."""
        count = state.timings.predicted_n - state.told
        state.told = state.timings.predicted_n
        return [0] * max(0, count)

    def _fits(self, state: _State, reason: FinishReason) -> bool:
        """Return whether the whole text of an answer is what it must be.

        llama.cpp tells nobody of a grammar that it drops.
        """
        grammar, text = self._request.output.grammar, "".join(state.text).strip()
        if reason != "stop" or state.text_filter.stopped:
            return True
        if grammar is not None:
            return self._model.tokenizer.constraints.fits(grammar, text)
        # A call may stand in place of the JSON.
        return not text or not self._asks_for("response_format") or _is_json(text)

    def _asks_for(self, key: str) -> bool:
        """Return whether the body of the request has ``key``; "response_format" asks for JSON."""
        return key in json_decode(self._request.output.chat or "{}")


def json_decode(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError."""
    return msgspec.json.decode(text)


def _is_json(text: str) -> bool:
    try:
        json_decode(text)
    except ValueError:
        return False
    return True


def _show(messages: list[dict[str, Any]], image: bytes) -> None:
    """Put ``image`` where a message shows it. Raises `PromptError` for one that is none."""
    # llama.cpp would decode one of any size.
    open_image(image)
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
    for message in messages:
        if isinstance(message["content"], list):
            message["content"][0]["image_url"]["url"] = url


def _logprob(entry: Logprob, top: int | None) -> TokenLogprob:
    found = entry.top_logprobs[: top or 0]
    return TokenLogprob(
        entry.id, _piece(entry), entry.value, [(other.id, _piece(other), other.value) for other in found]
    )


def _piece(entry: TopLogprob) -> bytes:
    return bytes(entry.bytes or ())


def _refusal(error: LlamaError) -> PromptError | LlamaError:
    """Return the error for a request that llama.cpp refuses: what the client can change is told."""
    if error.type == "exceed_context_size_error":
        return PromptError("The conversation, with its image, fills the model's context. Shorten it.", "messages")
    if error.status == 400:
        return PromptError(f"The model cannot take this request: {error.message}", "messages")
    return error
