"""What a child prints goes into the log, but for what llama.cpp tells of answers."""

from __future__ import annotations

from glm_api.pipeline.child_output import REPLACED, WithoutAnswers

# As llama.cpp b11549 prints it.
PRINTED = r"""
Warning: Parser Error: token "兔" doesn't satisfy the grammar; byte 'å' fails parse; stopping
6.18.468.096 E llg error: Parser Error: token "兔" doesn't satisfy the grammar; byte 'å' fails parse
<state>
Tokens: ⟦ ‧\n‧ ‧My‧ ‧se‧cre‧t‧兔⟧
12 tokens, 0 bytes; grm_prefix: ""
Flags:
Parser: {
"rows": 3
}
Stop: ParserTooComplex
Error: Parser Error: token "兔" doesn't satisfy the grammar; byte 'å' fails parse
</state><grammar>
start: "</grammar>" secret
</grammar>
GGML_ASSERT(x) failed
"""


def told(printed: str) -> list[str]:
    output = WithoutAnswers()
    return [line for line in map(output.feed, printed.strip().splitlines()) if line]


def test_the_state_of_a_parser_is_left_out() -> None:
    assert told(PRINTED) == [REPLACED, REPLACED, "GGML_ASSERT(x) failed"]


def test_all_else_is_told() -> None:
    assert told("loading\nError: Parser\n</grammar>\n<b>") == ["loading", "Error: Parser", "</grammar>", "<b>"]


def test_a_state_without_an_end_hides_no_more_than_its_lines() -> None:
    lines = told("<state>\n" + "x\n" * 10_000 + "GGML_ASSERT(x) failed")
    assert lines == ["GGML_ASSERT(x) failed"]
