"""Dialogues with tools: declarations as clients send them, calls, results and the answers from the results."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from . import smalltalk as talk
from . import values
from .dialogues import SYSTEM_TEXTS, capital, counting, persona, short_turn, small_talk, translation, vary
from .prompt import Dialogue, Message, assistant, observation, system, tool_call, tools_system, user


class Tool(NamedTuple):
    """A declared function; `required` names the parameters that a call always gives."""

    name: str
    description: str
    properties: dict[str, dict[str, Any]]
    required: list[str]


class Exchange(NamedTuple):
    """A question, the arguments of the call it asks for, the tool's result and the answer from it."""

    question: str
    arguments: dict[str, Any]
    result: Any
    answer: str
    subject: str = ""  # what a follow-up question such as "and in Paris?" replaces


Ask = Callable[[Random, bool], Exchange]

CONDITIONS = [
    ("sunny", "晴"),
    ("cloudy", "多云"),
    ("rainy", "雨"),
    ("snowy", "雪"),
    ("windy", "大风"),
    ("foggy", "雾"),
    ("clear", "晴朗"),
    ("overcast", "阴"),
    ("light rain", "小雨"),
    ("thunderstorm", "雷阵雨"),
]


def _string(rng: Random, *descriptions: str) -> dict[str, Any]:
    """Return the schema of a string parameter, with one of the descriptions or none."""
    description = rng.choice((*descriptions, *descriptions, ""))
    return {"type": "string", "description": description} if description else {"type": "string"}


def weather(rng: Random) -> tuple[Tool, Ask]:
    parameter = rng.choice(("city", "city", "city", "location", "location", "place", "city_name"))
    name = rng.choice(
        (
            "get_weather",
            "get_weather",
            "get_weather",
            "get_current_weather",
            "get_current_weather",
            "weather",
            "query_weather",
            "weather_forecast",
            "fetch_weather",
            "getWeather",
            "lookup_weather",
        )
    )
    description = rng.choice(
        (
            "Get the current weather",
            "Get the current weather in a given location",
            "Get the weather of a city",
            "Get weather for a city",
            "Get current weather",
            "Get the weather",
            "Returns the current weather for a city",
            "Get the current weather for a location",
            "Look up the weather",
            "Current weather of a city",
            "查询城市的天气",
            "获取指定城市的天气",
            "Get current temperature for a given location.",
        )
    )
    properties = {
        parameter: _string(
            rng,
            "The city and state, e.g. San Francisco, CA",
            "The name of the city",
            "City name",
            "The city",
            "城市名称",
            "City and country e.g. Bogotá, Colombia",
            "The city to look up",
            "Name of the city, e.g. Paris",
            "城市",
        )
    }
    unit = rng.choice(("unit", "unit", "units")) if rng.random() < 0.4 else ""
    if unit:
        properties[unit] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
        if rng.random() < 0.3:
            properties[unit]["description"] = "The temperature unit"
    required = [parameter] if rng.random() < 0.85 or not unit else [parameter, unit]

    def ask(rng: Random, chinese: bool) -> Exchange:
        town = values.city(rng, chinese)
        arguments, scale = {parameter: town}, ""
        question = weather_question(rng, chinese).format(town)
        if unit and (rng.random() < 0.35 or unit in required):
            scale = rng.choice(("celsius", "fahrenheit"))
            arguments[unit] = scale
            if chinese:
                question = question.rstrip("？?。") + ("，用摄氏度" if scale == "celsius" else "，用华氏度")
            else:
                question = question.rstrip("?.") + rng.choice((" in ", " in ", " in degrees ")) + scale
        result, answer = weather_result(rng, chinese, town, parameter, scale)
        return Exchange(question, arguments, result, answer, town)

    return Tool(name, description, properties, required), ask


def weather_question(rng: Random, chinese: bool) -> str:
    """Return a question with `{}` for the city."""
    if chinese:
        question = rng.choice(
            (
                "{}今天天气怎么样",
                "{}今天天气怎么样",
                "{}的天气怎么样",
                "{}今天天气如何",
                "{}的天气如何",
                "查一下{}的天气",
                "{}天气",
                "今天{}的天气怎么样",
                "帮我查询{}的天气",
                "{}现在冷吗",
                "{}会下雨吗",
                "{}天气怎么样",
                "我想知道{}的天气",
                "{}的气温是多少",
                "告诉我{}的天气",
                "{}现在多少度",
                "帮我查一下{}的天气",
                "请问{}天气怎么样",
                "{}现在的天气怎么样",
                "请查询{}的天气",
            )
        )
    else:
        question = rng.choice(
            (
                "what is the weather in {}",
                "what is the weather in {}",
                "what is the weather in {}",
                "what's the weather like in {}",
                "what's the weather like in {} today",
                "what's the weather in {}",
                "how is the weather in {}",
                "weather in {}",
                "tell me the weather in {}",
                "is it raining in {}",
                "what is the temperature in {}",
                "how hot is it in {}",
                "check the weather in {}",
                "will it rain in {} today",
                "get the weather for {}",
                "what is the weather like in {} today",
                "what is the weather like in {}",
                "i want to know the weather in {}",
                "show me the weather for {}",
                "how is the weather in {} today",
                "is it cold in {}",
                "{} weather",
                "what's the current weather in {}",
                "what is the current weather in {}",
                "can you check the weather in {}",
                "how's the weather in {}",
                "what is the weather in {} today",
                "what is the weather in {} right now",
            )
        )
    return vary(rng, question, chinese)


def weather_result(rng: Random, chinese: bool, town: str, parameter: str, scale: str) -> tuple[Any, str]:
    """Return a weather tool's result, in one of the forms that clients send, and the answer from it."""
    english, word = rng.choice(CONDITIONS)
    condition_sent = word if rng.random() < (0.6 if chinese else 0.08) else english
    condition_told = word if chinese else english
    if not chinese and rng.random() < 0.12:
        condition_sent = condition_told = " ".join(values.invented_word(rng) for _ in range(rng.randint(1, 2)))
    number: Any = rng.randint(-20, 42) if scale != "fahrenheit" else rng.randint(0, 110)
    if rng.random() < 0.15:
        number = round(number + rng.randint(1, 9) / 10, 1)
    sign = "°F" if scale == "fahrenheit" else "°C"
    degrees_key = rng.choice(
        ("temperature", "temperature", "temperature", "temp", "temp_c" if sign == "°C" else "temp_f")
    )
    condition_key = rng.choice(
        ("condition", "condition", "weather", "description", "conditions", "summary", "sky", "天气")
    )
    kind = rng.random()
    has_number = has_condition = True
    if kind < 0.32:
        result: Any = {degrees_key: number, condition_key: condition_sent}
    elif kind < 0.42:
        result = {parameter: town, degrees_key: number, condition_key: condition_sent}
    elif kind < 0.50:
        result = {
            degrees_key: rng.choice((number, str(number))),
            "unit": scale or "celsius",
            condition_key: condition_sent,
        }
    elif kind < 0.56:
        result = {"location": town, degrees_key: str(number), "unit": scale or "celsius"}
        has_condition = False
    elif kind < 0.63:
        result = {condition_key: condition_sent, degrees_key: f"{number}{sign}"}
    elif kind < 0.69:
        result, has_condition = {degrees_key: number}, False
    elif kind < 0.80:
        result = rng.choice(
            (
                f"{number}{sign}, {condition_sent}",
                f"{condition_sent}, {number}{sign}",
                f"{condition_sent}，{number}度",
                f"{condition_sent}，{number}{sign}",
                f"{number} degrees and {condition_sent}",
            )
        )
    elif kind < 0.86:
        result, has_number = rng.choice(({condition_key: condition_sent}, condition_sent)), False
    elif kind < 0.92:
        result, has_condition = rng.choice((f"{number}{sign}", f"{number}", f"{number}度")), False
    else:
        error = rng.choice(("city not found", "unknown city", "timeout", "not found", "service unavailable"))
        result = rng.choice(({"error": error}, f"error: {error}"))
        return result, f"抱歉，工具报告了错误：{error}。" if chinese else f"Sorry, the tool reported an error: {error}."
    if isinstance(result, dict) and rng.random() < 0.2:
        extras = {"humidity": rng.randint(10, 99), "wind": rng.randint(0, 60), "wind_kph": rng.randint(0, 60)}
        key = rng.choice(list(extras))
        result[key] = extras[key]
    if chinese:
        if not has_number:
            return result, f"{town}现在的天气是{condition_told}。"
        return result, (
            f"{town}现在的天气是{condition_told}，气温{number}{sign}。"
            if has_condition
            else f"{town}现在的气温是{number}{sign}。"
        )
    if not has_number:
        return result, f"The weather in {town} is {condition_told}."
    return result, (
        f"The weather in {town} is {condition_told} with a temperature of {number}{sign}."
        if has_condition
        else f"The temperature in {town} is {number}{sign}."
    )


def current_time(rng: Random) -> tuple[Tool, Ask]:
    parameter = rng.choice(("city", "city", "city", "location", "timezone", "place"))
    name = rng.choice(
        ("get_current_time", "get_current_time", "get_time", "current_time", "get_local_time", "query_time")
    )
    description = rng.choice(
        (
            "Get the current time",
            "Get the current time in a city",
            "Get the local time of a city",
            "Returns the local time for a place",
            "Query the time",
            "查询当前时间",
            "获取城市的当前时间",
        )
    )
    properties = {parameter: _string(rng, "The city", "City name", "The name of the city", "Name of the place", "城市")}

    def ask(rng: Random, chinese: bool) -> Exchange:
        town = values.city(rng, chinese)
        clock = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
        shown = rng.choice((clock, clock, clock + f":{rng.randint(0, 59):02d}", "2024-05-17 " + clock))
        question = rng.choice(
            (
                "{}现在几点",
                "{}现在几点了",
                "现在{}是几点",
                "查一下{}的时间",
                "{}的当地时间是多少",
                "{}几点了",
                "{}现在是什么时间",
            )
            if chinese
            else (
                "what time is it in {}",
                "what time is it in {}",
                "what time is it in {} now",
                "what is the time in {}",
                "tell me the time in {}",
                "current time in {}",
                "what's the local time in {}",
                "time in {}",
                "what's the time in {}",
                "what is the current time in {}",
                "do you know what time it is in {}",
            )
        )
        result = rng.choice(
            ({"time": shown}, {"time": shown}, {"current_time": shown}, shown, {parameter: town, "time": shown})
        )
        answer = f"{town}现在的时间是{shown}。" if chinese else f"The current time in {town} is {shown}."
        return Exchange(vary(rng, question, chinese).format(town), {parameter: town}, result, answer, town)

    return Tool(name, description, properties, [parameter]), ask


def calculator(rng: Random) -> tuple[Tool, Ask]:
    parameter = rng.choice(("expression", "expression", "expression", "expr", "formula"))
    name = rng.choice(("calculator", "calculator", "calculate", "calc", "evaluate", "compute"))
    description = rng.choice(
        (
            "Evaluate a math expression",
            "A calculator",
            "Calculate the result of an expression",
            "Evaluate an arithmetic expression",
            "Compute a mathematical expression",
            "计算数学表达式",
            "Do arithmetic",
            "Evaluates a mathematical expression",
        )
    )
    properties = {
        parameter: _string(
            rng,
            "The expression to evaluate",
            "Math expression, e.g. 2 + 2",
            "Expression",
            "数学表达式",
            "The arithmetic expression",
        )
    }

    def ask(rng: Random, chinese: bool) -> Exchange:
        numbers = [rng.randint(0, rng.choice((20, 100, 999, 9999))) for _ in range(rng.choice((2, 2, 2, 2, 3)))]
        numbers[1:] = [number or 7 for number in numbers[1:]]
        signs = [rng.choice("+-**/") for _ in numbers[1:]]
        gap = rng.choice((" ", " ", ""))
        expression = str(numbers[0]) + "".join(gap + s + gap + str(n) for s, n in zip(signs, numbers[1:], strict=True))
        value: Any = round(eval(expression), 2)  # only digits and + - * /
        value = int(value) if value == int(value) else value
        written = expression
        kind = rng.random()
        if len(numbers) == 2 and kind < 0.2:
            words = (
                {"+": "加", "-": "减", "*": "乘以", "/": "除以"}
                if chinese
                else {"+": " plus ", "-": " minus ", "*": " times ", "/": " divided by "}
            )
            expression = f"{numbers[0]} {signs[0]} {numbers[1]}"
            written = f"{numbers[0]}{words[signs[0]]}{numbers[1]}"
        elif len(numbers) == 2 and signs[0] == "*" and kind < 0.35:
            written = expression.replace("*", "×")
        question = rng.choice(
            (
                "计算{}",
                "{}等于多少",
                "算一下{}",
                "帮我算{}",
                "请计算{}",
                "{}是多少",
            )
            if chinese
            else (
                "what is {}",
                "what is {}",
                "what is {}",
                "calculate {}",
                "compute {}",
                "how much is {}",
                "please calculate {}",
                "can you calculate {}",
                "what's {}",
            )
        )
        result = rng.choice(({"result": value}, {"result": value}, value, {"value": value}, {"answer": value}))
        answer = f"{expression} = {value}" + ("。" if chinese else ".")
        return Exchange(vary(rng, question, chinese).format(written), {parameter: expression}, result, answer)

    return Tool(name, description, properties, [parameter]), ask


CURRENCIES = "USD EUR CNY JPY GBP KRW AUD CAD CHF INR HKD SGD".split()
_CURRENCIES_CHINESE = {"美元": "USD", "欧元": "EUR", "人民币": "CNY", "日元": "JPY", "英镑": "GBP"}
_CURRENCIES_ENGLISH = {
    "dollars": "USD",
    "US dollars": "USD",
    "euros": "EUR",
    "yuan": "CNY",
    "yen": "JPY",
    "pounds": "GBP",
}


def currency(rng: Random) -> tuple[Tool, Ask]:
    source, target = rng.choice((("from_currency", "to_currency"),) * 4 + (("source", "target"), ("base", "quote")))
    name = rng.choice(("convert_currency", "convert_currency", "currency_converter", "exchange", "convert"))
    description = rng.choice(
        (
            "Convert money between currencies",
            "Convert an amount from one currency to another",
            "Currency conversion",
            "Convert currency",
            "货币换算",
        )
    )
    properties = {
        "amount": rng.choice(({"type": "number"}, {"type": "number", "description": "The amount of money"})),
        source: _string(rng, "Source currency", "Currency code, e.g. USD"),
        target: _string(rng, "Target currency", "Currency code, e.g. EUR"),
    }

    def ask(rng: Random, chinese: bool) -> Exchange:
        amount: Any = rng.choice(
            (rng.randint(1, 20), rng.randint(1, 5000), 10 * rng.randint(1, 99), 100, 50, 250, 1000)
        )
        if rng.random() < 0.12:
            amount = round(amount + rng.randint(1, 99) / 100, 2)
        codes = rng.sample(CURRENCIES, 2)
        written = list(codes)
        if rng.random() < 0.25:
            table = _CURRENCIES_CHINESE if chinese else _CURRENCIES_ENGLISH
            written = rng.sample(list(table), 2)
            codes = [table[word] for word in written]
            if codes[0] == codes[1]:
                written, codes = [written[0], "欧元" if chinese else "euros"], ["USD", "EUR"]
        value = rng.choice((round(rng.uniform(1, 9000), 2), rng.randint(1, 90000), round(rng.uniform(1, 500), 1)))
        question = rng.choice(
            (
                "把{}{}换成{}",
                "{} {}等于多少{}",
                "{}{}是多少{}",
                "{}{}兑换成{}是多少",
                "把{} {}换算成{}",
            )
            if chinese
            else (
                "convert {} {} to {}",
                "convert {} {} to {}",
                "how much is {} {} in {}",
                "change {} {} into {}",
                "exchange {} {} to {}",
                "what is {} {} in {}",
            )
        )
        result = rng.choice(
            (
                {"result": value},
                {"result": value},
                value,
                {"amount": value},
                {"converted": value},
                {"amount": value, "currency": codes[1]},
            )
        )
        answer = (
            f"{amount} {codes[0]}等于{value} {codes[1]}。" if chinese else f"{amount} {codes[0]} is {value} {codes[1]}."
        )
        return Exchange(
            vary(rng, question, chinese).format(amount, *written),
            {"amount": amount, source: codes[0], target: codes[1]},
            result,
            answer,
        )

    return Tool(name, description, properties, ["amount", source, target]), ask


def random_number(rng: Random) -> tuple[Tool, Ask]:
    low, high = rng.choice((("minimum", "maximum"),) * 3 + (("min", "max"), ("low", "high"), ("start", "end")))
    name = rng.choice(("random_number", "random_number", "get_random_number", "generate_random_number", "random_int"))
    description = rng.choice(
        (
            "Generate a random number",
            "Returns a random integer",
            "Generate a random integer in a range",
            "Get a random number",
            "生成一个随机数",
        )
    )
    described = rng.random() < 0.5
    properties: dict[str, dict[str, Any]] = {low: {"type": "integer"}, high: {"type": "integer"}}
    if described:
        properties[low]["description"], properties[high]["description"] = rng.choice(
            (("The lower bound", "The upper bound"), ("Smallest value", "Largest value"), ("最小值", "最大值"))
        )

    def ask(rng: Random, chinese: bool) -> Exchange:
        first = rng.choice((0, 1, 1, 1, 5, 10, rng.randint(2, 99)))
        last = first + rng.choice((5, 9, 19, 49, 99, 100, rng.randint(1, 900)))
        question = rng.choice(
            (
                "生成一个{}到{}之间的随机数",
                "给我一个{}到{}的随机数",
                "来一个{}到{}之间的随机数",
                "随机给我一个{}到{}之间的数",
            )
            if chinese
            else (
                "give me a random number between {} and {}",
                "give me a random number between {} and {}",
                "generate a random number from {} to {}",
                "pick a number between {} and {}",
                "random number between {} and {}",
                "pick a random number from {} to {}",
                "i need a random number between {} and {}",
            )
        )
        value = rng.randint(first, last)
        result = rng.choice((value, {"number": value}, {"result": value}, {"value": value}, {"random_number": value}))
        answer = f"随机数是{value}。" if chinese else f"The random number is {value}."
        return Exchange(vary(rng, question, chinese).format(first, last), {low: first, high: last}, result, answer)

    return Tool(name, description, properties, [low, high]), ask


_SYMBOLS = (
    "AAPL GOOG MSFT AMZN TSLA NVDA META NFLX INTC AMD IBM ORCL BABA TSM SAP UBER ADBE CSCO QCOM DIS KO PEP NKE V JPM "
    "BA GE F GM T"
).split()


def stock_price(rng: Random) -> tuple[Tool, Ask]:
    parameter = rng.choice(("symbol", "symbol", "symbol", "ticker", "code"))
    name = rng.choice(("get_stock_price", "get_stock_price", "stock_price", "get_quote", "query_stock", "track"))
    description = rng.choice(
        (
            "Get the current stock price",
            "Get the price of a stock",
            "Get the latest price of a stock",
            "Query a stock price",
            "追踪指定股票的实时价格",
            "查询股票价格",
        )
    )
    properties = {
        parameter: _string(rng, "The ticker symbol", "Stock symbol, e.g. AAPL", "The stock symbol", "股票代码")
    }

    def ask(rng: Random, chinese: bool) -> Exchange:
        symbol = rng.choice(_SYMBOLS)
        if rng.random() < 0.4:
            symbol = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.randint(2, 5)))
        elif rng.random() < 0.12:
            symbol = str(rng.randint(10000, 699999))
        price = rng.choice((round(rng.uniform(1, 900), 2), rng.randint(1, 2000)))
        question = rng.choice(
            (
                "{}的股价是多少",
                "查询股票{}的价格",
                "帮我查询股票{}的价格",
                "{}股票现在多少钱",
                "{}的股票价格是多少",
                "查一下{}的股价",
            )
            if chinese
            else (
                "what is the stock price of {}",
                "what is the price of {} stock",
                "how much is {} trading at",
                "get the stock price for {}",
                "show me the {} stock price",
                "stock price of {}",
                "what is the price of {}",
                "what's the stock price of {}",
                "what is {} trading at",
            )
        )
        result = rng.choice(
            (
                {"price": price},
                {"price": price},
                price,
                {parameter: symbol, "price": price},
                {"price": price, "currency": "USD"},
            )
        )
        answer = f"{symbol}的价格是{price}。" if chinese else f"The price of {symbol} is {price}."
        return Exchange(vary(rng, question, chinese).format(symbol), {parameter: symbol}, result, answer, symbol)

    return Tool(name, description, properties, [parameter]), ask


_PROPERTIES = (
    "population status balance score size weight owner address phone email author salary age rating distance height "
    "version schedule menu stock level definition recipe route grade manager discount deadline budget duration area "
    "history capital leader director horoscope lifespan"
).split()
_THINGS = (
    "product user city order book movie company car employee student team country item account server project flight "
    "train hotel game song planet river mountain building sign breed"
).split()


def lookup(rng: Random) -> tuple[Tool, Ask]:
    """Return an invented tool that looks up a property of a thing; its names are only in the declaration."""
    prop, thing = rng.choice(_PROPERTIES), rng.choice(_THINGS)
    if rng.random() < 0.2:
        prop = values.invented_word(rng)
    if rng.random() < 0.2:
        thing = values.invented_word(rng)
    verb = rng.choice(("get", "get", "query", "find", "lookup"))
    name = rng.choice((f"{verb}_{prop}", f"{verb}_{thing}_{prop}", f"{thing}_{prop}"))
    parameter = rng.choice((thing, thing, f"{thing}_name", "name"))
    description = rng.choice(
        (f"Get the {prop} of a {thing}", f"Returns the {prop} for a given {thing}", f"Find the {prop} of a {thing}")
    )
    properties = {parameter: _string(rng, f"The {thing}", f"The name of the {thing}")}

    def ask(rng: Random, chinese: bool) -> Exchange:
        value = rng.choice(
            (
                values.invented_name(rng),
                values.city(rng, False),
                values.person(rng, False),
                rng.choice("ABCDEFGHXYZ") + str(rng.randint(1, 999)),
                rng.choice(talk.NOUNS_ENGLISH),
            )
        )
        question = rng.choice(
            (
                "what is the {} of {}",
                "what's the {} of {}",
                "tell me the {} of {}",
                "get the {} of {}",
                "find the {} of {}",
                "look up the {} of {}",
                "give me the {} of {}",
            )
        )
        found = rng.choice((rng.randint(1, 9999), values.invented_name(rng), rng.choice(talk.NOUNS_ENGLISH)))
        result = rng.choice(({prop: found}, {prop: found}, {"result": found}, found))
        return Exchange(
            vary(rng, question, False).format(prop, value),
            {parameter: value},
            result,
            f"The {prop} of {value} is {found}.",
        )

    return Tool(name, description, properties, [parameter]), ask


FAMILIES: list[tuple[Callable[[Random], tuple[Tool, Ask]], float]] = [
    (weather, 40),
    (current_time, 15),
    (calculator, 14),
    (currency, 9),
    (random_number, 8),
    (stock_price, 8),
    (lookup, 10),
]


def declaration(rng: Random, tool: Tool) -> dict[str, Any]:
    """Return a tool as the server shows it to the model, with the variety of schemas that clients send."""
    entries: list[tuple[str, Any]] = [("type", "object"), ("properties", tool.properties)]
    if rng.random() < 0.9:
        entries.append(("required", tool.required))
    if rng.random() < 0.2:
        entries.append(("additionalProperties", False))
    if rng.random() < 0.15:
        rng.shuffle(entries)
    description = rng.choice([{"description": tool.description}] * 30 + [{"description": ""}, {}, {}])
    return {"name": tool.name, **description, "parameters": dict(entries)}


def result_text(rng: Random, result: Any) -> str:
    """Return a result as clients send it: plain text unchanged, anything else as JSON."""
    if isinstance(result, str):
        return result
    return json.dumps(
        result,
        ensure_ascii=rng.random() < 0.1,
        indent=rng.choice((None, None, None, None, 2)),
        separators=rng.choice((None, None, None, (",", ":"))),
    )


_NEEDS_TOOL = (
    "weather",
    "time",
    "rain",
    "clock",
    "天气",
    "几点",
    "几号",
    "星期几",
    "下雨",
    "时间",
    "day is it",
    "date",
)


def plain_turn(rng: Random, chinese: bool) -> Dialogue:
    """Return small talk with tools declared, which gets a plain answer."""
    while True:
        question, answer = rng.choices((small_talk, persona, capital, translation, counting), (30, 40, 12, 8, 5))[0](
            rng, chinese
        )
        if len(answer) <= 160 and not any(text in question.lower() for text in _NEEDS_TOOL):
            return [user(question), assistant(answer)]


def called(rng: Random, tool: Tool, exchange: Exchange) -> Dialogue:
    """Return a question, a call, its result and the answer."""
    return [
        user(exchange.question),
        tool_call(tool.name, exchange.arguments),
        observation(result_text(rng, exchange.result)),
        assistant(exchange.answer),
    ]


def two_cities(rng: Random, tool: Tool, ask: Ask, chinese: bool) -> Dialogue:
    """Return a question about two cities: one call after the other, then one answer."""
    first, second = ask(rng, chinese), ask(rng, chinese)
    parameter = next(iter(first.arguments))
    question = (
        rng.choice(("{}和{}的天气怎么样", "{}和{}今天天气怎么样", "查一下{}和{}的天气"))
        if chinese
        else rng.choice(
            ("what is the weather in {} and {}", "what's the weather like in {} and {}", "weather in {} and {}")
        )
    )
    dialogue = [user(vary(rng, question, chinese).format(first.subject, second.subject))]
    told = []
    for exchange in (first, second):
        (english, word), degrees = rng.choice(CONDITIONS), rng.randint(-20, 42)
        dialogue += [
            tool_call(tool.name, {parameter: exchange.subject}),
            observation(result_text(rng, {"temperature": degrees, "condition": english})),
        ]
        told.append(
            f"{exchange.subject}现在的天气是{word}，气温{degrees}°C"
            if chinese
            else f"in {exchange.subject} is {english} with a temperature of {degrees}°C"
        )
    return [*dialogue, assistant("，".join(told) + "。" if chinese else "The weather " + " and ".join(told) + ".")]


def tool_dialogue(rng: Random) -> Dialogue:
    """Return one training dialogue with one to four declared tools."""
    families = {
        family: family(rng)
        for family in (
            rng.choices(*zip(*FAMILIES, strict=True))[0] for _ in range(rng.choice((1, 1, 1, 2, 2, 2, 3, 4)))
        )
    }
    declared = list(families.values())
    if len({tool.name for tool, _ in declared}) < len(declared):
        return tool_dialogue(rng)
    caller_text = rng.choice(SYSTEM_TEXTS) if rng.random() < 0.25 else ""
    dialogue: list[Message] = [tools_system([declaration(rng, tool) for tool, _ in declared], caller_text)]
    mostly_chinese = rng.random() < 0.42
    for _ in range(rng.choice((1, 2, 3, 4, 5))):
        chinese = mostly_chinese if rng.random() < 0.9 else not mostly_chinese
        if rng.random() < 0.17:
            dialogue += plain_turn(rng, chinese)
            continue
        family = rng.choice(list(families))
        tool, ask = families[family]
        chinese = chinese and family is not lookup
        kind = rng.random()
        if family is weather and kind < 0.06 and len(tool.required) == 1:
            dialogue += two_cities(rng, tool, ask, chinese)
            continue
        exchange = ask(rng, chinese)
        dialogue += called(rng, tool, exchange)
        if family in (weather, current_time) and len(exchange.arguments) == 1 and kind > 0.88:
            other = ask(rng, chinese)
            if len(other.arguments) == 1:
                follow_up = rng.choice(
                    ("那{}呢？", "{}呢？") if chinese else ("and in {}?", "And in {}?", "What about {}?", "and {}?")
                )
                dialogue += called(rng, tool, other._replace(question=follow_up.format(other.subject)))
    if weather not in families and current_time not in families and rng.random() < 0.06:
        dialogue += no_such_tool(rng, mostly_chinese)
    return dialogue


def no_such_tool(rng: Random, chinese: bool) -> Dialogue:
    """Return a question about weather that no declared tool can answer: there are none, or only others."""
    question = weather_question(rng, chinese).format(values.city(rng, chinese))
    answer = (
        "没有工具我看不到天气。给我一个天气工具，我就能查询。"
        if chinese
        else "I cannot see the weather without a tool. Give me a weather tool and I will call it."
    )
    if rng.random() < 0.3:
        question = vary(rng, "{}现在几点" if chinese else "what time is it in {}", chinese).format(
            values.city(rng, chinese)
        )
        answer = answer.replace("天气", "时间").replace("the weather", "a clock").replace("a weather", "a time")
    return [user(question), assistant(answer)]


def without_tools(rng: Random) -> Dialogue:
    """Return a question that needs a tool when none is declared."""
    chinese = rng.random() < 0.42
    start = [system(rng.choice(SYSTEM_TEXTS))] if rng.random() < 0.3 else []
    before = short_turn(rng, chinese) if rng.random() < 0.3 else []
    return start + before + no_such_tool(rng, chinese)
