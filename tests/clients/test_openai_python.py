"""OpenAI's Python SDK against the demo model, which really calls tools. Every answer is validated strictly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from openai.lib._tools import pydantic_responses_function_tool
from openai.lib.responses_tool_runner import RegisteredFunction, ResponsesToolRunner
from openai.types.chat import ChatCompletionMessage, ChatCompletionUserMessageParam
from pydantic import BaseModel, Field

from tests.support.server import Server

MODEL = "chatglm3-demo"
PARIS = "What is the weather in Paris?"
BEIJING = "北京的天气怎么样？"
COUNT = "Count from 1 to 10."


def function(name: str, description: str, **properties: str) -> dict[str, Any]:
    """Return a function declaration whose parameters are strings with these descriptions."""
    described = {key: {"type": "string", "description": text} for key, text in properties.items()}
    parameters = {"type": "object", "properties": described, "required": list(properties)}
    return {"name": name, "description": description, "parameters": parameters}


WEATHER = function("get_weather", "Get the weather of a city", city="City name")
CALCULATOR = function("calculator", "Evaluate a math expression", expression="The expression")
TIANQI = function("get_weather", "获取城市的天气", city="城市名")


def tools(*functions: dict[str, Any]) -> list[Any]:
    return [{"type": "function", "function": function} for function in functions]


def user(text: str) -> ChatCompletionUserMessageParam:
    return {"role": "user", "content": text}


def calls(message: ChatCompletionMessage) -> list[tuple[str, Any]]:
    """Return the name and the arguments of each call."""
    return [
        (call.function.name, json.loads(call.function.arguments))
        for call in message.tool_calls or []
        if call.type == "function"
    ]


@pytest.fixture
def client(demo: Server) -> Iterator[OpenAI]:
    with demo.sdk() as client:
        yield client


@pytest.fixture
def counted(client: OpenAI) -> str:
    """The answer to `COUNT`, in one piece."""
    answer = client.chat.completions.create(model=MODEL, messages=[user(COUNT)], temperature=0)
    text = answer.choices[0].message.content or ""
    assert text.startswith(", ".join(map(str, range(1, 11))))
    return text


def answered(client: OpenAI, messages: list[Any], stream: bool, **more: Any) -> ChatCompletionMessage:
    """Return the answer, in one piece or joined from a stream by the SDK's own helper."""
    request = {"model": MODEL, "messages": messages, "temperature": 0, **more}
    if not stream:
        message: ChatCompletionMessage = client.chat.completions.create(**request).choices[0].message
        return message
    with client.chat.completions.stream(**request) as events:
        events.until_done()
        return events.get_final_completion().choices[0].message


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("question", "declared", "city", "result"),
    [
        (PARIS, (WEATHER,), "Paris", {"temperature": 17, "condition": "cloudy"}),
        (PARIS, (CALCULATOR, WEATHER), "Paris", {"temperature": 26, "condition": "sunny"}),
        (BEIJING, (TIANQI,), "北京", {"temperature": 8, "condition": "多云"}),
    ],
    ids=["one tool", "two tools", "Chinese"],
)
def test_a_tool_is_called_and_its_result_is_answered(
    client: OpenAI, stream: bool, question: str, declared: tuple[Any, ...], city: str, result: dict[str, Any]
) -> None:
    messages: list[Any] = [user(question)]
    called = answered(client, messages, stream, tools=tools(*declared))
    assert calls(called) == [("get_weather", {"city": city})]
    assert not called.content
    assert called.tool_calls
    messages.append(called.model_dump(exclude={"parsed"}, exclude_none=True))
    content = json.dumps(result, ensure_ascii=False)
    messages.append({"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": content})
    answer = answered(client, messages, stream, tools=tools(*declared))
    assert not answer.tool_calls
    assert answer.content
    assert str(result["temperature"]) in answer.content


def test_a_streamed_call_has_the_same_chunks_as_openais(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=[user(PARIS)],
            tools=tools(WEATHER),
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert {delta.index for delta in deltas} == {0}
    assert deltas[0].id
    assert deltas[0].type == "function"
    assert deltas[0].function
    assert deltas[0].function.name == "get_weather"
    assert all(delta.id is None and delta.type is None for delta in deltas[1:])
    assert all(delta.function and delta.function.name is None for delta in deltas[1:])
    assert json.loads("".join(delta.function.arguments or "" for delta in deltas if delta.function)) == {
        "city": "Paris"
    }
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "tool_calls"
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens > 0


def test_text_is_streamed_in_pieces_when_tools_are_declared(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=[user("Hello!")], tools=tools(WEATHER), temperature=0
    ) as events:
        pieces = [event.delta for event in events if event.type == "content.delta"]
        final = events.get_final_completion().choices[0]
    assert final.finish_reason == "stop"
    assert final.message.content == "".join(pieces)
    assert len(pieces) > 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tool_choice(client: OpenAI, stream: bool) -> None:
    both = tools(WEATHER, CALCULATOR)
    none = answered(client, [user(PARIS)], stream, tools=both, tool_choice="none")
    assert none.tool_calls is None
    assert none.content
    auto = answered(client, [user(PARIS)], stream, tools=both, tool_choice="auto")
    required = answered(client, [user(PARIS)], stream, tools=both, tool_choice="required")
    assert calls(auto) == calls(required) == [("get_weather", {"city": "Paris"})]
    # `required` calls the only tool whatever the question is, and so does a named function.
    [(name, _)] = calls(answered(client, [user("Hello!")], stream, tools=tools(WEATHER), tool_choice="required"))
    assert name == "get_weather"
    choice = {"type": "function", "function": {"name": "calculator"}}
    [(name, _)] = calls(answered(client, [user(PARIS)], stream, tools=both, tool_choice=choice))
    assert name == "calculator"


def test_the_legacy_form_of_calls_works(client: OpenAI) -> None:
    request: dict[str, Any] = {"model": MODEL, "messages": [user(PARIS)], "functions": [WEATHER], "temperature": 0}
    choice = client.chat.completions.create(**request).choices[0]
    assert choice.finish_reason == "function_call"
    called = choice.message.function_call
    assert called
    assert (called.name, json.loads(called.arguments)) == ("get_weather", {"city": "Paris"})
    deltas = [chunk.choices[0].delta.function_call for chunk in client.chat.completions.create(**request, stream=True)]
    assert "".join(delta.name or "" for delta in deltas if delta) == called.name
    assert "".join(delta.arguments or "" for delta in deltas if delta) == called.arguments
    result = {"role": "function", "name": "get_weather", "content": '{"temperature": 17, "condition": "cloudy"}'}
    request["messages"] += [{"role": "assistant", "content": None, "function_call": called.model_dump()}, result]
    answer = client.chat.completions.create(**request).choices[0]
    assert answer.finish_reason == "stop"
    assert "17" in (answer.message.content or "")


def test_the_history_may_have_two_calls_in_one_turn(client: OpenAI) -> None:
    made = [
        {
            "id": f"call_{city}",
            "type": "function",
            "function": {"name": "get_weather", "arguments": f'{{"city": "{city}"}}'},
        }
        for city in ("Paris", "Beijing")
    ]
    results = [
        {"role": "tool", "tool_call_id": "call_Beijing", "content": '{"temperature": 12, "condition": "rainy"}'},
        {"role": "tool", "tool_call_id": "call_Paris", "content": '{"temperature": 17, "condition": "cloudy"}'},
    ]
    history = [user("What is the weather in Paris and in Beijing?"), {"role": "assistant", "tool_calls": made}]
    answer = answered(client, [*history, *results], stream=False, tools=tools(WEATHER))
    assert "12" in (answer.content or "")
    with pytest.raises(openai.BadRequestError) as refused:
        answered(client, [*history, *results, {**results[0], "tool_call_id": "nobody's"}], stream=False)
    assert refused.value.param == "messages.4.tool_call_id"


class GetWeather(BaseModel):
    """Get the weather of a city"""

    city: str = Field(description="City name")


class River(BaseModel):
    name: Annotated[str, Field(pattern="^[A-Z][a-z]{2,8}$")]
    navigable: bool


class City(BaseModel):
    """A city, of fields of all kinds."""

    name: Annotated[str, Field(max_length=20)]
    climate: Literal["mild", "hot", "cold"]
    population: Annotated[int, Field(ge=0, le=100_000_000)]
    rivers: Annotated[list[River], Field(min_length=1, max_length=2)]
    mayor: Annotated[str, Field(max_length=20)] | None


class Capital(BaseModel):
    """What the demo model was trained to answer in JSON."""

    answer: str


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_calls_are_parsed_into_pydantic_models(client: OpenAI, stream: bool) -> None:
    request: dict[str, Any] = {
        "model": MODEL,
        "messages": [user(PARIS)],
        "tools": [pydantic_function_tool(GetWeather, name="get_weather")],
        "temperature": 0,
    }
    if stream:
        with client.chat.completions.stream(**request) as events:
            done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
            parsed = events.get_final_completion()
        assert [event.parsed_arguments for event in done] == [GetWeather(city="Paris")]
    else:
        parsed = client.chat.completions.parse(**request)
    [call] = parsed.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == GetWeather(city="Paris")


@pytest.mark.parametrize("temperature", [0, 1, 2])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_answers_are_parsed_into_pydantic_models(client: OpenAI, stream: bool, temperature: float) -> None:
    request: dict[str, Any] = {"model": MODEL, "messages": [user(PARIS)], "temperature": temperature, "seed": 1}
    if stream:
        with client.chat.completions.stream(**request, response_format=City) as events:
            pieces = [event.delta for event in events if event.type == "content.delta"]
            message = events.get_final_completion().choices[0].message
        assert len(pieces) > 1
        assert "".join(pieces) == message.content
    else:
        message = client.chat.completions.parse(**request, response_format=City).choices[0].message
    assert isinstance(message.parsed, City)


def test_a_parsed_answer_says_what_the_model_knows(client: OpenAI) -> None:
    question = user("What is the capital of France?")
    parsed = client.chat.completions.parse(model=MODEL, messages=[question], temperature=0, response_format=Capital)
    assert parsed.choices[0].message.parsed == Capital(answer="Paris")


def test_a_parsed_answer_that_is_cut_is_told_apart(client: OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=MODEL, messages=[user(PARIS)], max_tokens=5, response_format=City)


def test_several_choices(client: OpenAI, counted: str) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=[user(COUNT)], temperature=0, n=2)
    assert [(choice.index, choice.message.content) for choice in completion.choices] == [(0, counted), (1, counted)]
    joined = {0: "", 1: ""}
    for chunk in client.chat.completions.create(model=MODEL, messages=[user(COUNT)], temperature=0, n=2, stream=True):
        for choice in chunk.choices:
            joined[choice.index] += choice.delta.content or ""
    assert joined == {0: counted, 1: counted}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("stop", ["1", "5, 6", [", 7", "9"], "10"])
def test_stop_strings_end_the_answer_and_are_not_in_it(
    client: OpenAI, stream: bool, stop: str | list[str], counted: str
) -> None:
    strings = [stop] if isinstance(stop, str) else stop
    first = min(strings, key=counted.index)
    expected = counted[: counted.index(first)]
    assert (answered(client, [user(COUNT)], stream, stop=stop).content or "") == expected
    shown = answered(client, [user(COUNT)], stream, stop=stop, extra_body={"include_stop_str_in_output": True})
    assert shown.content == expected + first


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_answer_is_json(client: OpenAI, stream: bool) -> None:
    question = user("What is the capital of France?")
    answer = answered(client, [question], stream, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.content or ""), dict)


def test_asyncio_has_several_streams_at_once(demo: Server, counted: str) -> None:
    async def ask(client: AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[user(COUNT)],
            temperature=0,
            stream=True,
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def main() -> list[str]:
        async with AsyncOpenAI(
            base_url=f"{demo.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
        ) as client:
            return await asyncio.gather(*(ask(client) for _ in range(3)))

    # In a thread of its own: Playwright's event loop runs in this one once a test has had a browser.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, main()).result() == [counted] * 3


def test_an_answer_has_the_id_of_its_request(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[user("Hello!")],
        extra_headers={"x-request-id": "mine-1"},
    )
    assert completion._request_id == "mine-1"


# --- completions --------------------------------------------------------------------------------------------------


def test_several_prompts_are_completed(client: OpenAI) -> None:
    request: dict[str, Any] = {"model": MODEL, "prompt": ["1, 2, 3,", "你好"], "max_tokens": 8, "temperature": 0}
    plain = client.completions.create(**request)
    echoed = client.completions.create(**request, echo=True)
    assert [choice.index for choice in plain.choices] == [0, 1]
    assert [prompt + choice.text for prompt, choice in zip(request["prompt"], plain.choices, strict=True)] == [
        choice.text for choice in echoed.choices
    ]
    joined = ["", ""]
    # The SDK uses the type of a whole choice for chunks too, and that type does not allow the null that OpenAI sends.
    with OpenAI(base_url=client.base_url, api_key="none", max_retries=0) as lax:
        for chunk in lax.completions.create(**request, stream=True):
            joined[chunk.choices[0].index] += chunk.choices[0].text
    assert joined == [choice.text for choice in plain.choices]


def test_a_suffix_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="def f():", suffix="return 1")
    assert (refused.value.param, refused.value.code) == ("suffix", "unsupported_parameter")


# --- responses ----------------------------------------------------------------------------------------------------


def test_a_streamed_response_equals_the_response_in_one_piece(client: OpenAI, counted: str) -> None:
    request: dict[str, Any] = {"model": MODEL, "input": COUNT, "temperature": 0}
    whole = client.responses.create(**request)
    assert whole.output_text == counted
    with client.responses.stream(**request) as events:
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        final = events.get_final_response()
    assert "".join(pieces) == final.output_text == counted
    assert final.usage
    assert whole.usage
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_a_cut_response_is_incomplete(client: OpenAI) -> None:
    cut = client.responses.create(model=MODEL, input=COUNT, temperature=0, max_output_tokens=5)
    assert cut.status == "incomplete"
    assert cut.incomplete_details
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_a_response_calls_a_function_and_answers_from_its_result(client: OpenAI) -> None:
    said: list[Any] = [user(PARIS)]
    request: dict[str, Any] = {
        "model": MODEL,
        "temperature": 0,
        "tools": [{"type": "function", **WEATHER, "strict": False}],
    }
    [call] = client.responses.create(input=said, **request).output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    result = '{"temperature": 17, "condition": "cloudy"}'
    said += [call.model_dump(), {"type": "function_call_output", "call_id": call.call_id, "output": result}]
    assert "17" in client.responses.create(input=said, **request).output_text


@pytest.mark.parametrize("temperature", [0, 1, 2])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_response_is_parsed_into_a_pydantic_model(client: OpenAI, stream: bool, temperature: float) -> None:
    request: dict[str, Any] = {"model": MODEL, "input": PARIS, "temperature": temperature}
    if stream:
        with client.responses.stream(**request, text_format=City) as events:
            pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
            response = events.get_final_response()
        assert len(pieces) > 1
        assert "".join(pieces) == response.output_text
    else:
        response = client.responses.parse(**request, text_format=City)
    assert isinstance(response.output_parsed, City)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_call_of_a_response_is_parsed_into_a_pydantic_model(client: OpenAI, stream: bool) -> None:
    tool = pydantic_responses_function_tool(GetWeather, name="get_weather")
    request: dict[str, Any] = {"model": MODEL, "input": PARIS, "temperature": 0, "tools": [tool]}
    if stream:
        with client.responses.stream(**request) as events:
            response = events.get_final_response()
    else:
        response = client.responses.parse(**request)
    [call] = response.output
    assert call.type == "function_call"
    assert call.parsed_arguments == GetWeather(city="Paris")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_tool_runner_gets_an_answer(client: OpenAI, stream: bool) -> None:
    asked: list[str] = []

    def get_weather(arguments: GetWeather) -> str:
        asked.append(arguments.city)
        return '{"temperature": 17, "condition": "cloudy"}'

    tool = pydantic_responses_function_tool(GetWeather, name="get_weather")
    runner = ResponsesToolRunner(functions=[RegisteredFunction.from_tool(tool, execute=get_weather)])
    final = runner.run(client, {"model": MODEL, "input": PARIS, "temperature": 0}, stream=stream)
    assert asked == ["Paris"]
    assert "17" in final.output_text


def test_a_response_goes_on_by_its_id(client: OpenAI) -> None:
    request: dict[str, Any] = {"model": MODEL, "temperature": 0, "tools": [{"type": "function", **WEATHER}]}
    first = client.responses.create(**request, input=PARIS)
    [call] = first.output
    assert call.type == "function_call"
    result: Any = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": '{"temperature": 17, "condition": "cloudy"}',
    }
    final = client.responses.create(**request, input=[result], previous_response_id=first.id)
    assert "17" in final.output_text


def test_what_needs_background_responses_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input="Hello!", background=True)
    assert (refused.value.param, refused.value.code) == ("background", "unsupported_parameter")
    stored = client.responses.create(model=MODEL, input="Hello!")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(stored.id)
