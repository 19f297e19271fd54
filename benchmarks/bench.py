"""What each measurement gets: the model, the sides, the number of repetitions, and a function to report progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import shapes
from benchmarks.client import Client, Exchange
from benchmarks.sides import BareLoop, LlamaServer, Messages, OriginalServer, ThisServer

MAX_LENGTH = 2048

STORIES = (
    "Tell me a long story.",
    "Tell me a story about a robot.",
    "Write a long poem.",
    "Tell me a story.",
    "Tell me a story about a dog.",
    "Write a poem with three verses.",
)


class WrongAnswer(Exception):
    """A side answered otherwise than the bare loop, so its figures mean nothing."""


@dataclass(slots=True)
class Bench:
    """One model under measurement. With ``quick`` each measurement is repeated as little as possible."""

    shape: str
    model: Path
    threads: int
    logs: Path
    quick: bool
    say: Callable[[str], None]
    client: Client = field(default_factory=Client)

    def runs(self, usual: int) -> int:
        """Return how often to repeat a measurement that is usually repeated ``usual`` times."""
        return 1 if self.quick else usual

    @property
    def tiny(self) -> bool:
        """Whether it is the demo model, which ends its answers by itself."""
        return self.shape == shapes.TINY

    @property
    def answer_tokens(self) -> int:
        """The number of new tokens to ask for when speed is measured."""
        return 512 if self.tiny else 48

    def questions(self, run: int) -> list[Messages]:
        """Return the questions for measuring speed.

        All answers together have some hundred tokens, and no prompt comes twice in a row.
        """
        if self.tiny:
            return [user(story) for story in STORIES]
        return [user(passage(16, run))]

    @contextmanager
    def bare_loop(self, threads: int | None = None) -> Iterator[BareLoop]:
        side = BareLoop(self.model, MAX_LENGTH, threads or self.threads)
        try:
            yield side
        finally:
            side.stop()

    @contextmanager
    def original_server(self, threads: int | None = None) -> Iterator[OriginalServer]:
        log = self.logs / f"{self.shape}-original-server.log"
        side = OriginalServer(self.model, MAX_LENGTH, threads or self.threads, log)
        try:
            yield side
        finally:
            side.stop()

    @contextmanager
    def this_server(
        self, settings: Mapping[str, str] | None = None, *, default_threads: bool = False
    ) -> Iterator[ThisServer]:
        log = self.logs / f"{self.shape}-this-server.log"
        side = ThisServer(self.model, MAX_LENGTH, None if default_threads else self.threads, log, settings)
        try:
            yield side
        finally:
            side.stop()

    @contextmanager
    def llama_server(self, gguf: Path) -> Iterator[LlamaServer]:
        side = LlamaServer(gguf, MAX_LENGTH, self.threads, self.logs / f"{self.shape}-llama-server.log")
        try:
            yield side
        finally:
            side.stop()


def user(text: str) -> Messages:
    """Return a conversation of one question."""
    return [{"role": "user", "content": text}]


def passage(characters: int, variant: int) -> str:
    """Return a text of about ``characters`` tokens. Different variants differ from the first character on."""
    offset = 1 + variant % (len(shapes.CHARACTERS) - 1)
    circle = shapes.CHARACTERS[offset:] + shapes.CHARACTERS[:offset]
    return (circle * (characters // len(circle) + 1))[:characters]


def check(exchange: Exchange, expected: str, side: str) -> None:
    """Raise `WrongAnswer` unless the answer is ``expected``, and `NoAnswer` when there is none."""
    text = exchange.text()
    if text != expected:
        raise WrongAnswer(f"{side} answered {text!r}, the bare loop {expected!r}")
