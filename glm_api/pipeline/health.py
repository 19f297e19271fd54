"""How what answers is doing, as ``/health`` and the metrics tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["loading", "ready", "restarting", "failed", "draining"]


@dataclass(frozen=True, slots=True)
class Health:
    """``message`` says the state in words that may be shown to anybody."""

    state: State
    message: str


@dataclass(frozen=True, slots=True)
class Load:
    """How many requests are worked on, and how many wait for their turn."""

    running: int
    waiting: int
