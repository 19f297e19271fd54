"""ChatGLM2-6B and CodeGeeX2-6B. Source: tokenization_chatglm.py of huggingface.co/THUDM/chatglm2-6b."""

from __future__ import annotations

from collections.abc import Sequence

from glm_api.pipeline.formats.base import Format, Tokenizer
from glm_api.pipeline.formats.round_format import RoundFormat, RoundStyle


def write(turns: Sequence[str]) -> str:
    """Return the text of the rounds, which count from 1."""
    text = ""
    for index in range(0, len(turns), 2):
        answer = "".join(f"{turn}\n\n" for turn in turns[index + 1 : index + 2])
        text += f"[Round {index // 2 + 1}]\n\n问：{turns[index]}\n\n答：{answer}"
    return text


_STYLE = RoundStyle(family="chatglm2", write=write, prefix_first=True, reuses_prefix=True)


def chatglm2(tokenizer: Tokenizer) -> Format:
    """Return the format of ChatGLM2-6B."""
    return RoundFormat(tokenizer, _STYLE)
