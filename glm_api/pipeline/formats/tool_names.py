"""Give tools names that every model can say, and keep the names that the client has for them.

Models were trained on names of ASCII letters, digits, underscores and hyphens. Clients also send names with dots,
slashes, colons, blanks or Chinese characters.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from glm_api.pipeline.conversation import Conversation, Message, Tool
from glm_api.pipeline.formats.call_syntax import INTERPRETER

LONGEST = 64
_SPEAKABLE = re.compile(rf"[a-zA-Z0-9_-]{{1,{LONGEST}}}")
_OTHERS = re.compile("[^a-zA-Z0-9_-]+")
# How many digits of its hash tell a name from others that would be said the same way.
_DIGITS = range(6, 41)

Names = tuple[tuple[str, str], ...]
"""Pairs of a name that the model says and the name that the client has for it."""


def with_speakable_names(conversation: Conversation) -> tuple[Conversation, Names]:
    """Return ``conversation`` with names that a model can say, and those of them that are not the client's.

    A name that can be said stays as it is, and no two tools get the same name. Names do not change from turn to turn,
    unless one comes that would be said the same way.
    """
    tools = [tool.name for tool in conversation.tools]
    called = [call.name for message in conversation.messages for call in message.tool_calls]
    spoken = speakable([*tools, *called])
    if not spoken:
        return conversation, ()
    choice = conversation.tool_choice
    if choice.name is not None:
        choice = replace(choice, name=spoken.get(choice.name, choice.name))
    changed = replace(
        conversation,
        messages=tuple(_renamed(message, spoken) for message in conversation.messages),
        tools=tuple(_declared(tool, spoken) for tool in conversation.tools),
        tool_choice=choice,
    )
    return changed, tuple((said, name) for name, said in spoken.items())


def speakable(names: Iterable[str]) -> dict[str, str]:
    """Return what a model says for those of ``names`` that it cannot say. No two of all names are said the same way."""
    taken = {INTERPRETER}
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        if _SPEAKABLE.fullmatch(name):
            taken.add(name)
        else:
            alike.setdefault(_OTHERS.sub("_", name).strip("_-")[:LONGEST], []).append(name)
    spoken: dict[str, str] = {}
    for base, group in alike.items():
        if base and len(group) == 1 and base not in taken:
            spoken[group[0]] = base
    taken.update(spoken.values())
    numbers = itertools.count()
    for base, group in alike.items():
        for name in group:
            if name not in spoken:
                spoken[name] = next(said for said in _candidates(name, base or "tool", numbers) if said not in taken)
                taken.add(spoken[name])
    return spoken


def _candidates(name: str, base: str, numbers: Iterator[int]) -> Iterator[str]:
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    for digits in _DIGITS:
        yield f"{base[: LONGEST - 1 - digits]}_{digest[:digits]}"
    for number in numbers:
        yield f"tool_{number}"


def _renamed(message: Message, spoken: dict[str, str]) -> Message:
    if not any(call.name in spoken for call in message.tool_calls):
        return message
    calls = tuple(replace(call, name=spoken.get(call.name, call.name)) for call in message.tool_calls)
    return replace(message, tool_calls=calls)


def _declared(tool: Tool, spoken: dict[str, str]) -> Tool:
    if tool.name not in spoken:
        return tool
    # The name may be all that tells what the tool does, and other messages may speak of it.
    description = tool.name if tool.description is None else f"{tool.name}: {tool.description}"
    return replace(tool, name=spoken[tool.name], description=description)
