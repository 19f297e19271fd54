"""The comparison of the engines runs, and the report says which of its targets are met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import shapes
from benchmarks.bench import Bench
from benchmarks.figures import figure
from benchmarks.measurements import engines
from benchmarks.report import rows

KINDS = ("decode", "prefill", "clients")


@pytest.mark.slow
def test_all_sides_answer_the_same_with_the_tiny_model(tmp_path: Path) -> None:
    bench = Bench(shapes.TINY, shapes.model_file(shapes.TINY, tmp_path), 1, tmp_path, quick=True, say=print)
    found = engines.measure(bench)
    for kind in KINDS:
        rates = found["tokens_per_second"][kind]
        assert set(rates) == set(engines.SIDES)
        assert all(rate["median"] > 0 for rate in rates.values())
    assert found["chats"].keys() == {"chatglm-cpp", "llama.cpp"}


def measured(ratio: float, p99: float, fraction: float) -> dict[str, Any]:
    ratios = {kind: figure([ratio]) for kind in KINDS}
    return {
        "clients": 4,
        "of_llama_server": ratios,
        "of_chatglm_cpp": ratios,
        "health": {"p99_ms": p99},
        "interruption": {"fraction": figure([0.01, fraction])},
    }


@pytest.mark.parametrize(
    ("part", "met"),
    [
        (measured(0.98, 5.1, 0.021), [True, True, False, False, False, False, False]),
        (measured(1.4, 4.9, 0.02), [True, True, True, False, False, True, True]),
        (measured(2.3, 4.9, 0.02), [True] * 7),
        (measured(0.97, 4.9, 0.02), [False, False, False, False, False, True, True]),
    ],
)
def test_each_comparison_of_the_engines_has_its_target(part: dict[str, Any], met: list[bool]) -> None:
    found = {"shapes": {"full": {"model": "a model", "engines": part}}}
    assert [row.met for row in rows(found)] == met


def test_the_tiny_model_is_compared_with_llama_server_only() -> None:
    ratios = {kind: figure([1.0]) for kind in KINDS}
    part = {"clients": 4, "of_llama_server": ratios, "of_chatglm_cpp": ratios}
    found = {"shapes": {"tiny": {"model": "a model", "engines": part}}}
    assert [row.what for row in rows(found)] == [
        "llama.cpp: tokens/s, 1 client, of llama-server alone (tiny)",
        "llama.cpp: tokens/s, 4 clients, of llama-server alone (tiny)",
    ]
