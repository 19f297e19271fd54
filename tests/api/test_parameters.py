"""Every parameter of a chat completion is honoured, or refused by its name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from glm_api.pipeline.conversation import ChoiceOutput, JsonOutput, RegexOutput, StructuredOutput
from glm_api.pipeline.job import Job, Sampling
from tests.support.client import CHAT, HELLO, refused
from tests.support.fake_pipeline import FakePipeline


def job(client: FlaskClient, fake: FakePipeline, **parameters: Any) -> Job:
    """The work that a request with ``parameters`` becomes."""
    response = client.post(CHAT, json={"messages": HELLO, **parameters})
    assert response.status_code == 200, response.text
    return fake.jobs[-1]


def refusal(client: FlaskClient, **parameters: Any) -> Any:
    return client.post(CHAT, json={"messages": HELLO, **parameters})


def named(path: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return ``parameters`` with the names that the endpoint has for them."""
    if path != "/v1/responses":
        return parameters
    return {"max_output_tokens" if name == "max_tokens" else name: value for name, value in parameters.items()}


def test_defaults(client: FlaskClient, fake: FakePipeline) -> None:
    made = job(client, fake)
    sampling = made.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty) == (0.95, 0.7, 0, 1.0)
    assert sampling == Sampling()
    assert (made.max_tokens, made.stop, made.image, made.progress, len(made.prompts)) == (2048, (), None, False, 1)
    assert fake.conversations[-1].structured is None


@pytest.mark.parametrize(
    ("parameters", "field", "value"),
    [
        ({"temperature": 0}, "temperature", 0),
        ({"temperature": 2}, "temperature", 2),
        ({"temperature": 1e-9}, "temperature", 0),
        ({"temperature": 1, "top_p": 0}, "temperature", 0),
        ({"temperature": 1, "top_p": 5e-324}, "temperature", 0),
        ({"top_p": 0.25}, "top_p", 0.25),
        ({"top_p": 1}, "top_p", 1),
        ({"top_k": 40}, "top_k", 40),
        ({"top_k": -1}, "top_k", 0),
        ({"repetition_penalty": 1.2}, "repetition_penalty", 1.2),
        ({"repeat_penalty": 1.3}, "repetition_penalty", 1.3),
        ({"repeat_penalty": 1.3, "repetition_penalty": 1.2}, "repetition_penalty", 1.2),
        ({"min_p": 0.05}, "min_p", 0.05),
        ({"presence_penalty": -2}, "presence_penalty", -2),
        ({"frequency_penalty": 0.5}, "frequency_penalty", 0.5),
        ({"logit_bias": {"0": -100, "1114111": 2.5}}, "logit_bias", {0: -100, 0x10FFFF: 2.5}),
        ({"allowed_token_ids": [5, 0]}, "allowed_token_ids", (5, 0)),
        ({"logit_bias": [[0, -100], [5.0, 2.5], [7, False]]}, "logit_bias", {0: -100, 5: 2.5, 7: -100}),
        ({"logit_bias": {"7": False}}, "logit_bias", {7: -100}),
        ({"seed": -1}, "seed", None),
        ({"seed": 0}, "seed", 0),
        ({"seed": -(2**63)}, "seed", -(2**63)),
        ({"seed": 2**64 - 1}, "seed", 2**64 - 1),
        ({"min_tokens": 3}, "min_tokens", 3),
        ({"min_tokens": 4, "max_tokens": 4}, "min_tokens", 4),
        ({"ignore_eos": True}, "ignore_eos", True),
        ({"stop_token_ids": [7, 0x10FFFF]}, "stop_token_ids", (7, 0x10FFFF)),
        ({}, "top_logprobs", None),
    ],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT, {"messages": HELLO}), ("/v1/completions", {"prompt": "a"}), ("/v1/responses", {"input": "a"})],
)
def test_sampling(
    client: FlaskClient,
    fake: FakePipeline,
    path: str,
    body: dict[str, Any],
    parameters: dict[str, Any],
    field: str,
    value: Any,
) -> None:
    response = client.post(path, json={**body, **named(path, parameters)})
    assert response.status_code == 200, response.text
    assert getattr(fake.jobs[0].sampling, field) == value


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"logit_bias": {"1114112": 1}}, "logit_bias"),
        ({"allowed_token_ids": [1, 0x110000]}, "allowed_token_ids"),
        ({"stop_token_ids": [0x110000, 1]}, "stop_token_ids"),
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens"),
    ],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT, {"messages": HELLO}), ("/v1/completions", {"prompt": "a"}), ("/v1/responses", {"input": "a"})],
)
def test_unknown_ids_and_contradictions_are_refused(
    client: FlaskClient, fake: FakePipeline, path: str, body: dict[str, Any], parameters: dict[str, Any], param: str
) -> None:
    refused(client.post(path, json={**body, **named(path, parameters)}), param)
    assert not fake.jobs


@pytest.mark.parametrize(
    ("parameters", "top"),
    [
        ({"logprobs": False}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_logprobs(client: FlaskClient, fake: FakePipeline, parameters: dict[str, Any], top: int | None) -> None:
    sampling = job(client, fake, **parameters).sampling
    assert (sampling.top_logprobs, sampling.prompt_logprobs) == (top, False)


@pytest.mark.parametrize("parameters", [{}, {"logprobs": False}, {"logprobs": None}])
def test_top_logprobs_need_logprobs(client: FlaskClient, parameters: dict[str, Any]) -> None:
    refused(refusal(client, top_logprobs=1, **parameters), "top_logprobs")


def test_1024_biases_are_accepted_and_no_more(client: FlaskClient, fake: FakePipeline) -> None:
    biases = {str(id): 1 for id in range(1024)}
    assert len(job(client, fake, logit_bias=biases).sampling.logit_bias) == 1024
    message = refused(refusal(client, logit_bias={**biases, "1024": 1}), "logit_bias")
    assert message == "Invalid 'logit_bias': must have at most 1024 entries, but has 1025."


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 100_000}, 100_000),
        ({"max_tokens": None}, 2048),
    ],
)
def test_the_maximum_number_of_new_tokens(
    client: FlaskClient, fake: FakePipeline, parameters: dict[str, Any], limit: int
) -> None:
    assert job(client, fake, **parameters).max_tokens == limit


@pytest.mark.parametrize(
    ("stop", "strings"),
    [("a", ("a",)), ([], ()), (["a", "你好"], ("a", "你好")), (["a"] * 4, ("a",) * 4), (None, ())],
)
def test_stop(client: FlaskClient, fake: FakePipeline, stop: Any, strings: tuple[str, ...]) -> None:
    assert job(client, fake, stop=stop).stop == strings


ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    "/v1/completions": {"prompt": [[72.0, 105]]},
    "/v1/responses": {"input": "Hi"},
}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (CHAT, "max_tokens"),
        (CHAT, "max_completion_tokens"),
        (CHAT, "n_predict"),
        ("/v1/completions", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
    ],
)
def test_a_limit_of_minus_one_is_no_limit(client: FlaskClient, fake: FakePipeline, path: str, name: str) -> None:
    for none in (-1, -1.0):
        response = client.post(path, json={**ASKED[path], name: none})
        assert response.status_code == 200, response.text
        assert fake.jobs[-1].max_tokens >= 2**31 - 1
    assert "or -1 for no limit" in refused(client.post(path, json={**ASKED[path], name: -2}), name)


@pytest.mark.parametrize("path", ASKED)
def test_a_number_without_decimals_is_an_integer(client: FlaskClient, fake: FakePipeline, path: str) -> None:
    numbers = {"max_tokens": 24.0, "top_k": 4e1, "seed": -3.0, "min_tokens": 2.0}
    ids = {"stop_token_ids": [5.0], "allowed_token_ids": [6.0, 7]}
    response = client.post(path, json={**ASKED[path], **named(path, numbers), **ids})
    assert response.status_code == 200, response.text
    made = fake.jobs[-1]
    got = (made.max_tokens, made.sampling.top_k, made.sampling.seed, made.sampling.min_tokens)
    assert got == (24, 40, -3, 2)
    assert (made.sampling.stop_token_ids, made.sampling.allowed_token_ids) == ((5,), (6, 7))
    assert {type(number) for number in (*got, *made.sampling.stop_token_ids, *made.prompts[0])} == {int}


def test_n_repeats_the_prompt(client: FlaskClient, fake: FakePipeline) -> None:
    made = job(client, fake, n=3)
    assert len(made.prompts) == 3
    assert made.prompts[0] == made.prompts[1] == made.prompts[2]


def test_null_means_the_same_as_absent(client: FlaskClient, fake: FakePipeline) -> None:
    optional = [
        "temperature",
        "top_p",
        "n",
        "stop",
        "stream",
        "tools",
        "tool_choice",
        "response_format",
        "model",
        "seed",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "allowed_token_ids",
        "min_tokens",
        "ignore_eos",
        "stop_token_ids",
        "logprobs",
        "top_logprobs",
    ]
    assert job(client, fake, **dict.fromkeys(optional)) == job(client, fake)


OUT_OF_RANGE: list[tuple[str, tuple[Any, ...]]] = [
    ("temperature", ("1", True, -0.1, 2.1, [], {})),
    ("top_p", ("1", -0.1, 1.1)),
    ("top_k", ("5", 5.7, True, -2, -2.0, 10**30, 1e300)),
    ("repetition_penalty", (0, 5e-324, -1, 2.5, "1", 10**400)),
    ("max_tokens", ("5", 5.7, True, 0, -2, 2**31, 2.0**31, [])),
    ("max_completion_tokens", (0, 0.0, 1.5, -2, "9")),
    ("n", (0, 5, 5.0, 1.5, "1", True)),
    ("stream", ("true", 1, 0, "yes")),
    ("stop", ("", [""], ["a"] * 17, 5, [5], ["x" * 257], {}, [None])),
    ("model", (5, [], "x" * 257)),
    ("seed", ("1", 1.5, True, 2**64, -(2**63) - 1)),
    ("min_p", (-0.1, 1.1, "0", True)),
    ("presence_penalty", (-2.1, 2.1, "0", True)),
    ("frequency_penalty", (-2.1, 2.1, "0", True)),
    (
        "logit_bias",
        (
            5,
            [5],
            [[5]],
            [["a", 1]],
            [[-1, 1]],
            [[5, 101]],
            [[5, True]],
            [[5, 1], [5, 2]],
            [[5, 1]] * 1025,
            {"a": 1},
            {"-1": 1},
            {"05": 1},
            {"5.0": 1},
            {"": 1},
            {"٥": 1},
        ),
    ),
    ("logit_bias", ({"5": 101}, {"5": -100.5}, {"5": "1"}, {"5": True}, {"5": None}, {"9" * 11: 1})),
    ("allowed_token_ids", ([], 5, "5", ["5"], [1.5], [-1], [-1.0], [True], [2**31], [2.0**31])),
    ("stop_token_ids", (5, "5", ["5"], [1.5], [-1], [2**31], [1] * 1025)),
    ("min_tokens", (-1, 1.5, "1", True)),
    ("ignore_eos", (1, "true")),
    ("logprobs", (1, "true", 5)),
    ("top_logprobs", (-1, 21, 21.0, "1", True)),
    ("stream_options", (True, "x", [])),
    ("response_format", ("json_object", {"type": "yaml"}, {}, {"type": "json_schema"})),
    ("messages", ([], {}, "Hello", HELLO * 2049)),
]


@pytest.mark.parametrize(
    ("parameter", "value"), [(parameter, value) for parameter, values in OUT_OF_RANGE for value in values]
)
def test_a_wrong_type_or_range_is_refused_by_name(client: FlaskClient, parameter: str, value: Any) -> None:
    response = client.post(CHAT, json={"messages": HELLO, "stream": True, parameter: value})
    assert response.status_code == 400
    assert response.get_json()["error"]["param"].split(".")[0] == parameter
    assert response.get_json()["error"]["code"] in ("invalid_value", "missing_required_parameter")


def test_an_error_says_which_values_are_allowed(client: FlaskClient) -> None:
    message = refused(refusal(client, n=9), "n")
    assert message == "Invalid 'n': must be an integer from 1 to 4, but is 9."


def test_messages_are_required(client: FlaskClient) -> None:
    refused(client.post(CHAT, json={"model": "x"}), "messages", "missing_required_parameter")


@pytest.mark.parametrize("value", [{}, {"include_usage": True}, {"include_usage": False}])
def test_stream_options_need_a_stream(client: FlaskClient, value: Any) -> None:
    refused(refusal(client, stream_options=value), "stream_options")


def test_progress_needs_a_stream(client: FlaskClient) -> None:
    refused(refusal(client, return_progress=True), "return_progress")


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ({"n_predict": 7}, 7),
        ({"n_predict": 7, "max_tokens": 8}, 8),
        ({"n_predict": 7, "max_tokens": 8, "max_completion_tokens": 9}, 9),
        ({"n_predict": 7, "max_tokens": None, "max_completion_tokens": None}, 7),
    ],
)
@pytest.mark.parametrize(("path", "body"), [(CHAT, {"messages": HELLO}), ("/v1/completions", {"prompt": "a"})])
def test_each_name_of_the_limit(
    client: FlaskClient, fake: FakePipeline, path: str, body: dict[str, Any], parameters: dict[str, Any], limit: int
) -> None:
    assert client.post(path, json={**body, **parameters}).status_code == 200
    assert fake.jobs[-1].max_tokens == limit


def test_unknown_parameters_are_ignored(client: FlaskClient, fake: FakePipeline) -> None:
    assert job(client, fake, user="x", metadata={"a": "b"}, store=True, service_tier="auto", whatever=[1])


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {}}}
ANY_OBJECT = '{"type": "object"}'


def demand(client: FlaskClient, fake: FakePipeline, **parameters: Any) -> StructuredOutput | None:
    """What the answer to a request with ``parameters`` must be."""
    assert job(client, fake, **parameters)
    return fake.conversations[-1].structured


class TestStructuredOutputs:
    @pytest.mark.parametrize(
        ("parameters", "demanded"),
        [
            ({"json_schema": SCHEMA}, JsonOutput(json.dumps(SCHEMA), "json_schema")),
            ({"json_schema": {}}, JsonOutput(ANY_OBJECT, "json_schema")),
            ({"structured_outputs": {"json": SCHEMA}}, JsonOutput(json.dumps(SCHEMA), "structured_outputs.json")),
            ({"structured_outputs": {"json_object": True}}, JsonOutput(ANY_OBJECT, "structured_outputs.json")),
            ({"structured_outputs": {"regex": "a+"}}, RegexOutput("a+", "structured_outputs.regex")),
            ({"structured_outputs": {"choice": ["a", "b"]}}, ChoiceOutput(("a", "b"), "structured_outputs.choice")),
            ({"guided_json": SCHEMA}, JsonOutput(json.dumps(SCHEMA), "guided_json")),
            ({"guided_json": json.dumps(SCHEMA)}, JsonOutput(json.dumps(SCHEMA), "guided_json")),
            (
                {"structured_outputs": {"json": json.dumps(SCHEMA)}},
                JsonOutput(json.dumps(SCHEMA), "structured_outputs.json"),
            ),
            ({"guided_regex": "a+"}, RegexOutput("a+", "guided_regex")),
            ({"guided_choice": ["a", "b"]}, ChoiceOutput(("a", "b"), "guided_choice")),
            ({"structured_outputs": None, "json_schema": None, "guided_json": None}, None),
        ],
    )
    def test_each_form_reaches_the_model(
        self, client: FlaskClient, fake: FakePipeline, parameters: dict[str, Any], demanded: StructuredOutput | None
    ) -> None:
        assert demand(client, fake, **parameters) == demanded
        told = fake.conversations[-1].messages[0].role == "system"
        assert told == isinstance(demanded, JsonOutput)
        response = client.post("/v1/responses", json={"input": "Hi", **parameters})
        assert response.status_code == 200, response.text
        assert fake.conversations[-1].structured == demanded
        response = client.post("/v1/completions", json={"prompt": "Hi", **parameters})
        assert response.status_code == 200, response.text
        assert fake.demands == ([] if demanded is None else [demanded])
        assert (fake.jobs[-1].output.grammar is None) == (demanded is None)

    @pytest.mark.parametrize(
        ("format", "demanded"),
        [
            ({"type": "text"}, []),
            ({"type": "json_object"}, [JsonOutput(ANY_OBJECT, "response_format.schema")]),
            (
                {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
                [JsonOutput(json.dumps(SCHEMA), "response_format.json_schema.schema")],
            ),
        ],
    )
    def test_a_raw_completion_has_a_response_format(
        self, client: FlaskClient, fake: FakePipeline, format: dict[str, Any], demanded: list[StructuredOutput]
    ) -> None:
        assert client.post("/v1/completions", json={"prompt": "Hi", "response_format": format}).status_code == 200
        assert fake.demands == demanded

    @pytest.mark.parametrize(
        ("parameters", "param"),
        [
            ({"structured_outputs": {}}, "structured_outputs"),
            ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
            ({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, "structured_outputs"),
            ({"structured_outputs": {"regex": 5}}, "structured_outputs.regex"),
            ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
            ({"structured_outputs": {"regex": "a" * 5000}}, "structured_outputs.regex"),
            ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
            ({"structured_outputs": {"choice": ["a", ""]}}, "structured_outputs.choice.1"),
            ({"structured_outputs": {"choice": ["a"] * 1001}}, "structured_outputs.choice"),
            ({"structured_outputs": {"json": {"type": 5}}}, "structured_outputs.json"),
            ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar"),
            ({"structured_outputs": "a"}, "structured_outputs"),
            ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
            ({"structured_outputs": {"json": SCHEMA, "json_object": True}}, "structured_outputs"),
            ({"guided_json": {"type": 5}}, "guided_json"),
            ({"guided_json": "{"}, "guided_json"),
            ({"guided_json": "[]"}, "guided_json"),
            ({"guided_json": "NaN"}, "guided_json"),
            ({"guided_json": "[" * 60_000}, "guided_json"),
            ({"guided_json": '{"a": "\\ud800"}'}, "guided_json"),
            ({"guided_json": '{"type": 5}'}, "guided_json"),
            ({"structured_outputs": {"json": "x"}}, "structured_outputs.json"),
            (
                {
                    "response_format": {
                        "type": "json_schema",
                        "schema": SCHEMA,
                        "json_schema": {"name": "a", "schema": {}},
                    }
                },
                "response_format.schema",
            ),
            ({"guided_regex": ""}, "guided_regex"),
            ({"guided_choice": []}, "guided_choice"),
            ({"guided_choice": ["a"], "guided_regex": "a"}, "guided_choice"),
            ({"guided_regex": "a", "guided_json": SCHEMA}, "guided_regex"),
            ({"guided_regex": "a", "structured_outputs": {"regex": "a"}}, "guided_regex"),
            ({"guided_choice": ["a"], "json_schema": SCHEMA}, "guided_choice"),
            ({"guided_json": SCHEMA, "response_format": {"type": "json_object"}}, "guided_json"),
            ({"json_schema": {"type": 5}}, "json_schema"),
            ({"json_schema": "{}"}, "json_schema"),
            ({"json_schema": {}, "structured_outputs": {"regex": "a"}}, "structured_outputs"),
            ({"json_schema": {}, "response_format": {"type": "json_object"}}, "json_schema"),
            ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs"),
        ],
    )
    def test_a_wrong_or_a_second_demand_is_refused(
        self, client: FlaskClient, fake: FakePipeline, parameters: dict[str, Any], param: str
    ) -> None:
        places: list[tuple[str, dict[str, Any]]] = [(CHAT, {"messages": HELLO})]
        if "response_format" not in parameters:
            places += [("/v1/completions", {"prompt": "a"}), ("/v1/responses", {"input": "a"})]
        for path, body in places:
            response = client.post(path, json={**body, **parameters})
            assert response.status_code == 400
            assert response.get_json()["error"]["param"] == param
        assert fake.jobs == []


class TestResponseFormat:
    def test_text_has_no_schema(self, client: FlaskClient, fake: FakePipeline) -> None:
        assert demand(client, fake, response_format={"type": "text"}) is None
        assert len(fake.conversations[0].messages) == 1

    def test_json_object_is_demanded_and_told_to_the_model(self, client: FlaskClient, fake: FakePipeline) -> None:
        demanded = demand(client, fake, response_format={"type": "json_object"})
        assert isinstance(demanded, JsonOutput)
        assert demanded.schema == ANY_OBJECT
        first, second = fake.conversations[0].messages
        assert (first.role, second.role) == ("system", "user")
        assert "JSON object" in first.content

    def test_json_object_may_have_a_schema(self, client: FlaskClient, fake: FakePipeline) -> None:
        demanded = demand(client, fake, response_format={"type": "json_object", "schema": SCHEMA})
        assert demanded == JsonOutput(json.dumps(SCHEMA), "response_format.schema")
        assert '"$ref": "#/$defs/b"' in fake.conversations[0].messages[0].content

    def test_a_schema_is_demanded_and_shown_to_the_model(self, client: FlaskClient, fake: FakePipeline) -> None:
        named = {"name": "answer", "schema": SCHEMA, "description": "Ein Tier", "strict": True}
        demanded = demand(client, fake, response_format={"type": "json_schema", "json_schema": named})
        assert demanded == JsonOutput(json.dumps(SCHEMA), "response_format.json_schema.schema")
        system = fake.conversations[0].messages[0].content
        assert '"$ref": "#/$defs/b"' in system
        assert "Ein Tier" in system

    def test_the_instruction_follows_the_system_message(self, client: FlaskClient, fake: FakePipeline) -> None:
        messages = [{"role": "system", "content": "Be brief."}, *HELLO]
        client.post(CHAT, json={"messages": messages, "response_format": {"type": "json_object"}})
        first, second = fake.conversations[0].messages
        assert first.content.startswith("Be brief.\n\nRespond with a single JSON object")
        assert second.position == 1

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "objekt"},
            {"type": 5},
            {"properties": []},
            {"required": "a"},
            {"$schema": 5},
            {"$ref": "http://127.0.0.1/schema"},
            {"$ref": "file:///etc/passwd"},
            {"properties": {"a": {"items": {"$ref": "other.json"}}}},
            {"description": "x" * 70_000},
            {"enum": 5},
        ],
    )
    def test_an_invalid_schema_or_external_reference_is_refused(self, client: FlaskClient, schema: Any) -> None:
        format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        refused(refusal(client, response_format=format), "response_format.json_schema.schema")

    def test_older_drafts_are_accepted(self, client: FlaskClient, fake: FakePipeline) -> None:
        schema = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 5, "exclusiveMinimum": True}
        format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        demanded = demand(client, fake, response_format=format)
        assert isinstance(demanded, JsonOutput)
        assert demanded.schema == json.dumps(schema)

    def test_a_schema_that_is_too_deep_is_refused(self, client: FlaskClient) -> None:
        schema: dict[str, Any] = {}
        for _ in range(40):
            schema = {"not": schema}
        format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        refused(refusal(client, response_format=format), "response_format.json_schema.schema")

    def test_a_schema_name_has_only_letters_digits_underscores_and_hyphens(self, client: FlaskClient) -> None:
        format = {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}
        refused(refusal(client, response_format=format), "response_format.json_schema.name")


@pytest.mark.parametrize("also", [{}, {"json_schema": {"name": "a", "schema": {"type": "object"}}}])
@pytest.mark.parametrize(("path", "body"), [(CHAT, {"messages": HELLO}), ("/v1/completions", {"prompt": "a"})])
def test_a_schema_may_stand_in_the_format_itself(
    client: FlaskClient, path: str, body: dict[str, Any], also: dict[str, Any]
) -> None:
    format = {"type": "json_schema", "schema": {"type": "object"}, **also}
    response = client.post(path, json={**body, "response_format": format})
    assert response.status_code == 200, response.text


def test_no_limit_is_given_back_as_null(client: FlaskClient) -> None:
    for limit, told in ((-1, None), (7, 7), (None, None)):
        response = client.post("/v1/responses", json={"input": "a", "max_output_tokens": limit})
        assert response.get_json()["max_output_tokens"] == told


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/completion", "/v1/responses", "/v1/messages"])
def test_sixteen_stop_strings(client: FlaskClient, fake: FakePipeline, path: str) -> None:
    asked: dict[str, Any] = {"prompt": "a", "input": "a", "messages": HELLO, "max_tokens": 5}
    wanted = {
        CHAT: ["messages"],
        "/v1/responses": ["input"],
        "/v1/messages": ["messages", "max_tokens"],
    }.get(path, ["prompt"])
    stops = [str(number) for number in range(16)]
    response = client.post(path, json={**{name: asked[name] for name in wanted}, "stop": stops})
    assert response.status_code == 200, response.text
    assert fake.jobs[0].stop == tuple(stops)


@pytest.mark.parametrize("path", ["/apply-template", "/tokenize", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("name", ["chat_template", "documents"])
def test_what_only_makes_a_prompt_refuses_the_same(client: FlaskClient, path: str, name: str) -> None:
    refused_there = client.post(path, json={"messages": HELLO, name: "x"})
    assert refused_there.status_code == 400
    assert f"Invalid '{name}'" in refused_there.get_json()["error"]["message"]
