"""Medians, spreads and percentiles of a handful of measurements."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TypedDict


class Figure(TypedDict):
    """What repetitions gave: their middle, and how far they lie apart."""

    median: float
    least: float
    most: float
    runs: int


def figure(values: Sequence[float]) -> Figure:
    """The `Figure` of ``values``, of which there is at least one."""
    return Figure(median=statistics.median(values), least=min(values), most=max(values), runs=len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of ``values`` that at least ``percent`` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
