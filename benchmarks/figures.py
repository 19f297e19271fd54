"""Medians, spreads and percentiles of a handful of measurements."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TypedDict


class Figure(TypedDict):
    """The median and the range of repeated measurements."""

    median: float
    least: float
    most: float
    runs: int


def figure(values: Sequence[float]) -> Figure:
    """Return the `Figure` of ``values``, which must not be empty."""
    return Figure(median=statistics.median(values), least=min(values), most=max(values), runs=len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of ``values`` that at least ``percent`` % of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
