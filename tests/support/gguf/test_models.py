from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.gguf.models import (
    CHATGLM3,
    GLM_4_0414,
    GLM_4_1V,
    GLM_4_5,
    GLM_4_7_FLASH,
    GLM_Z1,
    KINDS,
    Kind,
    write_model,
)
from tests.support.gguf.projector import write_projector
from tests.support.gguf.script import Script
from tests.support.processes import ending
from tests.support.upstream.fixtures import LlamaServer, StartLlamaServer, start

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION = {"role": "user", "content": "How is the weather?"}
CALL = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
RESULT: list[dict[str, Any]] = [
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "rain"},
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="module")
def server(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    folder = tmp_path_factory.mktemp("gguf")
    with ending(partial(start, folder, model=write_model(folder / "model.gguf", kind))) as start_and_note:
        yield start_and_note()


def complete(server: LlamaServer, prompt: str) -> dict[str, Any]:
    body = {"prompt": prompt, "temperature": 1.5, "n_predict": 50}
    answer: dict[str, Any] = server.http.post("/completion", json=body).raise_for_status().json()
    return answer


def chat(server: LlamaServer, *history: dict[str, Any], **body: Any) -> dict[str, Any]:
    """Return the message that answers a question and what came after it, without what is empty."""
    body |= {"messages": [QUESTION, *history], "max_tokens": 50}
    answer = server.http.post("/v1/chat/completions", json=body).raise_for_status()
    message: dict[str, Any] = answer.json()["choices"][0]["message"]
    return {key: value for key, value in message.items() if value and key != "role"}


def test_the_model_answers_with_its_first_script(kind: Kind, server: LlamaServer) -> None:
    pieces = kind.scripts[0].pieces

    answer = complete(server, "<|user|>Hi<|assistant|>")

    assert answer["content"].startswith("".join(pieces[:-1]))
    if kind is not CHATGLM3:  # Its file names no token but </s> that ends an answer.
        assert (answer["stop_type"], answer["tokens_predicted"]) == ("eos", len(pieces))


def test_a_trigger_in_the_prompt_chooses_the_script(kind: Kind, server: LlamaServer) -> None:
    for script in kind.scripts[1:]:
        answer = complete(server, f"<|user|>{'Hi ' * 500}{script.trigger}{' you' * 100}<|assistant|>")

        assert answer["content"].startswith("".join(script.pieces[:-1]))


def test_the_later_script_is_chosen_if_two_are_wanted(kind: Kind, server: LlamaServer) -> None:
    triggers = [script.trigger for script in kind.scripts if script.trigger]

    answer = complete(server, f"<|user|>{''.join(reversed(triggers))}<|assistant|>")

    assert answer["content"].startswith("".join(kind.scripts[-1].pieces[:-1]))


@pytest.mark.parametrize("kind", [GLM_4_5, GLM_4_7_FLASH], indirect=True, ids=lambda kind: kind.name)
def test_llama_cpp_reads_thinking_and_calls_by_the_template(kind: Kind, server: LlamaServer) -> None:
    plain = chat(server)
    call = chat(server, tools=[WEATHER])
    result = chat(server, *RESULT, tools=[WEATHER])
    without_thinking = chat(server, chat_template_kwargs={"enable_thinking": False})

    assert plain == {"reasoning_content": "Let me think.", "content": "The answer is 四2。"}
    [made] = call.pop("tool_calls")
    assert (made["function"]["name"], json.loads(made["function"]["arguments"])) == ("get_weather", {"city": "Paris"})
    assert call == {"reasoning_content": "Let me think."}
    assert result == {"reasoning_content": "Let me think.", "content": "It rains there!"}
    assert without_thinking == {"content": "The answer is 四2。"}


@pytest.mark.parametrize("kind", [GLM_4_0414], indirect=True, ids=lambda kind: kind.name)
def test_llama_cpp_reads_calls_in_json(kind: Kind, server: LlamaServer) -> None:
    [made] = chat(server, tools=[WEATHER])["tool_calls"]

    assert (made["function"]["name"], json.loads(made["function"]["arguments"])) == ("get_weather", {"city": "Paris"})


@pytest.mark.parametrize("kind", [GLM_Z1], indirect=True, ids=lambda kind: kind.name)
def test_the_prompt_of_glm_z1_begins_the_thinking(kind: Kind, server: LlamaServer) -> None:
    rendered = server.http.post("/apply-template", json={"messages": [QUESTION]}).raise_for_status().json()

    assert rendered["prompt"].endswith("<|assistant|>\n<think>")


def test_the_model_with_a_projector_sees_that_there_is_a_picture(
    tmp_path: Path, start_llama_server: StartLlamaServer
) -> None:
    model = write_model(tmp_path / "model.gguf", GLM_4_1V)
    server = start_llama_server(model=model, projector=write_projector(tmp_path / "projector.gguf"))
    file = io.BytesIO()
    Image.new("RGB", (32, 24), "red").save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    picture = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]

    assert chat(server, {"role": "user", "content": picture})["content"] == "A picture!"
    assert chat(server)["content"] == "The answer is 四2。"


def test_a_script_that_does_not_end_goes_on_for_ever(tmp_path: Path, start_llama_server: StartLlamaServer) -> None:
    server = start_llama_server(model=write_model(tmp_path / "model.gguf", GLM_4_5, [Script(("Tick", " tock "))]))

    answer = complete(server, "<|assistant|>")

    assert (answer["content"], answer["stop_type"]) == ("Tick tock " * 25, "limit")


def test_a_script_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cut its texts otherwise"):
        write_model(tmp_path / "model.gguf", GLM_4_5, [Script(("Yes", ",", " no", ",", " perhaps"))])
