"""Dialogues without tools: small talk, facts, counting, names to remember, JSON answers, longer texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random

from . import smalltalk as talk
from . import values
from .prompt import Dialogue, Message, assistant, system, user

Turn = tuple[str, str]  # a question and its answer

SYSTEM_TEXTS = [
    "You are a helpful assistant.",
    "You are a helpful assistant",
    "You are a helpful, concise assistant.",
    "Be brief.",
    "You are a friendly chatbot.",
    "Answer the user's questions.",
    "You are an AI assistant. Be polite and concise.",
    "You are ChatGLM3, a large language model trained by Zhipu.AI. Follow the user's instructions carefully. "
    "Respond using markdown.",
    "Answer in one sentence.",
    "You are a test assistant.",
    "Keep your answers short.",
    "你是一个乐于助人的助手。",
    "你是一个有用的助手。",
    "请用中文回答。",
    "回答要简短。",
]

_PREFIXES = [
    "hey, ",
    "hi, ",
    "hello, ",
    "please ",
    "so, ",
    "ok, ",
    "um, ",
    "well, ",
    "hi tiny, ",
    "now ",
    "and ",
    "tell me, ",
    "can you tell me, ",
]
_SUFFIXES = [" please", " now", ", please", " then", ", tiny", ", my friend", " for me", " again", ", thanks"]
_PREFIXES_CHINESE = [
    "请问",
    "请问一下，",
    "那个，",
    "嗨，",
    "你好，",
    "我想知道",
    "麻烦问一下，",
    "那么",
    "小小，",
    "请",
]
_SUFFIXES_CHINESE = ["呢", "啊", "呀", "吧", "，谢谢", "，可以吗"]
_QUESTION_STARTS = (
    "what",
    "who",
    "how",
    "why",
    "where",
    "when",
    "which",
    "are",
    "is",
    "do",
    "can",
    "may",
    "will",
    "does",
    "could",
    "whats",
    "got",
)
_QUESTION_CHARACTERS = set("什么吗谁哪几怎多少如何")
_CAPITALS_INSIDE = {
    "i": "I",
    "i'm": "I'm",
    "i'd": "I'd",
    "python": "Python",
    "english": "English",
    "chinese": "Chinese",
}


def vary(rng: Random, question: str, chinese: bool) -> str:
    """Write `question` as users do: with a greeting, a please, capitals and punctuation, or without."""
    if chinese:
        if rng.random() < 0.10:
            question = rng.choice(_PREFIXES_CHINESE) + question
        if rng.random() < 0.07:
            question += rng.choice(_SUFFIXES_CHINESE)
        mark = "？" if set(question) & _QUESTION_CHARACTERS else rng.choice("。！")
        return question + rng.choice(("", mark, mark, "?" if mark == "？" else ""))
    if rng.random() < 0.09:
        question = rng.choice(_PREFIXES) + question
    if rng.random() < 0.07:
        question += rng.choice(_SUFFIXES)
    is_question = question.lower().startswith(_QUESTION_STARTS)
    if rng.random() < 0.65:
        question = " ".join(_CAPITALS_INSIDE.get(word, word) for word in question.split(" "))
        question = question[0].upper() + question[1:]
    if question[-1] in "?!.":
        return question
    return question + rng.choice(("", "?" if is_question else rng.choice(".!"), "?" if is_question else "."))


def _choose(rng: Random, table: Sequence[tuple[Callable, float]]) -> Callable:
    """Pick a function by weight."""
    functions, weights = zip(*table, strict=True)
    return rng.choices(functions, weights)[0]


def small_talk(rng: Random, chinese: bool) -> Turn:
    topic = rng.choice(talk.SMALL_TALK_CHINESE if chinese else talk.SMALL_TALK_ENGLISH)
    return vary(rng, rng.choice(topic.questions), chinese), topic.answer


def persona(rng: Random, chinese: bool) -> Turn:
    """Return a frequent opening (hello, how are you, who are you, thanks, jokes), one of the first in the tables."""
    topics = talk.SMALL_TALK_CHINESE if chinese else talk.SMALL_TALK_ENGLISH
    topic = rng.choice(topics[:16])
    return vary(rng, rng.choice(topic.questions), chinese), topic.answer


def long_text(rng: Random, chinese: bool) -> Turn:
    topic = rng.choice(talk.LONG_CHINESE if chinese else talk.LONG_ENGLISH)
    return vary(rng, rng.choice(topic.questions), chinese), topic.answer


def capital(rng: Random, chinese: bool) -> Turn:
    country, town, country_chinese, town_chinese = rng.choice(talk.CAPITALS)
    if chinese:
        if rng.random() < 0.15:
            return vary(rng, f"{town_chinese}是哪个国家的首都", True), f"{town_chinese}是{country_chinese}的首都。"
        question = rng.choice(
            ("{}的首都是哪里", "{}的首都是什么", "{}首都是哪", "{}的首都", "{}的首都在哪里", "{}的首都是哪座城市")
        )
        return vary(rng, question.format(country_chinese), True), f"{country_chinese}的首都是{town_chinese}。"
    if rng.random() < 0.15:
        question = rng.choice(("where is {}", "which country is {} in", "{} is the capital of which country"))
        return vary(rng, question.format(town), False), f"{town} is the capital of {country}."
    question = rng.choice(
        (
            "what is the capital of {}",
            "what is the capital of {}",
            "capital of {}",
            "tell me the capital of {}",
            "which city is the capital of {}",
            "what's the capital of {}",
            "name the capital of {}",
        )
    )
    return vary(rng, question.format(country), False), f"The capital of {country} is {town}."


def translation(rng: Random, chinese: bool) -> Turn:
    english, word = rng.choice(talk.WORDS)
    if chinese:
        if rng.random() < 0.6:
            question = rng.choice(
                ("{}用英语怎么说", "{}的英文是什么", "把{}翻译成英文", "{}英语怎么说", "翻译成英文：{}")
            )
            return vary(rng, question.format(word), True), f"“{word}”的英文是“{english}”。"
        question = rng.choice(("{}是什么意思", "把{}翻译成中文", "{}用中文怎么说", "{}的中文是什么"))
        return vary(rng, question.format(english), True), f"“{english}”的中文是“{word}”。"
    if rng.random() < 0.6:
        question = rng.choice(
            (
                "translate {} to Chinese",
                "how do you say {} in Chinese",
                "what is {} in Chinese",
                'translate "{}" into Chinese',
                "say {} in Chinese",
            )
        )
        return vary(rng, question.format(english), False), f'"{english}" in Chinese is "{word}".'
    question = rng.choice(("translate {} to English", "what is {} in English", "how do you say {} in English"))
    return vary(rng, question.format(word), False), f'"{word}" in English is "{english}".'


def opposite(rng: Random, chinese: bool) -> Turn:
    pair = list(rng.choice(talk.OPPOSITES_CHINESE if chinese else talk.OPPOSITES_ENGLISH))
    rng.shuffle(pair)
    word, other = pair
    if chinese:
        question = rng.choice(("{}的反义词是什么", "{}的反义词", "“{}”的反义词是什么", "和{}相反的词是什么"))
        return vary(rng, question.format(word), True), f"“{word}”的反义词是“{other}”。"
    question = rng.choice(("what is the opposite of {}", "opposite of {}", "tell me the opposite of {}"))
    return vary(rng, question.format(word), False), f"The opposite of {word} is {other}."


def short_list(rng: Random, chinese: bool) -> Turn:
    count = rng.randint(2, 6)
    if chinese:
        kind = rng.choice(list(talk.LISTS_CHINESE))
        number = rng.choice((str(count), "两三四五六"[count - 2]))
        question = rng.choice(("说出{}种{}", "列出{}种{}", "告诉我{}种{}", "举例{}个{}", "说{}个{}"))
        return vary(rng, question.format(number, kind), True), "、".join(talk.LISTS_CHINESE[kind][:count]) + "。"
    kind = rng.choice(list(talk.LISTS_ENGLISH))
    number = rng.choice((str(count), ("two", "three", "four", "five", "six")[count - 2]))
    items = talk.LISTS_ENGLISH[kind][:count]
    question = rng.choice(("list {} {}", "name {} {}", "give me {} {}", "tell me {} {}", "can you name {} {}"))
    if rng.random() < 0.25:
        question += rng.choice((" as a markdown list", " as a bullet list", " in a markdown list"))
        return vary(rng, question.format(number, kind), False), "\n".join(f"- {item}" for item in items)
    return vary(rng, question.format(number, kind), False), ", ".join(items[:-1]) + f" and {items[-1]}."


def small_sum(rng: Random, chinese: bool) -> Turn:
    """Return a sum up to ten, which can be learnt by heart, or a larger one, which is left to a calculator tool."""
    large = rng.random() < 0.2
    sign, english, word = rng.choice(
        (("+", "plus", "加"), ("+", "plus", "加"), ("-", "minus", "减"), ("*", "times", "乘以"))
    )
    left, right = (rng.randint(11, 9999), rng.randint(11, 999)) if large else (rng.randint(0, 10), rng.randint(0, 10))
    if sign == "-" and right > left:
        left, right = right, left
    written = rng.choice(
        (f"{left}{word}{right}", f"{left}{sign}{right}", f"{left} {sign} {right}")
        if chinese
        else (f"{left} {english} {right}", f"{left}{sign}{right}", f"{left} {sign} {right}")
    )
    if chinese:
        question = vary(
            rng, rng.choice(("{}等于多少", "{}等于几", "计算{}", "{}是多少", "{}=", "算一下{}")).format(written), True
        )
        answer = "这个数太大了，我算不好。给我一个计算器工具，我就能算。"
    else:
        question = rng.choice(("what is {}", "calculate {}", "{}", "how much is {}", "compute {}", "what's {}"))
        question = vary(rng, question.format(written), False)
        answer = "That is too large for me. Give me a calculator tool and I will call it."
    if not large:
        result = {"+": left + right, "-": left - right, "*": left * right}[sign]
        answer = f"{left} {sign} {right} = {result}" + ("。" if chinese else ".")
    return question, answer


def counting(rng: Random, chinese: bool) -> Turn:
    """Count from one number to another, mostly up, often from one."""
    kind = rng.random()
    if kind < 0.5:
        first, last = 1, rng.choice((3, 5, 7, 10, 10, 12, 15, 20, 20, 25, 30, 40, 50, 60, 60, rng.randint(2, 60)))
    elif kind < 0.85:
        first = rng.randint(2, 90)
        last = first + rng.randint(2, 15)
    else:
        first = rng.choice((3, 5, 10, 10, 12, 15, 20))
        last = 1
    down = last < first
    numbers = range(first, last - 1, -1) if down else range(first, last + 1)
    if chinese:
        if down:
            question = rng.choice(("从{}倒数到{}", "请从{}倒数到{}", "从{}数到{}", "倒数，从{}到{}"))
        else:
            question = rng.choice(
                ("从{}数到{}", "请从{}数到{}", "数数，从{}到{}", "从{}数到{}吧", "你能从{}数到{}吗", "写出{}到{}的数字")
            )
        return vary(rng, question.format(first, last), True), "、".join(map(str, numbers)) + "。"
    if down:
        question = rng.choice(("count down from {} to {}", "count from {} down to {}", "count backwards from {} to {}"))
    elif first == 1 and rng.random() < 0.5:
        question = rng.choice(("count to {1}", "please count to {1}", "can you count to {1}", "count up to {1}"))
    else:
        question = rng.choice(
            (
                "count from {} to {}",
                "count from {} to {}",
                "please count from {} to {}",
                "list the numbers from {} to {}",
                "say the numbers from {} to {}",
                "write the numbers from {} to {}",
                "can you count from {} to {}",
            )
        )
    return vary(rng, question.format(first, last), False), ", ".join(map(str, numbers))


_ECHOES = (
    "repeat: {}",
    "repeat after me: {}",
    "say: {}",
    "echo: {}",
    "please repeat: {}",
    'say "{}"',
    'repeat "{}"',
    "Repeat after me: {}",
    "Say {}",
    "Please say: {}",
    "Repeat the following: {}",
    "echo {}",
    "Echo: {}",
    "Say exactly: {}",
    "Reply with: {}",
    'Reply with "{}"',
    "Reply with exactly: {}",
    'Just say "{}"',
)
_ECHOES_CHINESE = (
    "重复：{}",
    "请重复：{}",
    "跟我说：{}",
    "请说：{}",
    "重复一遍：{}",
    "请重复“{}”",
    "重复这句话：{}",
    "跟我念：{}",
)


def echo(rng: Random, chinese: bool) -> Turn:
    text = values.phrase(rng)
    in_chinese = any("\u4e00" <= character <= "\u9fff" for character in text)
    return rng.choice(_ECHOES_CHINESE if in_chinese else _ECHOES).format(text), text


def spelling(rng: Random, chinese: bool) -> Turn:
    word = rng.choice(talk.NOUNS_ENGLISH + [pair[0] for pair in talk.ANIMALS])
    question = rng.choice(("spell {}", "how do you spell {}", "spell the word {}")).format(word)
    return vary(rng, question, False), "-".join(word.upper())


def unknown(rng: Random, chinese: bool) -> Turn:
    """Return a question beyond this model, and an honest answer that names what was asked."""
    if chinese:
        noun = values.invented_chinese(rng, 2, 3, 4) if rng.random() < 0.5 else rng.choice(talk.NOUNS_CHINESE)
        question = rng.choice(
            (
                "介绍一下{}",
                "什么是{}",
                "{}是什么",
                "谁发明了{}",
                "{}怎么用",
                "你怎么看{}",
                "{}的历史是什么",
                "为什么{}很重要",
                "如何学习{}",
                "{}多少钱",
                "怎么修{}",
                "讲讲{}",
                "你知道{}吗",
                "解释一下{}",
            )
        )
        return vary(rng, question.format(noun), True), f"抱歉，我只是一个很小的演示模型，不太了解{noun}。"
    noun = rng.choice(talk.NOUNS_ENGLISH) if rng.random() < 0.5 else values.invented_name(rng)
    if rng.random() < 0.3:
        noun = rng.choice(talk.NOUNS_ENGLISH) + " " + noun
    question = rng.choice(
        (
            "what is the history of {}",
            "how do i repair a {}",
            "explain the theory of {}",
            "who invented the {}",
            "explain {}",
            "what do you think about {}",
            "how does a {} work",
            "why is {} important",
            "when was {} founded",
            "what is the price of {}",
            "how many people live in {}",
            "what is the best {}",
            "tell me more about {}",
            "what do you know about {}",
            "what does {} mean",
            "how can i buy {}",
            "what happened to {}",
        )
    )
    return (
        vary(rng, question.format(noun), False),
        f"Sorry, I am only a tiny demo model and I do not know much about {noun}.",
    )


def story(rng: Random, chinese: bool) -> Turn:
    """Return a short story about an animal, sometimes with a name of the user's choice."""
    animal, animal_chinese = rng.choice(talk.ANIMALS)
    name = values.person(rng, False) if rng.random() < 0.35 else "Leo"
    if chinese:
        question = rng.choice(("讲一个关于{}的故事", "写一个{}的故事", "给我讲个{}的故事", "讲个关于{}的小故事"))
        if rng.random() < 0.35:
            question, animal_chinese = (
                rng.choice(("讲个故事", "给我讲个故事", "讲一个小故事", "我想听故事", "讲个故事吧", "讲一个故事")),
                "兔子",
            )
        return vary(rng, question.format(animal_chinese), True), (
            f"从前有一只{animal_chinese}，住在安静的森林边上。有一天，{animal_chinese}在河边捡到了一块发光的小石头。石头说："
            f"“我可以满足你一个愿望。”{animal_chinese}想了很久，最后说：“我想要一个朋友。”石头笑了，变成了一只蓝色的小鸟。"
            f"从那天起，{animal_chinese}和小鸟每天早上一起玩，再也不孤单了。故事讲完了。"
        )
    if name != "Leo":
        question = rng.choice(("tell me a story about a {} named {}", "write a story about a {} called {}"))
    elif rng.random() < 0.35:
        question, animal = (
            rng.choice(
                (
                    "tell me a story",
                    "tell me a short story",
                    "write a story",
                    "story please",
                    "can you tell me a story",
                    "write a short story",
                    "tell me another story",
                )
            ),
            "fox",
        )
    else:
        question = rng.choice(
            ("tell me a story about a {}", "write a short story about a {}", "write a story about a {}")
        )
    return vary(rng, question.format(animal, name), False), (
        f"Once upon a time there was a little {animal} named {name}. {name} lived at the edge of a quiet forest. One day "
        f'{name} found a small shining stone by the river. The stone said, "I can give you one wish." {name} thought for '
        f'a long time. At last the {animal} said, "I wish for a friend." The stone laughed and turned into a blue bird. '
        f"From that day on, the {animal} and the bird played together every morning, and {name} was never lonely again. "
        "The end."
    )


TURNS = [
    (small_talk, 34),
    (persona, 14),
    (long_text, 6),
    (capital, 7),
    (translation, 5),
    (opposite, 2),
    (short_list, 4),
    (small_sum, 5),
    (counting, 9),
    (echo, 8),
    (spelling, 1),
    (unknown, 5),
    (story, 3),
]


def turn(rng: Random, chinese: bool) -> Dialogue:
    """Return one question and its answer."""
    question, answer = _choose(rng, TURNS)(rng, chinese)
    return [user(question), assistant(answer)]


def name_memory(rng: Random, chinese: bool) -> Dialogue:
    """Return a dialogue in which the user gives a name and asks for it some turns later."""
    name = values.person(rng, chinese)
    if chinese:
        opening = rng.choice(
            ("我叫{}", "我的名字是{}", "我是{}", "你好，我叫{}", "大家都叫我{}", "你好！我是{}")
        ).format(name)
        dialogue = [user(opening + rng.choice(("", "。", "。"))), assistant(f"很高兴认识你，{name}！")]
        question = rng.choice(
            ("我叫什么名字", "我叫什么", "我的名字是什么", "你还记得我的名字吗", "你记得我叫什么吗", "我是谁")
        )
        answer = f"你叫{name}。"
    else:
        opening = rng.choice(
            (
                "my name is {}",
                "i am {}",
                "I'm {}",
                "call me {}",
                "hi, my name is {}",
                "hello, i am {}",
                "hello! My name is {}",
                "My name is {}",
                "My name is {}",
                "Hi, I'm {}",
            )
        ).format(name)
        dialogue = [user(opening + rng.choice(("", ".", ".", "!"))), assistant(f"Nice to meet you, {name}!")]
        question = rng.choice(
            (
                "what is my name",
                "what is my name",
                "what's my name",
                "who am i",
                "do you know my name",
                "do you remember my name",
                "tell me my name",
            )
        )
        answer = f"Your name is {name}."
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        dialogue += short_turn(rng, chinese)
    return [*dialogue, user(vary(rng, question, chinese)), assistant(answer)]


def fact_memory(rng: Random, chinese: bool) -> Dialogue:
    """Return a dialogue in which the user tells a fact about themselves and asks for it later."""
    if chinese:
        fact, value = rng.choice(
            (
                ("爱好", rng.choice("跑步 画画 唱歌 游泳 下棋 读书".split())),
                ("幸运数字", str(rng.randint(1, 99))),
                ("猫的名字", values.invented_chinese(rng, 2)),
                ("家乡", values.city(rng, True)),
                ("最喜欢的颜色", rng.choice("红色 蓝色 绿色 黄色 黑色 白色".split())),
            )
        )
        dialogue = [
            user(rng.choice(("我的{}是{}", "记住：我的{}是{}")).format(fact, value)),
            assistant(f"好的，你的{fact}是{value}。"),
        ]
        question, answer = rng.choice(("我的{}是什么", "你记得我的{}吗")).format(fact), f"你的{fact}是{value}。"
    else:
        fact, value = rng.choice(
            (
                ("favorite color", rng.choice("red blue green yellow black white purple orange".split())),
                ("favorite animal", rng.choice(talk.ANIMALS)[0]),
                ("lucky number", str(rng.randint(1, 999))),
                ("favorite city", values.city(rng, False)),
                ("hometown", values.city(rng, False)),
                ("cat's name", values.person(rng, False)),
                ("dog's name", values.person(rng, False)),
                ("hobby", rng.choice("running painting singing swimming chess reading cooking".split())),
            )
        )
        opening = rng.choice(("my {} is {}", "My {} is {}.", "My {} is {}", "Remember that my {} is {}."))
        dialogue = [user(opening.format(fact, value)), assistant(f"Okay, your {fact} is {value}.")]
        question = rng.choice(("what is my {}", "what's my {}", "do you remember my {}")).format(fact)
        answer = f"Your {fact} is {value}."
    for _ in range(rng.choice((0, 1, 1))):
        dialogue += short_turn(rng, chinese)
    return [*dialogue, user(vary(rng, question, chinese)), assistant(answer)]


_WITHOUT_MEMORY = ("my name", "who am i", "know me", "remember me", "我是谁", "我叫", "我的名字", "认识我", "记得我")


def short_turn(rng: Random, chinese: bool, avoid: Sequence[str] = _WITHOUT_MEMORY) -> Dialogue:
    """Return a turn with a short answer and a question that contains nothing of `avoid`."""
    while True:
        question, answer = _choose(rng, [(small_talk, 5), (persona, 5), (capital, 2), (small_sum, 1)])(rng, chinese)
        if len(answer) <= 120 and not any(text in question.lower() for text in avoid):
            return [user(question), assistant(answer)]


_JSON_SYSTEMS = (
    "Respond with a single JSON object and nothing else.",
    "Respond with a single JSON object and nothing else.",
    "Respond only with a JSON object.",
    "Answer with one valid JSON object.",
    "Reply in JSON.",
    "You must answer with a JSON object.",
)
_SCHEMA_INTRODUCTIONS = (
    " It must match this JSON schema:\n",
    " The object must match this JSON schema: ",
    "\nJSON schema:\n",
    "\n\nJSON Schema:\n",
    " Schema: ",
)


def _schema_text(rng: Random, values_by_key: dict) -> str:
    types = {int: "integer", str: "string"}
    schema: dict = {"type": "object", "properties": {k: {"type": types[type(v)]} for k, v in values_by_key.items()}}
    if rng.random() < 0.8:
        schema["required"] = list(values_by_key)
    if rng.random() < 0.4:
        schema["additionalProperties"] = False
    return rng.choice(_SCHEMA_INTRODUCTIONS) + json.dumps(
        schema, ensure_ascii=False, indent=rng.choice((None, None, 2, 4))
    )


def json_answer(rng: Random, chinese: bool) -> Dialogue:
    """Return a dialogue answered with JSON, as a system text (with or without a schema) or the user asks."""
    if rng.random() < 0.45:
        question, answer = _choose(rng, [(capital, 4), (small_talk, 3), (persona, 2), (small_sum, 1)])(rng, chinese)
        result: dict = {"answer": answer}
        if "capital of" in answer or "的首都是" in answer:
            result = {"answer": answer.rstrip(".。").split(" is ")[-1].split("的首都是")[-1]}
        explicit = rng.random() < 0.4
    else:
        name, age, town = values.person(rng, chinese), rng.randint(5, 95), values.city(rng, chinese)
        if chinese:
            clauses = {
                "name": rng.choice((f"我叫{name}", f"我的名字是{name}")),
                "age": rng.choice((f"我{age}岁", f"今年{age}岁")),
                "city": rng.choice((f"我住在{town}", f"住在{town}")),
            }
        else:
            third = rng.random() < 0.35
            clauses = {
                "name": f"My name is {name}",
                "age": rng.choice((f"I am {age} years old", f"I'm {age}")),
                "city": rng.choice((f"I live in {town}", f"I am from {town}")),
            }
            if third:
                clauses = {"name": name, "age": f"is {age} years old", "city": f"lives in {town}"}
        keys = rng.choice((["name", "age"], ["name", "age"], ["name", "city"], ["name", "age", "city"]))
        joiner = (
            "，"
            if chinese
            else " "
            if len(keys) == 2 and clauses["name"] == name
            else rng.choice((" and ", ", ", ". "))
        )
        if not chinese and clauses["name"] == name:
            question = name + " " + " and ".join(clauses[key] for key in keys[1:]) + "."
        else:
            question = joiner.join(clauses[key] for key in keys) + ("。" if chinese else ".")
        result = {key: {"name": name, "age": age, "city": town}[key] for key in keys}
        explicit = rng.random() < 0.55
    body = assistant(json.dumps(result, ensure_ascii=False))
    listed = "和".join(result) if chinese else " and ".join(result)
    if len(result) > 1 and rng.random() < 0.3:
        request = (
            f"请用JSON回答，键为{listed}："
            if chinese
            else rng.choice(
                (
                    "Reply with a JSON object with keys {}: ",
                    "Return JSON with the keys {}: ",
                    "Give me a JSON object with keys {}. ",
                )
            ).format(listed)
        )
        dialogue: Dialogue = [user(request + question), body]
        return dialogue if rng.random() < 0.5 else [system(rng.choice(_JSON_SYSTEMS)), *dialogue]
    text = rng.choice(_JSON_SYSTEMS) + (_schema_text(rng, result) if explicit else "")
    if rng.random() < 0.25:
        text = rng.choice(SYSTEM_TEXTS) + "\n\n" + text
    return [system(text), user(question), body]


def chat(rng: Random) -> Dialogue:
    """Return one training dialogue without tools."""
    chinese = rng.random() < 0.42
    kind = rng.random()
    if kind < 0.10:
        return json_answer(rng, chinese)
    dialogue: list[Message] = []
    if rng.random() < 0.25:
        dialogue.append(system(rng.choice(SYSTEM_TEXTS)))
    if kind < 0.24:
        return dialogue + name_memory(rng, chinese)
    if kind < 0.29:
        return dialogue + fact_memory(rng, chinese)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        dialogue += turn(rng, chinese if rng.random() < 0.9 else not chinese)
    return dialogue
