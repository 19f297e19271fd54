"""Token ids that a client sends itself."""

from __future__ import annotations

import openai
import pytest

from .conftest import Server

# Behind the demo model's vocabulary: just so, in the range of other models, and far off.
UNKNOWN = [3072, 64790, 2**31 - 1]


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("several", [False, True])
def test_a_prompt_of_ids_that_the_model_does_not_have_is_refused(demo: Server, unknown: int, several: bool) -> None:
    known = demo.http.post("/tokenize", json={"content": "hello"}).json()["tokens"]
    before = demo.children()
    with demo.sdk() as client, pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="demo", prompt=[known, [*known, unknown]] if several else [*known, unknown])
    assert refused.value.param == "prompt"
    assert str(unknown) in refused.value.message
    assert demo.children() == before, "a process died of it"


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_ids_that_the_model_does_not_have_have_no_text(demo: Server, unknown: int) -> None:
    response = demo.http.post("/detokenize", json={"tokens": [unknown]})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tokens"


def test_a_prompt_of_ids_is_answered_as_its_text_is(demo: Server) -> None:
    ids = demo.http.post("/tokenize", json={"content": "hello", "add_special": True}).json()["tokens"]
    with demo.sdk() as client:
        texts = [
            client.completions.create(model="demo", prompt=prompt, temperature=0).choices[0].text
            for prompt in ("hello", ids)
        ]
    assert texts[0] == texts[1]
