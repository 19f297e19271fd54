"""The SentencePiece tokenizer of the demo model, trained on the same dialogues as the model.

Copying is what a small model learns last, so a value must have the same pieces wherever it stands: a space is a piece of
its own, digits are single, and Chinese characters are never merged.
"""

from __future__ import annotations

import io
import re
from random import Random

import sentencepiece

from . import dialogues, tools, values

NUM_PIECES = 3063  # with the nine special ids behind them, 3,072 in all
_SPACE = "▁"

# Frequent parts of tool declarations and calls, one piece each; the indents are those of `json.dumps(indent=4)`.
_DECLARED_PIECES = [
    *(_SPACE * width for width in (1, 2, 4, 8, 12, 16, 20, 24, 28)),
    *("\n" + _SPACE * width for width in (4, 8, 12, 16, 20, 24)),
    *(f'"type":{_SPACE}"{kind}"' for kind in ("string", "object", "number", "integer")),
    *(f'"{key}":{_SPACE}"' for key in ("name", "description")),
    *(
        f'"{key}":{_SPACE}' + bracket
        for key, bracket in (("parameters", "{"), ("properties", "{"), ("required", "["), ("enum", "["))
    ),
    f'"additionalProperties":{_SPACE}false',
    "```python",
    "tool_call(",
    "```",
    "true",
    "false",
    "='",
    "')",
]
_CHINESE = re.compile("([\u4e00-\u9fff])")


def _training_lines(seed: int, num_dialogues: int) -> list[str]:
    """Return lines of generated dialogues and of every table, with Chinese characters apart so that none are merged."""
    rng = Random(seed)
    lines: list[str] = []
    for index in range(num_dialogues):
        dialogue = tools.tool_dialogue(rng) if index % 4 == 0 else dialogues.chat(rng)
        for message in dialogue:
            lines += [message.metadata, *message.content.split("\n")]
    for topics in (
        dialogues.talk.SMALL_TALK_ENGLISH,
        dialogues.talk.SMALL_TALK_CHINESE,
        dialogues.talk.LONG_ENGLISH,
        dialogues.talk.LONG_CHINESE,
    ):
        for topic in topics:
            lines += topic.questions + topic.answer.split("\n")
    lines += ["".join(values.CHINESE_CHARACTERS)] * 3
    return [_CHINESE.sub(r" \1 ", line) for line in lines if line.strip()]


def train_tokenizer(seed: int = 11, num_dialogues: int = 12000) -> bytes:
    """Train the tokenizer and return the serialized SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_training_lines(seed, num_dialogues)),
        model_writer=model,
        model_type="bpe",
        vocab_size=NUM_PIECES,
        byte_fallback=True,
        character_coverage=1.0,
        split_digits=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=_DECLARED_PIECES,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        max_sentence_length=8000,
        minloglevel=1,
    )
    return model.getvalue()
