"""ChatGLM-6B. Source: modeling_chatglm.py of huggingface.co/THUDM/chatglm-6b (``build_prompt`` of ``chat``)."""

from __future__ import annotations

from collections.abc import Sequence

from glm_api.pipeline.formats.base import Format, Tokenizer
from glm_api.pipeline.formats.round_format import RoundFormat, RoundStyle


def write(turns: Sequence[str]) -> str:
    """Return the text of the rounds, which count from 0. A single question has no round around it."""
    if len(turns) == 1:
        return turns[0]
    text = ""
    for index in range(0, len(turns), 2):
        answer = "".join(f"{turn}\n" for turn in turns[index + 1 : index + 2])
        text += f"[Round {index // 2}]\n问：{turns[index]}\n答：{answer}"
    return text


# The attention over the prompt is bidirectional: keys and values depend on what comes after them, so none is reused.
_STYLE = RoundStyle(family="chatglm", write=write, prefix_first=False, reuses_prefix=False)


def chatglm(tokenizer: Tokenizer) -> Format:
    """Return the format of ChatGLM-6B."""
    return RoundFormat(tokenizer, _STYLE)
