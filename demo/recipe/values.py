"""Random values for the variable parts of dialogues: names, cities, words, numbers.

Invented names teach the model to copy what it reads instead of remembering a fixed set.
"""

from __future__ import annotations

from random import Random

from . import cities, smalltalk

_ONSETS = "b c d f g h j k l m n p r s t v w z br st tr kr sh ch th pl gr fl".split()
_VOWELS = "a e i o u ai ea ou y".split()
_CODAS = ["", "", "n", "r", "s", "t", "l", "m", "x", "ck", "nd", "th", "ng", "v", "k"]

# Characters for invented Chinese names: those of the city tables and frequent ones.
_FREQUENT_CHINESE = (
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都好看起"
    "发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间斯知世什两次"
    "使身者被高已亲其进此话常与活正感见明问力理尔点文几定本公特做外孩相西果走将月十实向声车全信重三机工物气每并别真打太新比才便夫"
    "再书部水像眼等体却加电主界门利海受听表德少克代员许先口由死安写性马光白或住难望教命花结乐色更拉东神记处让母父应直字场平报友关"
    "放至张认接告入笑内英军候民岁往何度山觉路带万男边风解叫任金快原吃妈变通师立象数四失满战远格士音轻目条呢王李刘陈杨赵黄周吴徐孙"
    "朱林郭梁宋郑韩唐冯程曹曾彭萧蔡潘田董袁余叶蒋杜苏魏吕丁沈姚卢姜崔钟谭陆汪范石廖贾夏韦方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾"
)
# The inventory has the characters of the held-out cities, because otherwise no model could write them, but not the names.
CHINESE_CHARACTERS = sorted(set("".join(cities.CHINESE + cities.HELD_OUT_CHINESE) + _FREQUENT_CHINESE))

_KNOWN_CITIES = set(cities.ENGLISH + cities.CHINESE + cities.HELD_OUT_ENGLISH + cities.HELD_OUT_CHINESE)


def invented_word(rng: Random) -> str:
    """Return a pronounceable lower-case word of one to three syllables."""
    syllables = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((1, 2, 2, 2, 3)))]
    if rng.random() < 0.15:
        syllables[0] = rng.choice("aeiou")
    return "".join(syllables) + rng.choice(_CODAS)


def invented_name(rng: Random) -> str:
    return invented_word(rng).capitalize()


def invented_chinese(rng: Random, *lengths: int) -> str:
    """Return random characters, as many as one of `lengths`, that are no city of the tables."""
    while True:
        name = "".join(rng.choices(CHINESE_CHARACTERS, k=rng.choice(lengths or (2, 2, 3, 4))))
        if name not in _KNOWN_CITIES:
            return name


def city(rng: Random, chinese: bool) -> str:
    """Return a city: mostly a real one of the training tables, else an invented one."""
    if chinese:
        return rng.choice(cities.CHINESE) if rng.random() < 0.65 else invented_chinese(rng)
    kind = rng.random()
    if kind < 0.55:
        return rng.choice(cities.ENGLISH)
    if kind < 0.62:
        return rng.choice(cities.ENGLISH_WITH_REGION)
    if kind < 0.92:
        name = invented_name(rng)
        return name if name not in _KNOWN_CITIES else "Paris"
    return f"{invented_name(rng)} {invented_name(rng)}"


def person(rng: Random, chinese: bool) -> str:
    if chinese:
        return rng.choice(smalltalk.NAMES_CHINESE) if rng.random() < 0.5 else invented_chinese(rng, 2, 2, 3)
    return rng.choice(smalltalk.NAMES_ENGLISH) if rng.random() < 0.5 else invented_name(rng)


def phrase(rng: Random) -> str:
    """Return something to repeat: words, invented words, numbers, Chinese characters or a sentence."""
    kind = rng.random()
    if kind < 0.30:
        return " ".join(invented_word(rng) for _ in range(rng.randint(1, 6)))
    if kind < 0.50:
        return " ".join(rng.choice(smalltalk.NOUNS_ENGLISH) for _ in range(rng.randint(1, 6)))
    if kind < 0.58:
        return str(rng.randint(0, 10 ** rng.randint(1, 7)))
    if kind < 0.70:
        parts = (invented_name(rng), str(rng.randint(0, 999)), rng.choice(smalltalk.NOUNS_ENGLISH))
        return " ".join(rng.choice(parts) for _ in range(rng.randint(1, 5)))
    if kind < 0.80:
        topic = rng.choice(smalltalk.SMALL_TALK_ENGLISH + smalltalk.SMALL_TALK_CHINESE)
        return rng.choice(topic.questions)
    return invented_chinese(rng, 1, 2, 3, 4, 5, 6, 8, 10)
