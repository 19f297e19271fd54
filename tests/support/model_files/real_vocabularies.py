"""The vocabularies of the published models, if this machine has them. Their licences keep them out of the project.

They are expected in ``shared/real-vocab`` beside the checkout. ``vectors.json`` there has, for each vocabulary, texts
and the ids that the model's own tokenizer gives them.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.model_files.tokenizers import without_dummy_prefix
from tests.support.model_files.writer import Family, vocabulary_size
from tests.support.processes import ROOT

Test = TypeVar("Test", bound=Callable[..., None])

FOLDER: Path = ROOT.parent / "shared" / "real-vocab"
_there = pytest.mark.skipif(not FOLDER.is_dir(), reason="the real vocabularies are not on this machine")


def needed(test: Test) -> Test:
    """Skip the test if they are missing, and mark it as slow: a hundred thousand tokens take a while."""
    marked: Test = pytest.mark.slow(_there(test))
    return marked


_FILES = {
    "chatglm-6b": "chatglm-6b.ice_text.model",
    "chatglm3": "chatglm3.tokenizer.model",
    "codegeex2": "chatglm3.tokenizer.model",
    "glm-4": "glm-4.tokenizer.model",
}

# Vocabulary rows of the published weights. These are more than the ids of the tokenizers.
_ROWS = {"chatglm-6b": 130_528, "chatglm3": 65_024, "codegeex2": 65_024, "glm-4": 151_552}


@functools.cache
def tokenizer(name: str) -> bytes:
    """Return the tokenizer section of the model file of this name."""
    data = (FOLDER / _FILES[name]).read_bytes()
    return without_dummy_prefix(data) if name == "codegeex2" else data


def fields(name: str, family: Family) -> dict[str, Any]:
    """Return the fields of a `TinyModel` with this tokenizer."""
    return {"tokenizer": tokenizer(name), "extra_rows": _ROWS[name] - vocabulary_size(family)}


@functools.cache
def vectors(name: str) -> list[tuple[str, list[int]]]:
    """Return texts with their ids."""
    return [(text, ids) for text, ids in json.loads((FOLDER / "vectors.json").read_text())[name]]


@functools.cache
def ranks() -> dict[bytes, int]:
    """Return GLM-4's tokens with their ranks."""
    words = tokenizer("glm-4").split()
    return {base64.b64decode(token): int(rank) for token, rank in zip(words[::2], words[1::2], strict=True)}
