"""Answers of real models that are held to hundreds of schemas: whatever came to its end fits."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator

import jsonschema
import pytest

from glm_api.pipeline.conversation import Conversation, JsonOutput, Message, Tool, ToolChoice
from glm_api.pipeline.frames import Event, Finished
from glm_api.pipeline.job import Sampling
from tests.support.model_files.fixtures import OpenModel
from tests.support.model_files.scripted_tokenizer import calls_of, text_of
from tests.support.schemas import KINDS, bounded, random_parameters

from .test_answering import Bench, pipelines_of

SCHEMAS = {**KINDS, **{f"random {seed}": bounded(random_parameters(seed)) for seed in range(150)}}
QUESTIONS = ("Reply in JSON: who are you?", "用 JSON 回答：北京的天气怎么样？", "Tell me a story about a robot.")
# Two functions a request, each with a schema of its own.
REQUESTS = 150
PARIS = (Message("user", "What is the weather in Paris?"),)
CITY = (
    '{"type": "object", "properties": {"city": {"type": "string", "description": "City name"}}, "required": ["city"]}'
)
# The longest answers. What is longer is cut, and not judged.
MOST_TOKENS = 200
ENDED = 0.9


@pytest.fixture(autouse=True, scope="module")
def close_pipelines() -> Iterator[None]:
    """Close the models: ggml has room for some, which tests of other modules need."""
    yield
    pipelines_of.cache_clear()
    gc.collect()


@pytest.fixture(autouse=True)
def everything_is_enforced(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No call is held to less than its schema: the log would say so."""
    yield
    assert not caplog.records


def reason_of(events: list[Event]) -> str:
    """Return why the answer ended; one that was cut has as many tokens as it may have."""
    last = events[-1]
    assert isinstance(last, Finished), last
    assert last.reason != "length" or last.completion_tokens == MOST_TOKENS
    return last.reason


def test_there_are_two_hundred_schemas() -> None:
    assert len(SCHEMAS) >= 200


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_json_fits_its_schema_at_any_temperature(open_demo: OpenModel, temperature: float) -> None:
    bench = Bench(open_demo, "auto")
    ended = 0
    for number, schema in enumerate(SCHEMAS.values()):
        question = (Message("user", QUESTIONS[number % len(QUESTIONS)]),)
        structured = JsonOutput(json.dumps(schema), "response_format")
        prompt = open_demo.format.render(Conversation(question, structured=structured))
        sampling = Sampling(temperature=temperature, top_p=1.0, seed=number)
        events = bench.run(prompt.ids, MOST_TOKENS, output=prompt.output, sampling=sampling)
        if (reason := reason_of(events)) != "length":
            assert reason == "stop"
            jsonschema.validate(json.loads(text_of(events)), schema)
            ended += 1
    assert ended >= ENDED * len(SCHEMAS)


@pytest.mark.parametrize("family", ["chatglm3", "glm4"])
def test_calls_fit_the_schemas_of_their_functions(
    open_demo: OpenModel, open_model: Callable[..., OpenModel], family: str
) -> None:
    """Each of the 300 schemas is declared with each choice: required, named and auto, each at another temperature.

    The prompt declares another function: the trained model begins a call then, and it is evaluated once for all.
    """
    names = ["get_weather", "查天气"]
    models = [open_demo] * 3
    bias: dict[int, float] = {}
    if family == "glm4":
        names = ["天气", "get_weather"]
        model = open_model("glm4", max_length=2048)
        encode = model.tokenizer.encode
        # A random model begins no call by itself.
        begin = (model.tokenizer.role("assistant"), *encode(f"{names[0]}\n"))
        models = [model, model, open_model("glm4", max_length=2048, script=(begin,))]
        # It would write hundreds of tokens before it ends a string by chance.
        bias = dict.fromkeys(encode('"'), 8.0)
    choices = (ToolChoice("required"), ToolChoice("required", names[1]), ToolChoice())
    benches = [Bench(model, "auto", slots=1) for model in models]
    prompt = models[0].format.render(Conversation(PARIS, (Tool(names[0], "Get the weather of a city", CITY),)))
    ended = called = 0
    for number in range(REQUESTS):
        functions = {name: bounded(random_parameters(2 * number + place)) for place, name in enumerate(names)}
        tools = tuple(Tool(name, parameters=json.dumps(parameters)) for name, parameters in functions.items())
        for place, (bench, choice) in enumerate(zip(benches, choices, strict=True)):
            output = bench.model.format.render(Conversation(PARIS, tools, choice)).output
            sampling = Sampling(temperature=(number + place) % 3, top_p=1.0, seed=number, logit_bias=bias)
            events = bench.run(prompt.ids, MOST_TOKENS, output=output, sampling=sampling)
            reason, calls = reason_of(events), calls_of(events)
            if reason == "length":
                continue
            assert reason == ("tool_calls" if calls else "stop")
            if choice.mode == "required":
                assert calls
                assert text_of(events) == ""
            if choice.name is not None:
                assert [name for name, _ in calls] == [choice.name]
            for name, text in calls:
                jsonschema.validate(json.loads(text), functions[name])
            ended += 1
            called += bool(calls)
    assert ended >= ENDED * REQUESTS * len(choices)
    assert called >= ENDED * ended
