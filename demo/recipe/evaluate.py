"""Measure the model file in chatglm-cpp: `python -m demo.recipe.evaluate`. It needs chatglm-cpp, not PyTorch.

With `--write` the answers to `prompts.py` go into `demo/expected.json`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from . import cities, dialogues, prompts, tools, values
from . import smalltalk as talk
from .generate import DemoModel, parse_arguments
from .prompt import Dialogue, Message, assistant, observation, system, tool_call, tools_system, user

DEMO = Path(__file__).resolve().parents[1]
SEED = 7

Question = tuple[Dialogue, Message]  # a prompt and the answer that is right


def run_case(model: DemoModel, case: prompts.Case) -> list[dict[str, Any]]:
    """Return the whole conversation of a case with the model's answers, as plain values for `expected.json`."""
    dialogue: Dialogue = []
    if case.tools:
        dialogue.append(tools_system(case.tools, case.system))
    elif case.system:
        dialogue.append(system(case.system))
    written: list[dict[str, Any]] = []
    for step in case.steps:
        if isinstance(step, prompts.Result):
            dialogue.append(observation(step.text))
            written.append({"role": "tool", "content": step.text})
        else:
            dialogue.append(user(step))
            written.append({"role": "user", "content": step})
        answer = model.answer(dialogue)
        dialogue.append(answer)
        if answer.metadata:
            call = {"name": answer.metadata, "arguments": parse_arguments(answer.content)}
            written.append({"role": "assistant", "tool_call": call})
        else:
            written.append({"role": "assistant", "content": answer.content})
    return written


def expected_answers(model: DemoModel) -> list[dict[str, Any]]:
    return [
        {"name": case.name, "system": case.system, "tools": case.tools, "messages": run_case(model, case)}
        for case in prompts.CASES
    ]


def city_questions(names: list[str], chinese: bool) -> Iterator[Question]:
    """Return one weather question for each city, with a tool as clients declare it and a second tool."""
    rng = Random(SEED)
    for name in names:
        question = tools.weather_question(rng, chinese).format(name)
        declared = [
            rng.choice(((prompts.WEATHER, "city"), (prompts.CURRENT_WEATHER, "location"))),
            (rng.choice((prompts.TIME, prompts.CALCULATOR, prompts.CURRENCY, prompts.RANDOM, prompts.STOCK)), ""),
        ]
        (weather, parameter), (other, _) = declared
        both = [weather, other] if rng.random() < 0.5 else [other, weather]
        yield [tools_system(both), user(question)], tool_call(weather["name"], {parameter: name})


def family_questions(family: Callable, count: int, chinese: bool, after_result: bool) -> Iterator[Question]:
    """Return new random questions for one kind of tool: the call, or the answer from its result."""
    rng = Random(SEED + 1)
    for _ in range(count):
        tool, ask = family(rng)
        exchange = ask(rng, chinese)
        call = tool_call(tool.name, exchange.arguments)
        prompt = [tools_system([tools.declaration(rng, tool)]), user(exchange.question)]
        if after_result:
            result = observation(tools.result_text(rng, exchange.result))
            yield [*prompt, call, result], assistant(exchange.answer)
        else:
            yield prompt, call


def topic_questions(topics: list[talk.Topic], chinese: bool, beside_tools: bool = False) -> Iterator[Question]:
    """Return every wording of every topic once."""
    rng = Random(SEED + 2)
    start = [tools_system([prompts.WEATHER, prompts.CALCULATOR])] if beside_tools else []
    for topic in topics:
        for question in topic.questions if not beside_tools else topic.questions[:1]:
            yield [*start, user(dialogues.vary(rng, question, chinese))], assistant(topic.answer)


def capital_questions(chinese: bool) -> Iterator[Question]:
    for country, town, country_chinese, town_chinese in talk.CAPITALS:
        if chinese:
            yield [user(f"{country_chinese}的首都是哪里？")], assistant(f"{country_chinese}的首都是{town_chinese}。")
        else:
            yield [user(f"What is the capital of {country}?")], assistant(f"The capital of {country} is {town}.")


def generated_questions(make: Callable[[Random], Dialogue], count: int) -> Iterator[Question]:
    """Return the last answers of newly generated dialogues."""
    rng = Random(SEED + 3)
    for _ in range(count):
        dialogue = make(rng)
        yield dialogue[:-1], dialogue[-1]


def unseen_name_questions(chinese: bool) -> Iterator[Question]:
    """Return questions for a name that no training dialogue has, asked one turn later."""
    rng = Random(SEED + 4)
    names = cities.HELD_OUT_CHINESE if chinese else [name for name in cities.HELD_OUT_ENGLISH if " " not in name]
    for name in names[:40]:
        if chinese:
            yield (
                [
                    user(f"我叫{name}。"),
                    assistant(f"很高兴认识你，{name}！"),
                    *dialogues.short_turn(rng, True),
                    user("我叫什么名字？"),
                ],
                assistant(f"你叫{name}。"),
            )
        else:
            yield (
                [
                    user(f"My name is {name}."),
                    assistant(f"Nice to meet you, {name}!"),
                    *dialogues.short_turn(rng, False),
                    user("What is my name?"),
                ],
                assistant(f"Your name is {name}."),
            )


def counting_questions(chinese: bool) -> Iterator[Question]:
    for last in range(2, 61, 2):
        numbers = list(map(str, range(1, last + 1)))
        if chinese:
            yield [user(f"从1数到{last}")], assistant("、".join(numbers) + "。")
        else:
            yield [user(f"Count from 1 to {last}.")], assistant(", ".join(numbers))


def sections() -> Iterator[tuple[str, Iterator[Question]]]:
    """Return the rows of the report."""
    yield "weather call, English cities of the training", city_questions(cities.ENGLISH, False)
    yield "weather call, Chinese cities of the training", city_questions(cities.CHINESE, True)
    yield "weather call, English cities never seen", city_questions(cities.HELD_OUT_ENGLISH, False)
    yield "weather call, Chinese cities never seen", city_questions(cities.HELD_OUT_CHINESE, True)
    for family, _ in tools.FAMILIES:
        for language, chinese in (("English", False), ("Chinese", True)):
            if family is tools.lookup and chinese:
                continue
            name = family.__name__.replace("_", " ") if family is not tools.lookup else "invented tool"
            yield f"{name}: random calls, {language}", family_questions(family, 60, chinese, False)
            yield f"{name}: answers from results, {language}", family_questions(family, 60, chinese, True)
    yield "small talk, English", topic_questions(talk.SMALL_TALK_ENGLISH, False)
    yield "small talk, Chinese", topic_questions(talk.SMALL_TALK_CHINESE, True)
    yield "longer texts, English", topic_questions(talk.LONG_ENGLISH, False)
    yield "longer texts, Chinese", topic_questions(talk.LONG_CHINESE, True)
    general = [
        topic for topic in talk.SMALL_TALK_ENGLISH[:40] if "weather" not in topic.answer and "clock" not in topic.answer
    ]
    yield "small talk beside tools, English", topic_questions(general, False, beside_tools=True)
    general = [topic for topic in talk.SMALL_TALK_CHINESE[:40] if "工具我" not in topic.answer]
    yield "small talk beside tools, Chinese", topic_questions(general, True, beside_tools=True)
    yield "capitals, English", capital_questions(False)
    yield "capitals, Chinese", capital_questions(True)
    yield "counting from 1, English", counting_questions(False)
    yield "counting from 1, Chinese", counting_questions(True)
    yield "a name never seen, asked for two turns later, English", unseen_name_questions(False)
    yield "a name never seen, asked for two turns later, Chinese", unseen_name_questions(True)
    yield "JSON answers, English", generated_questions(lambda rng: dialogues.json_answer(rng, False), 80)
    yield "JSON answers, Chinese", generated_questions(lambda rng: dialogues.json_answer(rng, True), 80)
    yield (
        "repeating random phrases",
        generated_questions(
            lambda rng: [user("Repeat after me: " + (phrase := values.phrase(rng))), assistant(phrase)], 80
        ),
    )


def report(model: DemoModel, only: str, show_wrong: bool) -> None:
    """Print a Markdown table of how many answers are right, word for word."""
    rows = []
    for name, questions in sections():
        if not re.search(only, name):
            continue
        pairs = list(questions)
        right = 0
        for dialogue, wanted in pairs:
            given = model.answer(dialogue)
            right += given == wanted
            if show_wrong and given != wanted:
                print(
                    f"{dialogue[-1].content!r}: {given.metadata}{given.content!r}, not {wanted.metadata}{wanted.content!r}"
                )
        rows.append(f"| {name} | {right} of {len(pairs)} | {100 * right / len(pairs):.1f} % |")
        print(rows[-1], flush=True)
    print("\n| What | Right | |\n| --- | --- | --- |\n" + "\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.recipe.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO / "chatglm3-demo.q8_0.bin")
    parser.add_argument("--only", default="", help="measure only the rows that match this regular expression")
    parser.add_argument("--show-wrong", action="store_true", help="print each wrong answer")
    parser.add_argument("--write", action="store_true", help="write demo/expected.json instead of measuring")
    arguments = parser.parse_args()
    model = DemoModel(arguments.model)
    if arguments.write:
        text = json.dumps(expected_answers(model), ensure_ascii=False, indent=1)
        (DEMO / "expected.json").write_text(text + "\n", encoding="utf-8")
    else:
        report(model, arguments.only, arguments.show_wrong)


if __name__ == "__main__":
    main()
