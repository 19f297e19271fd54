"""Facts about the loaded model, as the children report them, and how to read its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model. ``context_length`` is in tokens: prompt and answer together never exceed it.

    ``image_tokens`` is what an image takes of the context beyond the ids that stand for it in a prompt; 0 for a model
    that accepts none. Up to ``slots`` cache slots, of ``slot_bytes`` each, are opened as they are needed.
    ``parallel`` requests run at a time. ``characters_per_token`` is the most characters that a token stands for; 0
    where some characters take no token. ``thinks``: the model thinks before it answers, unless it is told not to.
    ``templated``: the template of the model's file writes its prompts. ``opening`` is the text of the special tokens
    that open every prompt, ``ending`` that of the token that ends an answer, ``template`` the file's template; each may
    be empty.
    """

    family: str
    context_length: int
    vocabulary_size: int
    characters_per_token: int
    supports_tools: bool
    supports_images: bool
    image_tokens: int
    slots: int
    slot_bytes: int
    model_bytes: int
    parallel: int = 1
    thinks: bool = False
    templated: bool = False
    opening: str = ""
    ending: str = ""
    template: str = ""


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """How the ids of an answer become text and tool calls.

    - ``mode``: ``chat`` (a message, perhaps with calls), ``text`` (a raw completion), or ``embedding``: no answer, but
      the embedding of the prompt, which only llama.cpp gives.
    - ``tools``: the names of the tools that the model may call. ``names``: pairs of such a name and the client's, where
      these differ.
    - ``forced``: the tool whose call the prompt has already begun.
    - ``required``: the answer is nothing but calls.
    - ``chat``: the body of a request for llama.cpp's chat API, as JSON, where that reads the answer; None: we do.
      ``thinking``: the prompt has begun what the model thinks.
    - ``grammar``: the Lark grammar (of llguidance) that holds the whole answer, from its first id; None: all is free.
      With ``chat`` it is that of the text alone, and ``chat`` has what holds the answer, perhaps llama.cpp's own.
    """

    mode: Literal["chat", "text", "embedding"] = "chat"
    tools: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    forced: str | None = None
    required: bool = False
    chat: str | None = None
    thinking: bool = False
    grammar: str | None = None
