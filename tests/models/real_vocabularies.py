"""The vocabularies of the published models, where a machine has them: their licences keep them out of the project.

They are looked for in ``shared/real-vocab`` beside the checkout, with ``vectors.json``: for each vocabulary, texts and
the ids that the model's own tokenizer gives them.
"""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path

import pytest

from tests.models.tokenizers import without_dummy_prefix
from tests.running import ROOT

FOLDER: Path = ROOT.parent / "shared" / "real-vocab"
needed = pytest.mark.skipif(not FOLDER.is_dir(), reason="the real vocabularies are not on this machine")

_FILES = {
    "chatglm-6b": "chatglm-6b.ice_text.model",
    "chatglm3": "chatglm3.tokenizer.model",
    "codegeex2": "chatglm3.tokenizer.model",
    "glm-4": "glm-4.tokenizer.model",
}


@functools.cache
def tokenizer(name: str) -> bytes:
    """The tokenizer section of a model file of this name."""
    data = (FOLDER / _FILES[name]).read_bytes()
    return without_dummy_prefix(data) if name == "codegeex2" else data


@functools.cache
def vectors(name: str) -> list[tuple[str, list[int]]]:
    """Texts with their ids."""
    return [(text, ids) for text, ids in json.loads((FOLDER / "vectors.json").read_text())[name]]


@functools.cache
def ranks() -> dict[bytes, int]:
    """GLM-4's tokens with their ranks."""
    words = tokenizer("glm-4").split()
    return {base64.b64decode(token): int(rank) for token, rank in zip(words[::2], words[1::2], strict=True)}
