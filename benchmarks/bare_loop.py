"""The bare loop: chatglm_cpp in a process of its own, with nothing around it. The other sides are compared with it.

It reads one JSON request a line and writes one JSON answer a line::

    python -m benchmarks.bare_loop MODEL LENGTH
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import chatglm_cpp

UNCUT = 1 << 30


def main(model: str, max_length: int) -> None:
    pipeline = chatglm_cpp.Pipeline(model, max_length=max_length)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(pipeline, max_length, **json.loads(line))), flush=True)


def answer(pipeline: Any, max_length: int, messages: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
    """Return the greedy answer, of at most ``max_tokens``; with 0, only count the prompt. Times are in seconds."""
    ids = pipeline.tokenizer.apply_chat_template([chatglm_cpp.ChatMessage(**message) for message in messages], UNCUT)
    if max_tokens == 0:
        return {"prompt_tokens": len(ids), "ids": ids}
    config = chatglm_cpp._C.GenerationConfig(max_length=max_length, max_new_tokens=max_tokens, do_sample=False)
    generated: list[int] = []
    first = 0.0
    begun = time.perf_counter()
    for id in pipeline._stream_generate_ids(ids, None, config):
        first = first or time.perf_counter()
        generated.append(id)
    over = time.perf_counter()
    return {
        "prompt_tokens": len(ids),
        "tokens": len(generated),
        "text": pipeline.tokenizer.decode(generated).strip(),
        "first": first - begun,
        "total": over - begun,
    }


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
