"""ChatGLM3 writes arguments as Python source, which is read and never run."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glm_api.pipeline.formats.python_call import MAX_SOURCE_CHARACTERS, read_call, write_call

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["city", "城市", "from", "class", "None", "user-id", "ﬁ", "a b", ""]) | st.text(max_size=5)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
@example({"city": "北京", "from": {"a": [1, None]}})
@example({"text": "'\"\n\\```\u2028\ud83d"})
def test_arguments_are_read_back_from_the_source_that_is_written(arguments: dict[str, Any]) -> None:
    source = write_call(json.dumps(arguments))
    read = read_call(source, "tool")
    assert read is not None
    assert json.loads(read) == arguments
    read.encode()  # can be sent


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("tool_call(symbol='10111')", {"symbol": "10111"}),
        ('tool_call(city="北京", unit="celsius")', {"city": "北京", "unit": "celsius"}),
        ("tool_call(\n    seed=42,\n    range=(0, 100),\n)", {"seed": 42, "range": [0, 100]}),
        ("tool_call(from='USD', to='EUR')", {"from": "USD", "to": "EUR"}),
        ("tool_call(a=True, b=null, c=-1.5, d={'x': [1, {}]})", {"a": True, "b": None, "c": -1.5, "d": {"x": [1, {}]}}),
        ("tool_call()", {}),
        ("get_weather(city='x')", {"city": "x"}),
        (r"tool_call(pattern='\d+')", {"pattern": r"\d+"}),
        ('{"city": "x"}', {"city": "x"}),
        (f"tool_call(x='{'(' * 500}', y=[[[1]]])", {"x": "(" * 500, "y": [[[1]]]}),
        # JSON has no infinity; these are the nearest numbers that it can say.
        ("tool_call(x=1e999, y=-1e999)", {"x": sys.float_info.max, "y": -sys.float_info.max}),
        ('{"x": 1e999}', {"x": sys.float_info.max}),
    ],
)
def test_the_calls_that_models_write_are_read(source: str, arguments: dict[str, Any]) -> None:
    read = read_call(source, "get_weather")
    assert read is not None
    assert json.loads(read) == arguments


@pytest.mark.parametrize(
    "source",
    [
        "",
        "tool_call",
        "tool_call(city='x'",
        "tool_call('x')",
        "tool_call(**{'city': 'x'})",
        "tool_call(*[1])",
        "tool_call(a=1, a=2)",
        "os.system(command='true')",
        "tool_call(x=__import__('os'))",
        "tool_call(x=open('/etc/passwd').read())",
        "tool_call(x=[y for y in z])",
        "tool_call(x=f'{y}')",
        "tool_call(x={1, 2})",
        "tool_call(x=b'1')",
        "tool_call(x=1j)",
        "tool_call(x={[]: 1})",
        "tool_call(x={**y})",
        "tool_call(x='\0')",
        "tool_call(a=1); tool_call(a=2)",
        "x = tool_call(a=1)",
        '{"a": NaN}',
        "[1]",
        "{",
        "tool_call(x=" + "[" * 100_000,
        "tool_call(x=" + "[" * 90 + "(" * 90 + ")" * 90 + "]" * 90 + ")",
        "tool_call(x=" + "-" * 60_000 + "1)",
        "tool_call(x=" + "not " * 10_000 + "1)",
        "tool_call(x=" + "1+" * 20_000 + "1)",
        "tool_call(x=" + "9" * 10_000 + ")",
        "tool_call(x" + ".x" * 20_000 + "=1)",
        "tool_call(x='" + "x" * MAX_SOURCE_CHARACTERS + "')",
        '{"a":' * 20_000,
    ],
    ids=lambda source: source[:24],
)
def test_other_source_is_no_call(source: str) -> None:
    assert read_call(source, "get_weather") is None


@given(st.text("tol_ca(x=1,'\"[]{}):*-. \n\\") | st.text())
def test_no_text_raises(source: str) -> None:
    for text in (source, f"tool_call({source}"):
        read = read_call(text, "tool")
        assert read is None or isinstance(json.loads(read), dict)


@pytest.mark.parametrize("arguments", ["", "not json", "[1]", '{"a": 1e999}', '{"a": ' * 20_000, '{"a b": 1}'])
def test_arguments_that_are_no_keywords_are_written_unchanged(arguments: str) -> None:
    assert write_call(arguments) == arguments
