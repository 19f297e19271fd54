"""A script: what a model answers, put into its weights.

The hidden state has an element for each token that another one follows, one for each trigger, and one for each script
with a trigger. A token sets its own element and, if it is a trigger, the trigger's. The attention of the first layer
looks at triggers only, and sets the element of the script of the strongest trigger in the prompt. All other layers add
nothing. The output makes the token likeliest that follows in that script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.support.gguf.file import zeros

START = "<|assistant|>"

# Logits, before the last norm multiplies them. A token that follows the last one in some script gets the first number.
# The second is added in the first script, the third to all tokens of the trigger's script. The last one is for the
# beginning of the first script, after a token that no script goes on from.
_FOLLOWS, _FIRST, _TRIGGERED, _RESTARTS = 8.0, 1.0, 4.0, 0.5


@dataclass(frozen=True)
class Script:
    """An answer, as the texts of its tokens; the first one follows ``<|assistant|>``.

    A text that is no special token becomes a token of its own. Within a script, one text must not follow a token that
    another one follows too: cut the texts otherwise. A script that does not end with a token that ends an answer goes
    on with the first script's beginning for ever.

    ``trigger``: a text that the model's prompt has when this script is wanted. It becomes a token. The first script is
    the answer to prompts without a trigger, and has none. Of two triggers in a prompt, that of the later script counts.
    """

    pieces: tuple[str, ...]
    trigger: str | None = None


@dataclass(frozen=True)
class Weights:
    """What an architecture needs to play scripts. The hidden state's elements of triggers and of scripts are given."""

    embeddings: NDArray[np.float32]
    output: NDArray[np.float32]
    triggers: Sequence[int]
    scripts: Sequence[int]

    @property
    def hidden(self) -> int:
        """The width of the hidden state."""
        return int(self.embeddings.shape[1])


def weights_for(scripts: Sequence[Script], ids: Mapping[str, int], vocabulary_size: int, hidden: int) -> Weights:
    """Return the weights; the hidden state is at least ``hidden`` wide, a multiple of 32.

    Raises ValueError if a script cannot be told from another one, or from itself.
    """
    steps = [list(zip((START, *script.pieces), script.pieces, strict=False)) for script in scripts]
    sources = {ids[before]: 1 + n for n, before in enumerate(dict.fromkeys(b for pairs in steps for b, _ in pairs))}
    triggers = range(1 + len(sources), len(sources) + len(scripts))
    chosen = range(triggers.stop, triggers.stop + len(triggers))
    hidden = max(hidden, -(-chosen.stop // 32) * 32)
    embeddings, output = zeros(vocabulary_size, hidden), zeros(vocabulary_size, hidden)
    embeddings[:, 0] = 1
    output[ids[scripts[0].pieces[0]], 0] = _RESTARTS
    for token, element in sources.items():
        embeddings[token, element] = 1
    for script, element in zip(scripts[1:], triggers, strict=True):
        if script.trigger is None:
            raise ValueError("Only the first script has no trigger.")
        embeddings[ids[script.trigger], element] = 1
    for number, pairs in enumerate(steps):
        for before, after in pairs:
            row = output[ids[after]]
            row[sources[ids[before]]] = max(row[sources[ids[before]]], _FOLLOWS + (_FIRST if number == 0 else 0))
            if number > 0:
                row[chosen[number - 1]] = _TRIGGERED
    for number, pairs in enumerate(steps):
        for before, after in pairs:
            state = embeddings[ids[before]].copy()
            if number > 0:
                state[chosen[number - 1]] = 1
            logits = output @ state
            best, second = np.argsort(logits)[:-3:-1]
            if best != ids[after] or logits[best] < logits[second] + 0.5:
                raise ValueError(f"Script {number} is not certain after {before!r}: cut its texts otherwise.")
    return Weights(embeddings, output, triggers, chosen)
