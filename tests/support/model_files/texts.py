"""Texts to try tokenizers with. Apart from `tokenizers`, because the benchmark has no Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

# SentencePiece writes a space as "▁", and cannot distinguish the two. ChatGLM-6B writes white space in a similar way.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=30),
    st.text("a \n\t你，,<n>"),
).filter(lambda text: "<|tab|>" not in text and "<|blank_" not in text)
