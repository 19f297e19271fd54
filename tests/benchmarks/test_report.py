"""The report says whether each target is met, and the committed reports match their figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import figure
from benchmarks.report import markdown, rows

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def found(part: str, shape: str, measured: dict[str, Any]) -> dict[str, Any]:
    return {"shapes": {shape: {"model": "a model", part: measured}}}


@pytest.mark.parametrize(("shape", "ratio", "met"), [("tiny", 0.91, True), ("full", 0.985, False), ("full", 1, True)])
def test_the_full_size_model_is_held_to_more(shape: str, ratio: float, met: bool) -> None:
    ratios = {"server": figure([ratio]), "original": figure([0.1])}
    (row,) = rows(found("speed", shape, {"ratio_to_bare": ratios}))
    assert row.met == met
    assert row.server == f"{ratio:.3f}"


def test_losing_a_request_misses_the_target() -> None:
    original = {"lost": 11, "serves_again": False}
    for lost, met in ((0.0, True), (1.0, False)):
        server = {"lost": figure([0.0, lost])}
        (row,) = rows(found("killing", "tiny", {"requests": 11, "server": server, "original": original}))
        assert row.met == met


def test_an_answer_that_did_not_go_on_is_reported() -> None:
    server = {"lost": figure([1.0]), "next_token_seconds": None}
    part = {"requests": 11, "server": server, "original": {"lost": 11, "serves_again": False}}
    run = json.loads((RESULTS / "tiny.json").read_text()) | found("killing", "tiny", part)
    assert "The running answer did not go on" in markdown(run, [])


def test_the_default_number_of_threads_is_measured_idle_and_busy() -> None:
    ratios = {
        "idle_ratio": {"server": figure([0.9, 0.96, 0.97]), "original": figure([0.4])},
        "busy_ratio": {"server": figure([0.49]), "original": figure([0.01]), "bare_all": figure([0.02])},
    }
    idle, busy = rows(found("threads", "tiny", {"cpus": 2, **ratios}))
    assert (idle.server, idle.original, idle.met) == ("0.960 (0.900 to 0.970)", "0.400", True)
    assert (busy.server, busy.original, busy.met) == ("0.490", "0.010", False)
    assert "beside 2 busy loops" in busy.what


def test_only_a_model_whose_tokens_take_time_must_be_as_fast_with_a_schema() -> None:
    for ratio, met in ((0.98, True), (0.96, False)):
        measured = {"ratio": {"schema": figure([ratio])}}
        assert [row.met for row in rows(found("choosing", "full", measured))] == [met]
        assert not list(rows(found("choosing", "tiny", measured)))


def test_one_slow_interruption_misses_the_target() -> None:
    original = {"fraction": figure([0.7])}
    for fraction, met in ((0.015, True), (0.021, False)):
        server = {"fraction": figure([0.01, 0.01, fraction])}
        (row,) = rows(found("interruption", "full", {"server": server, "original": original}))
        assert row.met == met


@pytest.mark.parametrize("data", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_committed_report_matches_its_figures(data: Path) -> None:
    pictures = sorted(path.name for path in RESULTS.glob(f"{data.stem}-*.svg"))
    report = data.with_suffix(".md").read_text()
    assert all(picture in report for picture in pictures)
    shown = [line[len("![](") : -1] for line in report.splitlines() if line.startswith("![](")]
    assert sorted(shown) == pictures
    assert markdown(json.loads(data.read_text()), shown) == report
