"""A pipeline without processes and without a model: its answers are scripted, and it keeps what it is asked.

It has the public methods of `glm_api.pipeline.pipeline.Pipeline`, so that tests can drive the HTTP side to every event
and failure at once. One token is one character.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glm_api.backend.base import Cause, ChildRole, Health, QueueDepth
from glm_api.backend.errors import BackendError, ContextLengthExceeded, PromptError
from glm_api.pipeline.conversation import Conversation, StructuredOutput
from glm_api.pipeline.formats.base import Prompt
from glm_api.pipeline.formats.images import check_images
from glm_api.pipeline.formats.tool_choice import choose_tools
from glm_api.pipeline.formats.turns import to_turns
from glm_api.pipeline.frames import (
    Event,
    Finished,
    PromptLogprobs,
    Reasoning,
    Started,
    Text,
    TokenLogprob,
    ToolArguments,
    ToolCallStarted,
)
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import ModelInfo, OutputSpec
from glm_api.pipeline.pipeline import SlotState

MODEL = ModelInfo(
    family="chatglm3",
    context_length=8192,
    vocabulary_size=0x110000,
    characters_per_token=1,
    supports_tools=True,
    supports_images=False,
    image_tokens=0,
    slots=4,
    slot_bytes=1,
    model_bytes=1,
    opening="[gMASK]sop",
    ending="</s>",
)

Script = Sequence[Event | BackendError | None]
"""What follows `Started`: events, None for a silence, or a failure that ends the generation."""


def text(*pieces: str) -> list[Event]:
    """Return a text in these pieces."""
    return [Text(piece, [ord(character) for character in piece]) for piece in pieces]


def reasoning(*pieces: str) -> list[Event]:
    """Return what the model thinks in these pieces."""
    return [Reasoning(piece, [ord(character) for character in piece]) for piece in pieces]


def call(name: str, *arguments: str, index: int = 0, id: str = "call_0") -> list[Event]:
    """Return a tool call whose arguments come in these pieces."""
    return [ToolCallStarted(index, id, name, [1]), *(ToolArguments(index, piece, [2]) for piece in arguments)]


def logprob(id: int, top: int = 0) -> TokenLogprob:
    """Return what the model thinks of a token: it is the likeliest, and the next ids are each e times less likely."""
    return TokenLogprob(id, _piece(id), -0.5, [(id + place, _piece(id + place), -0.5 - place) for place in range(top)])


def _piece(id: int) -> bytes:
    return chr(id).encode(errors="replace") if id < 0x110000 else b""


@dataclass
class FakeGeneration:
    """The scripted answers to one job.

    If the job asks for log-probabilities, texts without them get those of `logprob`, unless the text is hidden.
    """

    job: Job
    answers: Iterable[Script]
    id: int = 1
    queue_ms: float = 1.5
    closed: int = 0
    cancelled: bool = False

    def events(self, silence: float | None = None) -> Iterator[list[Event]]:
        for prompt, script in zip(self.job.prompts, self.answers, strict=True):
            yield from self._answer(prompt, script, silence)

    def _answer(self, prompt: list[int], script: Script, silence: float | None) -> Iterator[list[Event]]:
        tokens, reason = 0, "stop"
        begun = False
        for event in script:
            if isinstance(event, BackendError):
                raise event
            if event is None:
                if silence is not None:
                    yield []
                continue
            if not begun:
                yield [event if isinstance(event, Started) else Started(len(prompt), 3), *self._prompt(prompt)]
                begun = True
                if isinstance(event, Started):
                    continue
            event = self._told(event)
            tokens += len(getattr(event, "ids", ()))
            reason = "tool_calls" if isinstance(event, ToolCallStarted) else reason
            yield [event]
            if isinstance(event, Finished):
                return
        if not begun:
            yield [Started(len(prompt), 3), *self._prompt(prompt)]
        yield [Finished(reason, tokens, 20.0, 100.0, 0, len(prompt) + tokens)]  # type: ignore[arg-type]

    def _prompt(self, prompt: list[int]) -> list[Event]:
        sampling = self.job.sampling
        told = [logprob(id, sampling.top_logprobs or 0) for id in prompt[1:]]
        return [PromptLogprobs(told)] if sampling.prompt_logprobs else []

    def _told(self, event: Event) -> Event:
        top = self.job.sampling.top_logprobs
        if top is None or not isinstance(event, Text) or not event.text or event.logprobs:
            return event
        return Text(event.text, event.ids, [logprob(id, top) for id in event.ids])

    def cancel(self) -> None:
        self.cancelled = True

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakePipeline:
    """Set ``scripts`` (one for each prompt; the last one repeats), ``refusal`` or ``state``; read ``jobs``."""

    scripts: list[Script] = field(default_factory=lambda: [text("Hel", "lo")])
    refusal: BackendError | None = None
    state: Any = "ready"
    info: ModelInfo | BackendError = MODEL
    jobs: list[Job] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    demands: list[StructuredOutput] = field(default_factory=list)
    generations: list[FakeGeneration] = field(default_factory=list)
    restarts: Counter[tuple[ChildRole, Cause]] = field(default_factory=Counter)

    def start(self) -> None:
        """Do nothing: it is ready."""

    def drain(self) -> None:
        self.state = "draining"

    def stop(self) -> None:
        """Do nothing: there is no process."""

    def health(self) -> Health:
        return Health(self.state, f"The model is {self.state}.")

    def queue_depth(self) -> QueueDepth:
        return QueueDepth(running=0, waiting=0)

    @property
    def model(self) -> ModelInfo:
        if isinstance(self.info, BackendError):
            raise self.info
        return self.info

    def sees_images(self) -> None:
        """Become a model that accepts images."""
        self.info = replace(MODEL, family="glm4v", supports_images=True, image_tokens=3)

    def thinks(self) -> None:
        """Become a model that thinks before it answers."""
        self.info = replace(MODEL, family="glm4moe", thinks=True)

    def encode_chat(self, conversation: Conversation) -> Prompt:
        assert not isinstance(self.info, BackendError)
        self.conversations.append(conversation)
        check_images(conversation.messages, accepted=self.info.supports_images)
        _, output = choose_tools(conversation)
        turns = to_turns(conversation.messages, lambda name, arguments: arguments)
        rendered = "".join(f"<{turn.role}>{turn.metadata}\n{turn.content}" for turn in turns) + "<assistant>"
        return Prompt(self._fitting([ord(character) for character in rendered], "messages"), output)

    def encode_text(self, text: str) -> list[int]:
        return self._fitting(self.tokenize(text, special=True), "prompt")

    def text_output(self, structured: StructuredOutput) -> OutputSpec:
        self.demands.append(structured)
        return OutputSpec(mode="text", grammar=repr(structured))

    def _fitting(self, ids: list[int], param: str) -> list[int]:
        assert not isinstance(self.info, BackendError)
        if len(ids) >= self.info.context_length:
            raise ContextLengthExceeded(len(ids), self.info.context_length, param=param)
        return ids

    def tokenize(self, text: str, special: bool) -> list[int]:
        return [*((1,) if special else ()), *(ord(character) for character in text)]

    def pieces(self, ids: list[int]) -> list[bytes]:
        return [self.decode([id]).encode() for id in ids]

    def decode(self, ids: list[int]) -> str:
        if any(not 0 <= id < 0x110000 for id in ids):
            raise PromptError("There are ids that the vocabulary does not have.", "tokens")
        return "".join(map(chr, ids))

    def generate(self, job: Job) -> FakeGeneration:
        if self.refusal is not None:
            raise self.refusal
        self.jobs.append(job)
        scripts = [*self.scripts, *[self.scripts[-1]] * len(job.prompts)][: len(job.prompts)]
        self.generations.append(FakeGeneration(job, scripts))
        return self.generations[-1]

    @property
    def threads(self) -> dict[str, int]:
        return {"most": 4, "step": 2, "batch": 3}

    def snapshot(self) -> dict[str, Any]:
        return {"running": [], "waiting": [], "threads": self.threads}

    def slots(self) -> list[SlotState]:
        return [SlotState(0, 12, None)]
