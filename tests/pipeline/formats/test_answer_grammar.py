"""Whatever the grammar of an answer admits is read as what was asked for, and fits its schema."""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from glm_api.backend.errors import PromptError
from glm_api.pipeline import formats
from glm_api.pipeline.conversation import (
    ChoiceOutput,
    Conversation,
    JsonOutput,
    Message,
    RegexOutput,
    StructuredOutput,
    Tool,
    ToolChoice,
)
from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.formats.schemas import arguments, prepared
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.vocabulary import read_vocabulary
from tests.support.model_files import real_vocabularies
from tests.support.model_files.fixtures import OpenModel
from tests.support.model_files.scripted_tokenizer import calls_of, ids_of, read, text_of
from tests.support.model_files.writer import Family
from tests.support.schemas import KINDS, random_ids, random_parameters, random_schema

HI = (Message("user", "hi"),)
NAMES = ["get", "get_weather", "Notion-search", "a.b/c", "x" * 64, "interpreter", "查天气"]
CITY = Tool("get_weather", parameters='{"type": "object", "properties": {"city": {"type": "string"}}}')


@functools.cache
def pieces(path: Path) -> list[bytes]:
    """Return the bytes of each token of a model; a model may have more ids than its tokenizer."""
    file = inspect(path)
    known = read_vocabulary(file).pieces
    return known + [b""] * (file.vocabulary_size - len(known))


class Read(NamedTuple):
    """An answer at random, as the format's reader has read it to its end."""

    ids: list[int]
    text: str
    calls: list[tuple[str, str]]
    reason: str | None


class Model:
    """A vocabulary with the format of any family; that of the demo model has the special tokens of all roles."""

    def __init__(self, opened: OpenModel, family: str) -> None:
        self.tokenizer = opened.tokenizer
        self.format: Format = formats.format_for(family, opened.tokenizer)
        self._pieces = pieces(opened.path)

    def output(
        self, *tools: Tool, choice: ToolChoice | None = None, text: StructuredOutput | None = None
    ) -> OutputSpec:
        return self.format.render(Conversation(HI, tools, choice or ToolChoice(), text)).output

    def walk(self, output: OutputSpec, seed: int, begin: str = "") -> Read | None:
        """Return an answer that the grammar admits, chosen at random; None if it came to no end."""
        assert output.grammar is not None
        constraint = self.tokenizer.constraints.compile(output.grammar)
        ids = random_ids(constraint, self._pieces, self.tokenizer.end_ids, seed, begin.encode())
        if ids is None:
            return None
        reader = self.format.reader(output, ())
        events = read(reader, [*ids, min(self.tokenizer.end_ids)])
        assert ids_of(events) == ids
        return Read(ids, text_of(events), calls_of(events), reader.reason)

    def cut(self, output: OutputSpec, ids: list[int]) -> tuple[str, list[tuple[str, str]]]:
        """Return the text and the calls of an answer that is cut."""
        events = read(self.format.reader(output, ()), ids)
        return text_of(events), calls_of(events)


@pytest.fixture(autouse=True)
def everything_is_enforced(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test holds a call to less than its schema without saying so."""
    yield
    if "fault" not in request.fixturenames:
        assert not caplog.records


@pytest.fixture(params=["ChatGLM3", "ChatGLM4"])
def model(request: pytest.FixtureRequest, open_demo: OpenModel) -> Model:
    return Model(open_demo, request.param)


def random_tools(seed: int) -> dict[str, dict[str, Any]]:
    chance = random.Random(seed)
    names = chance.sample(NAMES, chance.randrange(2, 4))
    return {name: random_parameters(seed * 10 + number) for number, name in enumerate(names)}


def declared(functions: dict[str, dict[str, Any]]) -> tuple[Tool, ...]:
    return tuple(Tool(name, parameters=json.dumps(parameters)) for name, parameters in functions.items())


def fit(calls: list[tuple[str, str]], functions: dict[str, dict[str, Any]]) -> None:
    for name, text in calls:
        jsonschema.validate(json.loads(text), {**functions[name], "type": "object"})


@pytest.mark.parametrize("seed", range(100))
def test_a_required_answer_is_calls_that_fit(model: Model, seed: int) -> None:
    functions = random_tools(seed)
    got = model.walk(model.output(*declared(functions), choice=ToolChoice("required", parallel=seed % 2 == 0)), seed)
    if got is not None:
        assert (got.text, got.reason) == ("", "tool_calls")
        assert got.calls
        assert seed % 2 == 0 or len(got.calls) == 1
        fit(got.calls, functions)


@pytest.mark.parametrize("seed", range(100))
def test_a_named_call_fits(model: Model, seed: int) -> None:
    functions = random_tools(seed)
    name = next(iter(functions))
    got = model.walk(model.output(*declared(functions), choice=ToolChoice("required", name)), seed)
    if got is not None:
        assert (got.text, got.reason) == ("", "tool_calls")
        assert [called for called, _ in got.calls] == [name]
        fit(got.calls, functions)


@pytest.mark.parametrize("seed", range(100))
def test_an_answer_is_free_until_it_begins_a_call(model: Model, seed: int) -> None:
    functions = random_tools(seed)
    output = model.output(*declared(functions), choice=ToolChoice(parallel=seed % 2 == 0))
    head = "" if seed % 3 == 0 else f"{next(iter(functions))}\n"
    got = model.walk(output, seed, head)
    if got is not None:
        assert bool(got.calls) >= bool(head)
        assert got.reason == ("tool_calls" if got.calls else "stop")
        assert seed % 2 == 0 or len(got.calls) <= 1
        fit(got.calls, functions)


@pytest.mark.parametrize("seed", range(30))
def test_text_may_say_anything_but_a_calls_first_line(model: Model, seed: int) -> None:
    output = model.output(CITY)
    for text in ("\nThe tools are:\nget_weather\n", "get_weatherman\n", "get_weather is a tool\n", "{", "```python\n"):
        got = model.walk(output, seed, text)
        if got is not None:
            assert got.text.startswith(text.strip())


@pytest.mark.parametrize("seed", range(30))
def test_with_tools_a_structured_answer_is_json_or_calls(model: Model, seed: int) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["get_weather", "b"]}}, "required": ["a"]}
    output = model.output(CITY, text=JsonOutput(json.dumps(schema), "response_format"))
    got = model.walk(output, seed, "" if seed % 2 else "get_weather\n")
    if got is not None and got.calls:
        assert got.text == ""
        fit(got.calls, {"get_weather": json.loads(CITY.parameters)})
    elif got is not None:
        jsonschema.validate(json.loads(got.text), schema)


def test_a_tool_without_parameters_gets_an_empty_object(model: Model) -> None:
    for parameters in ("{}", '{"type": "object"}', '{"type": "object", "properties": {}, "description": "None"}'):
        for name in (None, "clock"):
            output = model.output(Tool("clock", None, parameters), choice=ToolChoice("required", name))
            got = model.walk(output, 0)
            assert got is not None
            assert got.calls[0] == ("clock", "{}")


@pytest.mark.parametrize("seed", range(20))
def test_the_interpreter_gets_code(open_demo: OpenModel, seed: int) -> None:
    model = Model(open_demo, "ChatGLM3")
    code = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
    output = model.output(Tool("interpreter", parameters=json.dumps(code)), CITY)
    for begin in ("", "print('```')\n", "import os"):
        got = model.walk(output, seed, f" interpreter\n ```python\n{begin}")
        if got is not None:
            (name, text), *_ = got.calls
            assert name == "interpreter"
            assert json.loads(text)["code"].startswith(begin)


@pytest.mark.parametrize("seed", range(40))
def test_a_cut_answer_never_shows_a_calls_syntax(model: Model, seed: int) -> None:
    functions = random_tools(seed)
    output = model.output(*declared(functions), choice=ToolChoice("required"))
    got = model.walk(output, seed)
    if got is None:
        return
    for length in range(0, len(got.ids), 7):
        text, calls = model.cut(output, got.ids[:length])
        assert text == ""
        assert [name for name, _ in calls] == [name for name, _ in got.calls][: len(calls)]
        for (_, written), (_, whole) in zip(calls, got.calls, strict=False):
            assert not written or written.startswith("{")
            assert "tool_call" not in written
            assert not written or set(partial(written)) <= set(json.loads(whole))


def partial(text: str) -> dict[str, Any]:
    """What an object without its end has in whole."""
    decoder = json.JSONDecoder()
    members: dict[str, Any] = {}
    position = 1
    while found := re.compile(r"(?:, )?(\"(?:[^\"\\]|\\.)*\"): ").match(text, position):
        try:
            members[json.loads(found[1])], position = decoder.raw_decode(text, found.end())
        except ValueError:
            break
    return members


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ("", "{"),
        ("city", "{"),
        ("city='", '{"city": "'),
        ("city='Bei", '{"city": "Bei'),
        ("city='it\\", '{"city": "it'),
        ("city='it\\\\", '{"city": "it\\\\'),
        ("city='(((', days=3, tags=['a', 'b", '{"city": "(((", "days": 3, "tags": ["a", "b'),
        ("city='北京', where={'x", '{"city": "北京", "where": {'),
        ("city='北京', where={'x': [1, ", '{"city": "北京", "where": {"x": [1'),
        ("city='北京', ok=Tru", '{"city": "北京"'),
    ],
)
def test_the_arguments_of_a_cut_python_call_are_those_so_far(
    open_demo: OpenModel, written: str, arguments: str
) -> None:
    model = Model(open_demo, "ChatGLM3")
    output = model.output(CITY, choice=ToolChoice("required", "get_weather"))
    assert model.cut(output, model.tokenizer.encode("\n" + written)[len(model.tokenizer.encode("\n")) :]) == (
        "",
        [("get_weather", arguments)],
    )


def test_a_header_that_is_cut_is_a_call_as_soon_as_it_must_be_one(model: Model) -> None:
    auto = model.output(CITY)
    encode = model.tokenizer.encode
    assert model.cut(auto, encode("get_wea")) == ("", [])
    assert model.cut(auto, encode("get_weather")) == ("", [])
    assert model.cut(auto, encode("get_weather\n")) == ("", [("get_weather", "{")])
    required = model.output(CITY, Tool("clock"), choice=ToolChoice("required"))
    assert model.cut(required, encode("get_wea")) == ("", [])


# --- structured answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_json_of_each_kind_fits_its_schema(open_demo: OpenModel, kind: str, seed: int) -> None:
    model = Model(open_demo, "ChatGLM3" if seed % 2 else "ChatGLM4")
    got = model.walk(model.output(text=JsonOutput(json.dumps(KINDS[kind]), "p")), seed)
    if got is not None:
        jsonschema.validate(json.loads(got.text), KINDS[kind])


@pytest.mark.parametrize("seed", range(200))
def test_json_fits_its_schema(open_demo: OpenModel, seed: int) -> None:
    model = Model(open_demo, "ChatGLM3" if seed % 2 else "ChatGLM4")
    schema = random_schema(random.Random(seed), 3)
    schema = {**schema, "$defs": {"shared": {"type": "string", "maxLength": 8}}}
    got = model.walk(model.output(text=JsonOutput(json.dumps(schema), "p")), seed)
    if got is not None:
        jsonschema.validate(json.loads(got.text), schema)


@pytest.mark.parametrize("family", ["ChatGLM", "ChatGLM2", "ChatGLM3", "ChatGLM4"])
@pytest.mark.parametrize(
    ("structured", "pattern"),
    [
        (RegexOutput(r"\d{3}-[\d_]{4}", "p"), r"[0-9]{3}-[0-9_]{4}"),
        (JsonOutput(r'{"type": "string", "pattern": "^\\d[^\\d]\\w$"}', "p"), r'"[0-9]([^0-9]|\\.)[0-9A-Za-z_]"'),
        (RegexOutput(r"^(a|b/c)\/$", "p"), r"(a|b/c)/"),
        (RegexOutput("a\nb|\\\n", "p"), r"a\nb"),
        (RegexOutput(r"\s*x|y", "p"), r"x|y"),
        (
            ChoiceOutput(("yes", "no", "yes, but", '"quoted"\n', "北京,上海"), "p"),
            'yes|no|yes, but|"quoted"\n|北京,上海',
        ),
        (JsonOutput('{"enum": ["北京,上海:!?"]}', "p"), '"北京,上海:!\\?"'),
        (JsonOutput('{"const": 5}', "p"), "5"),
    ],
)
def test_a_structured_answer_is_what_was_asked_for(
    family: str, structured: StructuredOutput, pattern: str, open_demo: OpenModel
) -> None:
    model = Model(open_demo, family)
    for seed in range(10):
        got = model.walk(model.output(text=structured), seed)
        assert got is not None
        assert re.fullmatch(pattern, got.text), got.text
        assert got.reason == "stop"
        raw = model.walk(model.format.text_output(structured), seed)
        assert raw is not None
        assert re.fullmatch(f"\\s*({pattern})|\n", raw.text), raw.text


def test_a_continued_message_is_held_from_where_it_goes_on(model: Model) -> None:
    begun = Conversation((*HI, Message("assistant", "The answer: ")), structured=RegexOutput("yes|no", "p"))
    output = model.format.render(begun).output
    assert output.mode == "text"
    got = model.walk(output, 1)
    assert got is not None
    assert got.text in ("yes", "no")


# Minutes and gigabytes.
MULTIPLES = {"allOf": [{"type": "integer", "multipleOf": prime} for prime in (7, 11, 13, 17, 19, 23)]}


@pytest.mark.parametrize(
    ("structured", "reason"),
    [
        (JsonOutput('{"not": {}}', "the.param"), '"not"'),
        (JsonOutput('{"type": "array", "uniqueItems": true}', "the.param"), '"uniqueItems"'),
        (JsonOutput('{"type": "string", "pattern": "(?=a)b"}', "the.param"), "look-ahead"),
        (JsonOutput('{"type": "object", "minProperties": 3}', "the.param"), '"minProperties"'),
        (JsonOutput('{"type": "integer", "minimum": 5, "maximum": 3}', "the.param"), "minimum (5)"),
        (JsonOutput('{"type": "integer", "multipleOf": 1000000000}', "the.param"), '"multipleOf"'),
        (JsonOutput('{"type": "number", "multipleOf": 0.999999999}', "the.param"), '"multipleOf"'),
        (JsonOutput('{"enum": []}', "the.param"), "anyOf is empty"),
        (JsonOutput(json.dumps(MULTIPLES), "the.param"), "too long"),
        (RegexOutput("(?=a)b", "the.param"), "look-ahead"),
        (RegexOutput("a\\", "the.param"), "unclosed group"),
        (RegexOutput(")/\nstart: /.*", "the.param"), "unopened group"),
        (RegexOutput(" +", "the.param"), "no answer"),
        (ChoiceOutput((" yes",), "the.param"), "white space"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_the_reason(
    model: Model, structured: StructuredOutput, reason: str
) -> None:
    for tools in ((), (CITY,)):
        with pytest.raises(PromptError) as refused:
            model.output(*tools, text=structured)
        assert refused.value.param == "the.param"
        assert reason in refused.value.message


# --- tools that cannot be enforced --------------------------------------------------------------------------------

HARD: dict[str, dict[str, Any]] = {
    "not": {"not": {"const": "x"}},
    "uniqueItems": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    "oneOf": {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 5}]},
    "pattern": {"type": "string", "pattern": "(?!a)secret"},
    "too complex": MULTIPLES,
}


@pytest.mark.parametrize("fault", HARD)
def test_a_tool_that_cannot_be_enforced_is_held_to_what_can(
    model: Model, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    hard = {
        "type": "object",
        "properties": {"secret": HARD[fault], "n": {"type": "integer"}},
        "required": ["n"],
    }
    tool = Tool("hard", parameters=json.dumps(hard), param="tools.1.function.parameters")
    plain = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    for seed in range(10):
        for choice in (ToolChoice("required"), ToolChoice("required", "hard"), ToolChoice()):
            got = model.walk(model.output(CITY, tool, choice=choice), seed, "" if choice.mode != "auto" else "hard\n")
            if got is not None:
                fit([call for call in got.calls if call[0] == "hard"], {"hard": plain})
    (told,) = caplog.records
    assert "secret" not in told.getMessage()
    assert fault in told.getMessage()
    strict = Tool("hard", parameters=json.dumps(hard), strict=True, param="tools.1.function.parameters")
    with pytest.raises(PromptError) as refused:
        model.output(CITY, strict)
    assert refused.value.param == "tools.1.function.parameters"


def test_objects_are_closed_unless_another_schema_may_add_to_them() -> None:
    plain = {"properties": {"a": {"type": "object", "properties": {"b": {"type": "null"}}}}}
    closed = {"type": "object", "properties": {"b": {"type": "null"}}, "additionalProperties": False}
    assert prepared(plain) == {"type": "object", "properties": {"a": closed}, "additionalProperties": False}
    others: list[dict[str, Any]] = [
        {"type": "object"},
        {"type": "object", "properties": {}, "additionalProperties": True},
        {"type": "object", "properties": {}, "required": ["a"]},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]},
    ]
    for schema in others:
        assert prepared(schema) == schema


def test_a_property_may_be_named_like_a_keyword() -> None:
    schema = {"type": "object", "properties": {"format": {"enum": [{"format": "x"}]}, "$id": {"type": "null"}}}
    assert prepared(schema) == {**schema, "additionalProperties": False}


def test_arguments_are_objects() -> None:
    assert arguments({"properties": {"a": {}}}) == {"type": "object", "properties": {"a": {}}}


# --- real vocabularies --------------------------------------------------------------------------------------------


@real_vocabularies.needed
@pytest.mark.parametrize(
    ("name", "family", "format"), [("chatglm3", "chatglm3", "ChatGLM3"), ("glm-4", "glm4", "ChatGLM4")]
)
def test_real_vocabularies_are_held_to_the_same(
    open_model: Callable[..., OpenModel], name: str, family: Family, format: str
) -> None:
    model = Model(open_model(family, **real_vocabularies.fields(name, family)), format)
    ended = 0
    for seed in range(10):
        functions = random_tools(seed)
        for choice, head in (
            (ToolChoice("required"), ""),
            (ToolChoice("required", next(iter(functions))), ""),
            (ToolChoice(), f"{next(iter(functions))}\n"),
        ):
            got = model.walk(model.output(*declared(functions), choice=choice), seed, head)
            if got is not None:
                assert got.calls
                fit(got.calls, functions)
                ended += 1
    for kind, schema in KINDS.items():
        got = model.walk(model.output(text=JsonOutput(json.dumps(schema), "p")), len(kind))
        if got is not None:
            jsonschema.validate(json.loads(got.text), schema)
            ended += 1
    assert ended > 60
