from __future__ import annotations

import pytest

from benchmarks.figures import figure, percentile


def test_a_figure_tells_the_middle_and_the_ends() -> None:
    assert figure([3.0, 1.0, 2.0]) == {"median": 2.0, "least": 1.0, "most": 3.0, "runs": 3}


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (0, 1)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_the_99th_percentile_of_a_few_is_the_largest() -> None:
    assert percentile([1.0, 5.0], 99) == 5.0
