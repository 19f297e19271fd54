"""Train on a CPU: Muon for the matrices of the blocks, AdamW for the rest, a cosine rate over the given minutes."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import sentencepiece
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from . import dialogues, tools
from .model import ChatGLM3, Config
from .prompt import Dialogue, SpecialIds, encode_for_training

SEED = 20240517
TOOL_TOKENS, CHAT_TOKENS = 3200, 2000  # padded tokens a step of each kind, of all workers
POOL_SIZE = 400  # dialogues that are sorted by length together
MAX_TOKENS = 1024
WARM_UP_STEPS = 60
MUON_RATE, ADAM_RATE, FINAL_RATE = 0.02, 3e-3, 0.02
CHECKPOINT_SECONDS = 240

Batch = tuple[Tensor, Tensor, Tensor]


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz steps (Jordan et al., 2024), in float32.

    PyTorch's own takes the steps in bfloat16, which is slow on a CPU without instructions for it. The workers share the
    work: each makes the updates of its share of the matrices, and all get the sum.
    """

    def __init__(self, parameters: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @staticmethod
    def orthogonalize(update: Tensor) -> Tensor:
        """update: [rows, columns] -> the same shape with singular values near one."""
        matrix = update / (update.norm() + 1e-7)
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        for _ in range(5):
            gram = wide @ wide.T
            wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
        return wide if matrix.shape[0] <= matrix.shape[1] else wide.T

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        rank, workers = dist.get_rank(), dist.get_world_size()
        for group in self.param_groups:
            updates = []
            for index, parameter in enumerate(group["params"]):
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                mine = index % workers == rank
                updates.append(
                    self.orthogonalize(parameter.grad.lerp(momentum, group["momentum"]))
                    if mine
                    else torch.zeros_like(parameter)
                )
            _add_over_workers(updates)
            for parameter, update in zip(group["params"], updates, strict=True):
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


def chat_dialogue(rng: Random) -> Dialogue:
    """Return a dialogue without declared tools."""
    return tools.without_tools(rng) if rng.random() < 0.05 else dialogues.chat(rng)


def batches(
    make: Callable[[Random], Dialogue],
    tokens: int,
    rng: Random,
    processor: sentencepiece.SentencePieceProcessor,
) -> Iterator[Batch]:
    """Yield batches of dialogues of similar length for ever: ids [B, T], positions [N] to predict, their labels [N]."""
    special = SpecialIds.after(processor.vocab_size())
    while True:
        pool = [encode_for_training(make(rng), processor.encode, special) for _ in range(POOL_SIZE)]
        pool = sorted((sample for sample in pool if len(sample[0]) <= MAX_TOKENS), key=lambda sample: len(sample[0]))
        groups, group = [], []
        for sample in pool:
            if group and len(sample[0]) * (len(group) + 1) > tokens:
                groups.append(group)
                group = []
            group.append(sample)
        rng.shuffle(groups)
        for group in groups:
            length = len(group[-1][0])
            ids, learned = (
                torch.zeros(len(group), length, dtype=torch.long),
                torch.zeros(len(group), length, dtype=torch.bool),
            )
            for row, (sample_ids, sample_learned) in enumerate(group):
                ids[row, : len(sample_ids)] = torch.tensor(sample_ids)
                learned[row, : len(sample_learned)] = torch.tensor(sample_learned)
            positions = learned[:, 1:].flatten().nonzero().squeeze(1)
            yield ids[:, :-1].contiguous(), positions, ids[:, 1:].flatten()[positions]


def learning_rate(progress: float) -> float:
    """Return the fraction of the full rate at a fraction of the run: half a cosine."""
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


def _add_over_workers(parts: list[Tensor]) -> None:
    """Replace each tensor by the sum of this tensor over all workers."""
    flat = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(flat)
    for part, total in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
        part.copy_(total.view_as(part))


def _work(rank: int, workers: int, rendezvous: str, tokenizer: bytes, minutes: float, checkpoint: Path) -> None:
    """Run one process of the training. In each step every process makes its own dialogues, and all average their gradients."""
    with contextlib.suppress(OSError):
        os.setsid()  # Linux may share the processor by sessions, not by processes
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=workers)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    model = ChatGLM3(Config())
    model.install_copying(SEED)
    parameters = list(model.parameters())
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("blocks.")]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and name.startswith("blocks."))]
    optimizers = [Muon(matrices, MUON_RATE), torch.optim.AdamW(others, ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.01)]
    base_rates = [MUON_RATE, ADAM_RATE]
    seconds, seconds_before, steps, tokens = minutes * 60, 0.0, 0, 0
    if checkpoint.exists():
        saved_run = torch.load(checkpoint)
        model.load_state_dict(saved_run["model"])
        for optimizer, state in zip(optimizers, saved_run["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        seconds_before, steps, tokens = (saved_run[key] for key in ("seconds", "steps", "tokens"))
    steps_before = steps

    start = saved = time.monotonic()
    progress = seconds_before / seconds
    streams = {
        name: batches(make, budget // workers, Random(f"{SEED} {name} {rank} {steps}"), processor)
        for name, make, budget in (("tools", tools.tool_dialogue, TOOL_TOKENS), ("chat", chat_dialogue, CHAT_TOKENS))
    }
    averages = dict.fromkeys(streams, 0.0)
    bar = tqdm(
        total=round(seconds), initial=round(seconds_before), unit="s", desc="training", mininterval=5, disable=rank > 0
    )
    while progress < 1:
        warm_up = min(1.0, (steps + 1) / WARM_UP_STEPS)
        for optimizer, rate in zip(optimizers, base_rates, strict=True):
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate * warm_up * learning_rate(progress)
        for name, stream in streams.items():
            ids, positions, labels = next(stream)
            loss = F.cross_entropy(model(ids, positions), labels)
            (loss / (len(streams) * workers)).backward()
            tokens += ids.numel() * workers
            averages[name] += (loss.item() - averages[name]) * max(0.02, 1 / (steps - steps_before + 1))
        _add_over_workers([parameter.grad for parameter in parameters])
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        steps += 1
        elapsed = torch.tensor(seconds_before + time.monotonic() - start, dtype=torch.float64)
        dist.broadcast(elapsed, 0)  # one clock, so that all end after the same step
        progress = elapsed.item() / seconds
        bar.update(min(round(elapsed.item()), bar.total) - bar.n)
        bar.set_postfix(step=steps, **{name: f"{value:.3f}" for name, value in averages.items()}, refresh=False)
        if rank == 0 and (time.monotonic() - saved > CHECKPOINT_SECONDS or progress >= 1):
            saved = time.monotonic()
            record = {"seconds": elapsed.item(), "steps": steps, "tokens": tokens, "losses": averages}
            states = [optimizer.state_dict() for optimizer in optimizers]
            torch.save({"model": model.state_dict(), "optimizers": states, **record}, checkpoint)
    bar.close()
    dist.destroy_process_group()


def train(tokenizer: bytes, minutes: float, checkpoint: Path, workers: int) -> tuple[ChatGLM3, dict[str, Any]]:
    """Train for `minutes`, continuing from `checkpoint` if it exists; return the model and a summary of the run.

    Several processes of one thread each lose less to whatever else the machine does than one process of several threads,
    which wait for each other many times a step.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = (workers, f"{folder}/rendezvous", tokenizer, minutes, checkpoint)
        torch.multiprocessing.spawn(_work, arguments, nprocs=workers)
    record = torch.load(checkpoint)
    model = ChatGLM3(Config())
    model.load_state_dict(record.pop("model"))
    del record["optimizers"]
    return model, record
