"""The parameters that say whether the model thinks, and how much; a model that does not think refuses to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from glm_api.pipeline.conversation import TemplateOptions
from tests.support.client import CHAT, HELLO, MakeApp, error, refused
from tests.support.fake_pipeline import MODEL, FakePipeline

RESPONSES = "/v1/responses"
THINK: dict[str, Any] = {"enable_thinking": True}
DO_NOT_THINK: dict[str, Any] = {"enable_thinking": False}
UNSUPPORTED = "unsupported_parameter"


def ask(client: FlaskClient, **parameters: Any) -> Any:
    return client.post(CHAT, json={"messages": HELLO, **parameters})


def template(client: FlaskClient, fake: FakePipeline, **parameters: Any) -> tuple[dict[str, Any], str | None]:
    """The variables and the effort that the template gets; the same for a chat and for its prompt alone."""
    response = ask(client, **parameters)
    assert response.status_code == 200, response.text
    options = fake.conversations[-1].template
    response = client.post("/apply-template", json={"messages": HELLO, **parameters})
    assert response.status_code == 200, response.text
    assert fake.conversations[-1].template == options
    return json.loads(options.kwargs), options.reasoning_effort


@pytest.fixture
def thinking(fake: FakePipeline) -> FakePipeline:
    fake.thinks()
    return fake


class TestAModelThatThinks:
    @pytest.mark.parametrize(
        ("parameters", "kwargs", "effort"),
        [
            ({}, {}, None),
            ({"reasoning_effort": None, "thinking": None, "chat_template_kwargs": None}, {}, None),
            ({"thinking": {}, "chat_template_kwargs": {}}, {}, None),
            ({"reasoning_effort": "none"}, DO_NOT_THINK, "none"),
            ({"reasoning_effort": "minimal"}, DO_NOT_THINK, "minimal"),
            ({"reasoning_effort": "low"}, THINK, "low"),
            ({"reasoning_effort": "max"}, THINK, "max"),
            ({"thinking": {"type": "enabled"}}, THINK, None),
            ({"thinking": {"type": "disabled"}}, DO_NOT_THINK, None),
            ({"thinking": {"type": "enabled", "budget_tokens": 5}}, THINK, None),
            ({"thinking": {"clear_thinking": False}}, {"clear_thinking": False}, None),
            ({"chat_template_kwargs": DO_NOT_THINK}, DO_NOT_THINK, None),
            ({"chat_template_kwargs": {"thinking": False}}, {"thinking": False, **DO_NOT_THINK}, None),
            ({"chat_template_kwargs": {"thinking": "auto"}}, {"thinking": "auto"}, None),
            (
                {"chat_template_kwargs": {"a": [1, {"é": None}], "n": 10**30}},
                {"a": [1, {"é": None}], "n": 10**30},
                None,
            ),
            (
                {
                    "reasoning_effort": "high",
                    "thinking": {"type": "enabled", "clear_thinking": True},
                    "chat_template_kwargs": {"reasoning_effort": "high", "clear_thinking": True, **THINK},
                },
                {"reasoning_effort": "high", "clear_thinking": True, **THINK},
                "high",
            ),
        ],
    )
    def test_its_template_is_told(
        self,
        client: FlaskClient,
        thinking: FakePipeline,
        parameters: dict[str, Any],
        kwargs: dict[str, Any],
        effort: str | None,
    ) -> None:
        assert template(client, thinking, **parameters) == (kwargs, effort)

    @pytest.mark.parametrize(
        ("parameters", "param", "other"),
        [
            (
                {"thinking": {"type": "disabled"}, "chat_template_kwargs": THINK},
                "chat_template_kwargs.enable_thinking",
                "thinking.type",
            ),
            (
                {"reasoning_effort": "none", "thinking": {"type": "enabled"}},
                "thinking.type",
                "reasoning_effort",
            ),
            (
                {"reasoning_effort": "high", "chat_template_kwargs": DO_NOT_THINK},
                "chat_template_kwargs.enable_thinking",
                "reasoning_effort",
            ),
            (
                {"chat_template_kwargs": {**THINK, "thinking": False}},
                "chat_template_kwargs.thinking",
                "chat_template_kwargs.enable_thinking",
            ),
            (
                {"thinking": {"clear_thinking": True}, "chat_template_kwargs": {"clear_thinking": False}},
                "chat_template_kwargs.clear_thinking",
                "thinking.clear_thinking",
            ),
            (
                {"reasoning_effort": "high", "chat_template_kwargs": {"reasoning_effort": "low"}},
                "chat_template_kwargs.reasoning_effort",
                "reasoning_effort",
            ),
        ],
    )
    def test_a_contradiction_is_refused(
        self, client: FlaskClient, thinking: FakePipeline, parameters: dict[str, Any], param: str, other: str
    ) -> None:
        assert repr(other) in refused(ask(client, **parameters), param)
        assert thinking.jobs == []

    @pytest.mark.parametrize("effort", [None, "none", "high"])
    def test_a_response_has_the_same_effort(
        self, client: FlaskClient, thinking: FakePipeline, effort: str | None
    ) -> None:
        response = client.post(RESPONSES, json={"input": "Hi", "reasoning": {"effort": effort, "summary": "auto"}})
        assert response.status_code == 200, response.text
        assert response.get_json()["reasoning"] == {"effort": effort, "summary": None}
        of_response = thinking.conversations[-1].template
        assert ask(client, reasoning_effort=effort).status_code == 200
        assert thinking.conversations[-1].template == of_response

    def test_what_it_thinks_is_always_apart(self, client: FlaskClient, thinking: FakePipeline) -> None:
        assert ask(client, reasoning_format="deepseek").status_code == 200
        refused(ask(client, reasoning_format="none"), "reasoning_format", UNSUPPORTED)


# The values of each parameter that ask for no thinking, and those that ask for more than this model can.
WITHOUT_THINKING: list[tuple[str, list[Any], list[tuple[Any, str]]]] = [
    ("reasoning_effort", ["none", "minimal"], [("low", "reasoning_effort"), ("max", "reasoning_effort")]),
    (
        "thinking",
        [{}, {"type": "disabled"}, {"type": "disabled", "clear_thinking": True}],
        [
            ({"type": "enabled"}, "thinking.type"),
            ({"type": "disabled", "clear_thinking": False}, "thinking.clear_thinking"),
        ],
    ),
    (
        "chat_template_kwargs",
        [{}, DO_NOT_THINK, {"thinking": False}],
        [
            (THINK, "chat_template_kwargs.enable_thinking"),
            ({"thinking": True}, "chat_template_kwargs.thinking"),
            ({"thinking": "auto"}, "chat_template_kwargs.thinking"),
            ({**DO_NOT_THINK, "clear_thinking": False}, "chat_template_kwargs.clear_thinking"),
        ],
    ),
]


class TestAModelThatDoesNotThink:
    @pytest.mark.parametrize(("parameter", "satisfied", "others"), WITHOUT_THINKING)
    def test_it_refuses_to_think_and_nothing_else(
        self,
        client: FlaskClient,
        fake: FakePipeline,
        parameter: str,
        satisfied: list[Any],
        others: list[tuple[Any, str]],
    ) -> None:
        for value in [*satisfied, None]:
            assert template(client, fake, **{parameter: value}) == ({}, None)
        for value, param in others:
            message = refused(ask(client, **{parameter: value}), param, UNSUPPORTED)
            assert message.endswith(". Leave it out.")

    def test_a_lenient_server_ignores_it(self, make_app: MakeApp, fake: FakePipeline) -> None:
        client = make_app(lenient=True).test_client()
        for parameter, _, others in WITHOUT_THINKING:
            for value, _ in others:
                assert template(client, fake, **{parameter: value}) == ({}, None)

    def test_a_response_gives_the_effort_back(self, client: FlaskClient, fake: FakePipeline) -> None:
        for effort in (None, "none", "minimal"):
            body = client.post(RESPONSES, json={"input": "Hi", "reasoning": {"effort": effort}}).get_json()
            assert body["reasoning"] == {"effort": effort, "summary": None}
            assert fake.conversations[-1].template == TemplateOptions()
        response = client.post(RESPONSES, json={"input": "Hi", "reasoning": {"effort": "low"}})
        refused(response, "reasoning.effort", UNSUPPORTED)


def test_a_template_gets_its_variables_though_the_model_does_not_think(client: FlaskClient, fake: FakePipeline) -> None:
    fake.info = replace(MODEL, templated=True)
    given = {**DO_NOT_THINK, "custom": [1]}
    assert template(client, fake, chat_template_kwargs=given) == ({"custom": [1]}, None)
    refused(ask(client, chat_template_kwargs=THINK), "chat_template_kwargs.enable_thinking", UNSUPPORTED)
    refused(ask(client, thinking={"clear_thinking": False}), "thinking.clear_thinking", UNSUPPORTED)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("thinks", [True, False])
@pytest.mark.parametrize(
    ("parameter", "value", "param"),
    [
        ("reasoning_effort", "huge", None),
        ("reasoning_effort", 5, None),
        ("thinking", "enabled", None),
        ("thinking", True, None),
        ("thinking", {"type": "adaptive"}, "thinking.type"),
        ("thinking", {"clear_thinking": "yes"}, "thinking.clear_thinking"),
        ("chat_template_kwargs", "{}", None),
        ("chat_template_kwargs", [], None),
        ("chat_template_kwargs", {"enable_thinking": "false"}, "chat_template_kwargs.enable_thinking"),
        ("chat_template_kwargs", {"enable_thinking": 0}, "chat_template_kwargs.enable_thinking"),
        ("chat_template_kwargs", {"enable_thinking": None}, "chat_template_kwargs.enable_thinking"),
        ("chat_template_kwargs", {"a": "x" * 65_536}, None),
        ("chat_template_kwargs", nested(40), None),
        ("include_reasoning", "no", None),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    client: FlaskClient, fake: FakePipeline, thinks: bool, parameter: str, value: Any, param: str | None
) -> None:
    if thinks:
        fake.thinks()
    refused(ask(client, **{parameter: value}), param or parameter)


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ("high", "reasoning", "invalid_value"),
        ({"effort": "huge"}, "reasoning.effort", "invalid_value"),
        ({"summary": "detailed"}, "reasoning.summary", UNSUPPORTED),
        ({"generate_summary": "concise"}, "reasoning.generate_summary", UNSUPPORTED),
        ({"context": "all_turns"}, "reasoning.context", UNSUPPORTED),
        ({"mode": "pro"}, "reasoning.mode", UNSUPPORTED),
    ],
)
def test_a_wrong_value_of_a_response_is_refused_by_name(
    client: FlaskClient, thinking: FakePipeline, options: Any, param: str, code: str
) -> None:
    found = error(client.post(RESPONSES, json={"input": "Hi", "reasoning": options}))
    assert (found["param"], found["code"]) == (param, code)


def ask_elsewhere(client: FlaskClient, path: str, **parameters: Any) -> Any:
    asked = {"input": "Hi"} if path.startswith(RESPONSES) else {"messages": HELLO, "max_tokens": 5}
    return client.post(path, json={**asked, **parameters})


ELSEWHERE = [RESPONSES, f"{RESPONSES}/input_tokens", "/v1/messages", "/v1/messages/count_tokens"]


@pytest.mark.parametrize("path", ELSEWHERE)
class TestVariablesOutsideOfChats:
    def test_the_template_gets_them(self, client: FlaskClient, thinking: FakePipeline, path: str) -> None:
        given = {**DO_NOT_THINK, "custom": [1]}
        response = ask_elsewhere(client, path, chat_template_kwargs=given)
        assert response.status_code == 200, response.text
        assert json.loads(thinking.conversations[-1].template.kwargs) == given

    def test_a_contradiction_is_refused(self, client: FlaskClient, thinking: FakePipeline, path: str) -> None:
        thinks: dict[str, Any] = (
            {"reasoning": {"effort": "high"}}
            if path.startswith(RESPONSES)
            else {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        )
        response = ask_elsewhere(client, path, **thinks, chat_template_kwargs=DO_NOT_THINK)
        assert response.status_code == 400
        assert "'chat_template_kwargs.enable_thinking': it contradicts" in response.get_json()["error"]["message"]

    def test_a_model_that_does_not_think_refuses_to(self, client: FlaskClient, path: str) -> None:
        assert ask_elsewhere(client, path, chat_template_kwargs=DO_NOT_THINK).status_code == 200
        response = ask_elsewhere(client, path, chat_template_kwargs=THINK)
        assert response.status_code == 400
        assert "chat_template_kwargs.enable_thinking" in response.get_json()["error"]["message"]
