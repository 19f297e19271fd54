"""Prompt and answer formats, one module a model family. `format_for` returns a family's format."""

from __future__ import annotations

from collections.abc import Callable

from glm_api.pipeline.formats.base import Format, Tokenizer
from glm_api.pipeline.formats.chatglm import chatglm
from glm_api.pipeline.formats.chatglm2 import chatglm2
from glm_api.pipeline.formats.chatglm3 import chatglm3
from glm_api.pipeline.formats.glm4 import glm4, glm4v

# The names are those of chatglm_cpp's `ModelConfig.model_type_name`. CodeGeeX2 calls itself ChatGLM2.
_FORMATS: dict[str, Callable[[Tokenizer], Format]] = {
    "ChatGLM": chatglm,
    "ChatGLM2": chatglm2,
    "ChatGLM3": chatglm3,
    "ChatGLM4": glm4,
    "ChatGLM4V": glm4v,
}


def format_for(model_type_name: str, tokenizer: Tokenizer) -> Format:
    """Return the format of a model family. Raises ValueError for a name that chatglm_cpp 0.4.2 does not give."""
    try:
        return _FORMATS[model_type_name](tokenizer)
    except KeyError:
        raise ValueError(f"no prompt format for models of type {model_type_name!r}") from None
