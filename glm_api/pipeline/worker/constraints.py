"""Hold an answer to a grammar: llguidance tells after each token which may follow.

What is complete under a grammar is valid, whatever the temperature. https://github.com/guidance-ai/llguidance
"""

from __future__ import annotations

import os
import re
import resource
import select
import signal
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from glm_api.pipeline.worker.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# What compiling a grammar and one step of it may cost. A step of the largest grammar that is admitted takes some 20 ms.
LIMITS = LLParserLimits(
    initial_lexer_fuel=2_000_000, step_lexer_fuel=200_000, step_max_items=50_000, max_grammar_size=200_000
)
# What `Constraints.refusal` grants a grammar: CPU seconds, seconds, and bytes of memory. Those limits are no limits of
# all that compiling does: the least common multiple of a few numbers can take minutes and gigabytes. Ordinary grammars
# take milliseconds, a hundred tools a tenth of a second. The CPU seconds are what bounds a grammar. The seconds are
# many more, so that a busy machine refuses no good one, and fewer than those after which this process counts as hung.
TRIAL_CPU_SECONDS = 0.5
TRIAL_SECONDS = 3.0
TRIAL_BYTES = 256 * 2**20
TOO_COSTLY = "it takes too long or too much memory to compile"
# Verdicts that are kept.
VERDICTS = 64
# Compiled grammars that are kept. A large one takes some megabytes.
KEPT = 16
# A message may quote a pattern, which may be long.
MAX_REASON = 300
_ACCEPTED = b"\0"
_PLACE = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")


class GrammarError(ValueError):
    """The grammar cannot be compiled, or not within `LIMITS`. The message tells why, in llguidance's words."""


class Constraints:
    """Compiles grammars for one vocabulary. ``size`` is the number of logits, ``encode`` gives the ids of a text."""

    def __init__(
        self, vocabulary: Vocabulary, size: int, end_ids: frozenset[int], encode: Callable[[str], list[int]]
    ) -> None:
        self._tokens = _Tokens(vocabulary, size, end_ids, encode)
        self._tokenizer = LLTokenizer(TokenizerWrapper(self._tokens), n_vocab=size, eos_token=sorted(end_ids))
        self._size = size
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._verdicts: OrderedDict[str, str] = OrderedDict()

    def refusal(self, grammar: str) -> str | None:
        """Return why ``grammar`` cannot be compiled, in llguidance's words; None if it can.

        It is compiled in a child process, because only a process can be ended, and only a process gives its memory
        back. So whatever the grammar is, this costs half a second of the CPU at most.
        """
        if grammar not in self._verdicts:
            verdict = self._try(grammar)
            if verdict is None:
                # It says how busy the machine is, not what the grammar is: the next request tries again.
                return TOO_COSTLY
            self._verdicts[grammar] = verdict
            if len(self._verdicts) > VERDICTS:
                self._verdicts.popitem(last=False)
        self._verdicts.move_to_end(grammar)
        return self._verdicts[grammar] or None

    def _try(self, grammar: str) -> str | None:
        """Return the verdict: nothing if ``grammar`` can be compiled, else why not. None if there was no time."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            self._run_trial(grammar, writing)
        os.close(writing)
        try:
            # The child writes at its end, so what it has written can be read at once.
            ended = select.select([reading], [], [], TRIAL_SECONDS)[0]
            verdict = os.read(reading, 4 * MAX_REASON) if ended else None
        finally:
            os.close(reading)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if verdict is None:
            return None
        return "" if verdict == _ACCEPTED else verdict.decode(errors="replace") or TOO_COSTLY

    def _run_trial(self, grammar: str, writing: int) -> NoReturn:
        """Compile ``grammar`` and write the verdict, in the child process, which ends here whatever happens."""
        try:
            # Nothing of the parent's may end late because this process has it open too.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(writing, 3)
            for descriptor in range(3):
                os.dup2(nowhere, descriptor)
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + TRIAL_BYTES, mapped + TRIAL_BYTES))
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, TRIAL_CPU_SECONDS)
            verdict = _ACCEPTED
            try:
                self.compile(grammar)
            except GrammarError as error:
                verdict = str(error).encode(errors="replace")
            os.write(3, verdict)
        finally:
            os._exit(0)

    def compile(self, grammar: str) -> Constraint:
        """Return a constraint at the beginning of ``grammar``, in Lark syntax. Raises `GrammarError`."""
        matcher = self._compiled.get(grammar)
        if matcher is None:
            matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(grammar), log_level=0, limits=LIMITS)
            # Only the first step finds that nothing can follow.
            matcher.compute_bitmask()
            if matcher.is_error():
                raise GrammarError(_reason(matcher.get_error()))
            self._compiled[grammar] = matcher
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(grammar)
        return Constraint(matcher.deep_copy(), self._size)

    def fits(self, grammar: str, text: str) -> bool:
        """Return whether ``text`` is all of an answer that ``grammar`` admits. Raises `GrammarError`."""
        constraint = self.compile(grammar)
        try:
            for token in self._tokens(text):
                constraint.consume(token)
        except GrammarError:
            return False
        return constraint.complete


class Constraint:
    """Which ids may follow in one answer."""

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        self._matcher = matcher
        self._size = size

    def forbidden(self) -> NDArray[np.bool_]:
        """Return an array, true for each id that may not follow. Raises `GrammarError` if that costs too much."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise GrammarError(_reason(self._matcher.get_error()))
        forbidden: NDArray[np.bool_] = np.unpackbits(mask, count=self._size, bitorder="little") == 0
        return forbidden

    def consume(self, token: int) -> None:
        """Take note that ``token`` follows. Raises `GrammarError` if it may not."""
        if not self._matcher.consume_token(token):
            raise GrammarError(_reason(self._matcher.get_error()))

    @property
    def complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def over(self) -> bool:
        """Whether the answer must end here."""
        return bool(self._matcher.is_stopped())


class _Tokens:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(
        self, vocabulary: Vocabulary, size: int, end_ids: frozenset[int], encode: Callable[[str], list[int]]
    ) -> None:
        names = {number: name for name, number in vocabulary.specials.items()}
        pieces: Sequence[bytes] = [*vocabulary.pieces, *[b""] * (size - len(vocabulary.pieces))]
        # 0xFF, which is in no text, marks a special token.
        self.tokens = [
            piece or b"\xff" + names.get(number, f"<|{number}|>").encode() for number, piece in enumerate(pieces)
        ]
        self.special_token_ids = [number for number, piece in enumerate(pieces) if not piece]
        self.eos_token_id = min(end_ids)
        self._encode = encode
        # SentencePiece puts a space in front of a text. A line break, which is part of no piece, takes it instead.
        self._opening = "\n" if vocabulary.begins_with_space else ""
        self._opening_ids = encode(self._opening)

    def __call__(self, text: str) -> list[int]:
        """Return the ids of ``text`` in the middle of an answer: llguidance asks for those that it forces."""
        return self._encode(self._opening + text)[len(self._opening_ids) :]


def _reason(message: str) -> str:
    """Return the part of llguidance's message that tells what is wrong, without its place in the grammar."""
    first, *more = message.strip().splitlines() or [""]
    if first in ("NoExtension", "NoExtensionBias"):
        return "no answer can satisfy it"
    detail = next((line.removeprefix("error: ") for line in more if line.startswith("error: ")), "")
    reason = f"{_PLACE.sub('', first)} {detail}".strip()
    return reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 3]}..."
