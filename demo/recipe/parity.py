"""Record PyTorch's greedy answers from the weights of the exported file, to compare with those of chatglm-cpp.

The file keeps matrices in q8_0, and ggml rounds what it multiplies with them to q8_0 as well; PyTorch does the same
here, so that the two sides differ only by the order of their sums and by ggml's float16 attention cache.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import prompts
from .export import read_ggml, rounded_to_q8_0
from .model import ChatGLM3
from .prompt import NUM_SPECIAL_IDS, SpecialIds, encode_prompt, system, tools_system, user

MAX_NEW_TOKENS = 80


def round_inputs(model: ChatGLM3) -> None:
    """Make `model` round the values that it multiplies with its matrices to q8_0."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(_round_input)


def _round_input(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (rounded_to_q8_0(inputs[0]),)


def parity_prompts(tokenizer: bytes) -> list[tuple[str, list[int]]]:
    """Return the name and the prompt ids of the first question of each case."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    special = SpecialIds.after(processor.vocab_size())
    encoded = []
    for case in prompts.CASES:
        start = [tools_system(case.tools, case.system)] if case.tools else [system(case.system)] if case.system else []
        dialogue = [*start, user(str(case.steps[0]))]
        encoded.append((case.name, encode_prompt(dialogue, processor.encode, special)))
    return encoded


def greedy_answers(path: Path) -> list[dict[str, Any]]:
    """Return for each prompt its ids and the ids of PyTorch's answer with the weights of the file at `path`."""
    model, tokenizer = read_ggml(path)
    round_inputs(model.eval())
    torch.set_num_threads(1)  # single tokens are too little work to share
    special = SpecialIds.after(model.config.vocab_size - NUM_SPECIAL_IDS)
    stop_ids = {2, special.user, special.observation}
    return [
        {"name": name, "prompt_ids": ids, "greedy_ids": model.greedy(ids, stop_ids, MAX_NEW_TOKENS)}
        for name, ids in tqdm(parity_prompts(tokenizer), desc="parity")
    ]


def write_fixture(model_path: Path, fixture: Path) -> None:
    """Write one prompt a line."""
    lines = [json.dumps(answer, ensure_ascii=False) for answer in greedy_answers(model_path)]
    fixture.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
