"""Record PyTorch's greedy answers from the weights of the exported file, to compare with those of chatglm-cpp.

The file keeps matrices in q8_0, and ggml rounds what it multiplies with them to q8_0 as well; PyTorch does the same
here, so that the two sides differ only by the order of their sums and by ggml's float16 attention cache.

Log-probabilities are recorded for the same weights in float32. There PyTorch rounds what ggml's attention has in
float16, so that the two sides differ only by the order of their sums. A value between two of float16 may be rounded up
on one side and down on the other, which changes a log-probability by some thousandths.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import sentencepiece
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from . import prompts
from .export import read_ggml, rounded_to_q8_0
from .model import ChatGLM3
from .prompt import NUM_SPECIAL_IDS, SpecialIds, encode_prompt, system, tools_system, user

MAX_NEW_TOKENS = 80
# Every so many prompts have their log-probabilities recorded: so many likeliest ids for so many tokens of the answer.
EVERY, TOP, TOKENS = 8, 5, 10


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
    model, tokenizer = _read(path)
    round_inputs(model)
    return [
        {"name": name, "prompt_ids": ids, "greedy_ids": model.greedy(ids, _stop_ids(model), MAX_NEW_TOKENS)}
        for name, ids in tqdm(parity_prompts(tokenizer), desc="parity")
    ]


def _read(path: Path) -> tuple[ChatGLM3, bytes]:
    torch.set_num_threads(1)  # single tokens are too little work to share
    model, tokenizer = read_ggml(path)
    return model.eval(), tokenizer


def _stop_ids(model: ChatGLM3) -> set[int]:
    special = SpecialIds.after(model.config.vocab_size - NUM_SPECIAL_IDS)
    return {2, special.user, special.observation}


def _rounded_attention(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> Tensor:
    """Attend as ggml does, which multiplies values of float16 and adds them up in float32."""
    assert is_causal
    scores = _rounded(query * query.shape[-1] ** -0.5) @ _rounded(key).transpose(-1, -2)
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return _rounded(scores.masked_fill(later, -torch.inf).softmax(-1)) @ _rounded(value)


def _rounded(values: Tensor) -> Tensor:
    return values.half().float()


def logprobs(path: Path) -> list[dict[str, Any]]:
    """Return what PyTorch thinks, with float32 weights, of some prompts and of its greedy answers to them.

    ``prompt_logprobs`` has the log-probability of each id of the prompt from the second on, and ``top_logprobs`` a list
    of (id, log-probability) for each id of the answer, the likeliest first.
    """
    model, tokenizer = _read(path)
    found = []
    with torch.no_grad(), mock.patch.object(F, "scaled_dot_product_attention", _rounded_attention):
        for name, prompt in tqdm(parity_prompts(tokenizer)[::EVERY], desc="log-probabilities"):
            answer = model.greedy(prompt, _stop_ids(model), TOKENS)
            places = model(torch.tensor([prompt + answer])).double().log_softmax(-1)[:-1]
            of_prompt = places[torch.arange(len(prompt) - 1), prompt[1:]]
            values, ids = places[len(prompt) - 1 :].topk(TOP)
            found.append(
                {
                    "name": name,
                    "prompt_ids": prompt,
                    "prompt_logprobs": [round(value, 5) for value in of_prompt.tolist()],
                    "greedy_ids": answer,
                    "top_logprobs": [
                        [(id, round(value, 5)) for id, value in zip(*place, strict=True)]
                        for place in zip(ids.tolist(), values.tolist(), strict=True)
                    ],
                }
            )
    return found


def write_fixtures(model_path: Path, folder: Path) -> None:
    """Write ``parity.json`` and ``logprobs.json``, one prompt a line."""
    for name, answers in (("parity", greedy_answers(model_path)), ("logprobs", logprobs(model_path))):
        lines = [json.dumps(answer, ensure_ascii=False) for answer in answers]
        (folder / f"{name}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
