"""Answers of the exported model, by chatglm-cpp at temperature 0."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chatglm_cpp

from .prompt import CALL_START, NUM_SPECIAL_IDS, Message, SpecialIds, assistant, encode_prompt, tool_call

MAX_LENGTH = 2048


def parse_arguments(content: str) -> dict[str, Any] | None:
    """Return the keyword arguments of `tool_call(...)` in a call's text, or None if it is no such call."""
    try:
        expression = ast.parse(
            content.strip().removeprefix("```python\n").removesuffix("```").strip(), mode="eval"
        ).body
        if not isinstance(expression, ast.Call) or getattr(expression.func, "id", "") != "tool_call" or expression.args:
            return None
        return {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in expression.keywords}
    except (SyntaxError, ValueError):
        return None


class DemoModel:
    """The model file in chatglm-cpp, with the prompts of `prompt.py`."""

    def __init__(self, path: Path) -> None:
        self._pipeline = chatglm_cpp.Pipeline(str(path), max_length=MAX_LENGTH)
        # chatglm_cpp writes past its graph buffer in a long answer after a short prompt, unless the buffer was that large before.
        greedy = chatglm_cpp._C.GenerationConfig(do_sample=False)
        with contextlib.suppress(RuntimeError):
            self._pipeline.model.generate_next_token([0] * MAX_LENGTH, None, greedy, MAX_LENGTH - 1, MAX_LENGTH)
        config = self._pipeline.model.config
        self.vocab_size: int = config.vocab_size
        self.special = SpecialIds.after(self.vocab_size - NUM_SPECIAL_IDS)

    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text, without the two special ids that chatglm-cpp puts in front."""
        ids: list[int] = self._pipeline.tokenizer.encode(text, MAX_LENGTH)[2:]
        return ids

    def decode(self, ids: list[int]) -> str:
        text: str = self._pipeline.tokenizer.decode(ids)
        return text

    def greedy(self, prompt_ids: list[int], max_new_tokens: int = 600) -> list[int]:
        """Return the most probable continuation, up to and including the stop id."""
        config = chatglm_cpp._C.GenerationConfig(
            max_length=MAX_LENGTH,
            max_new_tokens=max_new_tokens,
            max_context_length=MAX_LENGTH,
            do_sample=False,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            repetition_penalty=1.0,
        )
        return list(self._pipeline._stream_generate_ids(prompt_ids, None, config))

    def answer(self, dialogue: Sequence[Message]) -> Message:
        """Return the next assistant message: a call in its usual form if it can be parsed, else text."""
        ids = self.greedy(encode_prompt(dialogue, self.encode, self.special))
        text = self.decode(ids[:-1] if ids[-1] >= self.special.system else ids)
        name, _, content = text.lstrip(" ").partition("\n")
        content = content.removeprefix(" ")
        if content.startswith(CALL_START):
            arguments = parse_arguments(content)
            if arguments is not None:
                return tool_call(name, arguments)
        return assistant(content) if not name else Message("assistant", content, name)
