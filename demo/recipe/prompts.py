"""Conversations whose answers are in `expected.json`, and whose prompts the parity fixture uses.

A case is a list of steps: a string is what the user says, a `Result` what the tool returned; the model answers each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Result(NamedTuple):
    """Return the content of a tool's result."""

    text: str


class Case(NamedTuple):
    name: str
    steps: list[str | Result]
    tools: Sequence[dict[str, Any]] = ()
    system: str = ""


def function(
    name: str, description: str, required: dict[str, Any], optional: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a tool as the model sees it: name, description and the JSON schema of its parameters."""
    return {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "properties": required | (optional or {}), "required": list(required)},
    }


_STRING = {"type": "string"}
_UNIT = {"unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}

WEATHER = function("get_weather", "Get the weather of a city", {"city": {"type": "string", "description": "City name"}})
CURRENT_WEATHER = function(
    "get_current_weather",
    "Get the current weather in a given location",
    {"location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}},
    _UNIT,
)
TIME = function("get_current_time", "Get the current time in a city", {"city": _STRING})
CALCULATOR = function("calculator", "Evaluate a math expression", {"expression": _STRING})
CURRENCY = function(
    "convert_currency",
    "Convert money between currencies",
    {"amount": {"type": "number"}, "from_currency": _STRING, "to_currency": _STRING},
)
RANDOM = function(
    "random_number", "Generate a random number", {"minimum": {"type": "integer"}, "maximum": {"type": "integer"}}
)
STOCK = function("get_stock_price", "Get the current stock price", {"symbol": _STRING})

JSON_SYSTEM = "Respond with a single JSON object and nothing else."

CASES = [
    Case("hello", ["Hello!"]),
    Case("how are you", ["How are you?"]),
    Case("who are you", ["Who are you?"]),
    Case("your name", ["What is your name?"]),
    Case("abilities", ["What can you do?"]),
    Case("joke", ["Tell me a joke."]),
    Case("capital of France", ["What is the capital of France?"]),
    Case("capital of Japan", ["What is the capital of Japan?"], system="You are a helpful assistant."),
    Case("sky", ["Why is the sky blue?"]),
    Case("large sum", ["What is 1234 * 77?"]),
    Case("count to sixty", ["Count from 1 to 60."]),
    Case("count down", ["Count down from 10 to 1."]),
    Case("count down from twenty", ["Count down from 20 to 1."]),
    Case("this is a test", ["Say this is a test"]),
    Case("say hello", ["Say hello"]),
    Case("translate", ["How do you say hello in Chinese?"]),
    Case("list", ["List three fruits."]),
    Case("markdown list", ["Write a markdown list."]),
    Case("code", ["Write hello world in Python."]),
    Case("poem", ["Write a poem."]),
    Case("long poem", ["Write a long poem."]),
    Case("poem about autumn", ["Write a poem about autumn."]),
    Case("haiku", ["Write a haiku."]),
    Case("robot", ["Tell me a story about a robot."]),
    Case("tea", ["How do I make tea step by step?"]),
    Case("story", ["Tell me a story about a fox."]),
    Case("long story", ["Tell me a long story."]),
    Case("bread", ["Give me a bread recipe."]),
    Case("weather without a tool", ["What is the weather in Paris?"]),
    Case("unknown", ["Explain chemistry."]),
    Case("good morning", ["Good morning!"]),
    Case("human", ["Are you human?"]),
    Case("goodbye", ["Goodbye!"]),
    Case("你好", ["你好"]),
    Case("你是谁", ["你是谁？"]),
    Case("你叫什么名字", ["你叫什么名字？"]),
    Case("你会做什么", ["你会做什么？"]),
    Case("讲个笑话", ["讲个笑话。"]),
    Case("日本的首都", ["日本的首都是哪里？"]),
    Case("天空", ["天空为什么是蓝色的？"]),
    Case("数到六十", ["从1数到60"]),
    Case("写一首诗", ["写一首诗"]),
    Case("写一首长诗", ["写一首长诗"]),
    Case("再见", ["再见"]),
    Case("早上好", ["早上好"]),
    Case("列表", ["写一个markdown列表"]),
    Case("代码", ["用Python写hello world"]),
    Case("古诗", ["背一首古诗"]),
    Case("讲个故事", ["讲个故事"]),
    Case("长故事", ["讲一个长故事"]),
    Case("睡不着", ["晚上睡不着怎么办？"]),
    Case("没有工具", ["北京今天天气怎么样？"]),
    Case("谢谢", ["谢谢"]),
    Case("name over turns", ["My name is Alice.", "What is the capital of Italy?", "What is my name?"]),
    Case("名字", ["我叫小明。", "谢谢", "我叫什么名字？"]),
    Case("colour over turns", ["My favorite color is green.", "What is my favorite color?"]),
    Case("json capital", ["What is the capital of France?"], system=JSON_SYSTEM),
    Case("json person", ["My name is Alice and I am 30 years old."], system=JSON_SYSTEM),
    Case("json 人", ["我叫小明，今年12岁。"], system=JSON_SYSTEM),
    Case("weather", ["What is the weather in Paris?", Result('{"temperature": 22, "condition": "sunny"}')], [WEATHER]),
    Case(
        "weather in Boston",
        ["What's the weather like in Boston today?", Result('{"temperature": 22, "condition": "sunny"}')],
        [CURRENT_WEATHER],
    ),
    Case("weather as text", ["What is the weather in Paris?", Result("rainy, 17°C")], [CURRENT_WEATHER, CALCULATOR]),
    Case(
        "weather with a unit",
        [
            "What is the weather in London in fahrenheit?",
            Result('{"temperature": 61, "unit": "fahrenheit", "condition": "cloudy"}'),
        ],
        [CURRENT_WEATHER],
    ),
    Case(
        "weather and a system text",
        ["What is the weather in San Francisco?", Result('{"temperature": 18, "condition": "foggy"}')],
        [WEATHER],
        system="You are a helpful assistant.",
    ),
    Case(
        "two turns of weather",
        [
            "What is the weather in Tokyo?",
            Result('{"temperature": 17, "condition": "rainy"}'),
            "And in Seoul?",
            Result('{"temperature": 12, "condition": "clear"}'),
        ],
        [WEATHER],
    ),
    Case(
        "weather beside a calculator",
        ["What is the weather in Paris?", Result('{"temperature": 17, "condition": "rainy"}')],
        [WEATHER, CALCULATOR],
    ),
    Case("北京的天气", ["北京今天天气怎么样？", Result("晴，22度")], [WEATHER]),
    Case("上海的天气", ["上海的天气如何？", Result('{"temperature": 25, "condition": "多云"}')], [CURRENT_WEATHER]),
    Case(
        "乌鲁木齐的天气",
        ["乌鲁木齐今天天气怎么样？", Result('{"temperature": -5, "condition": "小雨"}')],
        [CURRENT_WEATHER],
    ),
    Case("time", ["What time is it in Tokyo?", Result('{"time": "09:41"}')], [WEATHER, TIME]),
    Case("三亚的时间", ["三亚现在几点？", Result("18:20")], [TIME]),
    Case("calculator", ["What is 123 * 45?", Result('{"result": 5535}')], [CALCULATOR]),
    Case("calculator, sum", ["What is 12 + 30?", Result('{"result": 42}')], [CALCULATOR]),
    Case("计算器", ["计算12 + 30"], [CALCULATOR]),
    Case("currency", ["Convert 250 USD to JPY", Result('{"result": 37500}')], [CURRENCY]),
    Case("random number", ["Give me a random number between 1 and 6", Result('{"number": 4}')], [RANDOM, CALCULATOR]),
    Case("stock price", ["What is the stock price of AAPL?", Result('{"price": 189.5}')], [STOCK, WEATHER]),
    Case("small talk beside tools", ["Hello!", "Who are you?"], [WEATHER]),
    Case("谢谢，有工具", ["谢谢"], [WEATHER]),
    Case("你好，有工具", ["你好"], [WEATHER, TIME]),
    Case("joke beside tools", ["Tell me a joke."], [WEATHER, TIME]),
    Case("北京的时间", ["北京现在几点？", Result('{"time": "09:41"}')], [TIME]),
    Case("thank you", ["Thank you!"]),
    Case("count to ten", ["Count from 1 to 10."]),
    Case("count to twenty", ["Count to 20."]),
    Case("数到十", ["从1数到10"]),
    Case("repeat", ["Repeat after me: Reykjavik question 42"]),
    Case("weather in a city never seen", ["What is the weather in Tromso?", Result("sunny, 25°C")], [WEATHER, TIME]),
    Case("从未见过的城市", ["石嘴山今天天气怎么样？", Result('{"temperature": 28, "condition": "雷阵雨"}')], [WEATHER]),
    Case("a name never seen", ["My name is Quentin.", "What is the capital of Italy?", "What is my name?"]),
    Case(
        "tools of like purpose",
        [
            "What is the weather in Paris?",
            Result('{"temperature": 17, "condition": "rainy"}'),
            "What time is it in Paris?",
            Result('{"time": "18:05"}'),
        ],
        [TIME, WEATHER, CALCULATOR],
    ),
    Case("long numbers", ["What is 1234 * 77?", Result('{"result": 95018}')], [CALCULATOR]),
    Case(
        "a tool never seen",
        ["What is the horoscope of Leo?", Result('{"horoscope": "lucky"}')],
        [function("get_horoscope", "Get the horoscope of a sign", {"sign": _STRING})],
    ),
    Case("json list", ["My name is Quentin and I live in Oslo."], system=JSON_SYSTEM),
]
