"""The shapes of OpenAI's published component schemas, as JSON schemas in our own words.

They say what a client that is generated from OpenAI's document relies on: which keys there are, and their types. Keys
that OpenAI does not know are admitted, as in OpenAI's document.
"""

from __future__ import annotations

from typing import Any

import jsonschema

Shape = dict[str, Any]

STRING: Shape = {"type": "string"}
INTEGER: Shape = {"type": "integer"}
NUMBER: Shape = {"type": "number"}
BOOLEAN: Shape = {"type": "boolean"}


def record(required: dict[str, Shape], optional: dict[str, Shape] | None = None) -> Shape:
    """An object with these keys."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def array(items: Shape, **bounds: int) -> Shape:
    return {"type": "array", "items": items, **bounds}


def nullable(shape: Shape) -> Shape:
    return {"anyOf": [shape, {"type": "null"}]}


def one_of(*values: str) -> Shape:
    return {"enum": list(values)}


def between(low: float, high: float) -> Shape:
    return {"type": "number", "minimum": low, "maximum": high}


# --- answers ---

BYTES = nullable(array({"type": "integer", "minimum": 0, "maximum": 255}))
TOP_LOGPROB = record({"token": STRING, "logprob": NUMBER, "bytes": BYTES})
TOKEN_LOGPROB = record({"token": STRING, "logprob": NUMBER, "bytes": BYTES, "top_logprobs": array(TOP_LOGPROB)})
CHOICE_LOGPROBS = nullable(
    record({"content": nullable(array(TOKEN_LOGPROB)), "refusal": nullable(array(TOKEN_LOGPROB))})
)
USAGE = record(
    {"prompt_tokens": INTEGER, "completion_tokens": INTEGER, "total_tokens": INTEGER},
    {
        "prompt_tokens_details": record({}, {"cached_tokens": INTEGER, "audio_tokens": INTEGER}),
        "completion_tokens_details": record({}, {"reasoning_tokens": INTEGER, "audio_tokens": INTEGER}),
    },
)
FUNCTION_CALL = record({"name": STRING, "arguments": STRING})
TOOL_CALL = record({"id": STRING, "type": one_of("function"), "function": FUNCTION_CALL})
TOOL_CALL_CHUNK = record(
    {"index": INTEGER},
    {"id": STRING, "type": one_of("function"), "function": record({}, {"name": STRING, "arguments": STRING})},
)
FINISH_REASON = one_of("stop", "length", "tool_calls", "content_filter", "function_call")
RESPONSE_MESSAGE = record(
    {"role": one_of("assistant"), "content": nullable(STRING), "refusal": nullable(STRING)},
    {"tool_calls": array(TOOL_CALL), "function_call": FUNCTION_CALL},
)
DELTA = record(
    {},
    {
        "role": one_of("developer", "system", "user", "assistant", "tool"),
        "content": nullable(STRING),
        "refusal": nullable(STRING),
        "tool_calls": array(TOOL_CALL_CHUNK),
        "function_call": record({}, {"name": STRING, "arguments": STRING}),
    },
)
HEAD = {"id": STRING, "created": INTEGER, "model": STRING}
CHAT_COMPLETION = record(
    {
        **HEAD,
        "object": one_of("chat.completion"),
        "choices": array(
            record(
                {
                    "index": INTEGER,
                    "finish_reason": FINISH_REASON,
                    "message": RESPONSE_MESSAGE,
                    "logprobs": CHOICE_LOGPROBS,
                }
            )
        ),
    },
    {"usage": USAGE, "system_fingerprint": STRING},
)
CHAT_COMPLETION_CHUNK = record(
    {
        **HEAD,
        "object": one_of("chat.completion.chunk"),
        "choices": array(
            record(
                {"index": INTEGER, "delta": DELTA, "finish_reason": nullable(FINISH_REASON)},
                {"logprobs": CHOICE_LOGPROBS},
            )
        ),
    },
    {"usage": nullable(USAGE), "system_fingerprint": STRING},
)
TEXT_LOGPROBS = nullable(
    record(
        {},
        {
            "text_offset": array(INTEGER),
            # The first token of a prompt has none.
            "token_logprobs": array(nullable(NUMBER)),
            "tokens": array(STRING),
            "top_logprobs": nullable(array(nullable({"type": "object", "additionalProperties": NUMBER}))),
        },
    )
)


def _completion(finish_reason: Shape) -> Shape:
    choice = {"index": INTEGER, "text": STRING, "logprobs": TEXT_LOGPROBS, "finish_reason": finish_reason}
    known = {**HEAD, "object": one_of("text_completion"), "choices": array(record(choice))}
    return record(known, {"usage": nullable(USAGE), "system_fingerprint": STRING})


COMPLETION = _completion(one_of("stop", "length", "content_filter"))
# OpenAI has the same schema for chunks, but sends null until the last one.
COMPLETION_CHUNK = _completion(nullable(one_of("stop", "length", "content_filter")))
ERROR = record(
    {
        "error": record(
            {"message": STRING, "type": STRING, "param": nullable(STRING), "code": nullable(STRING)},
        )
    }
)

# --- requests ---

TEXT_PART = record({"type": one_of("text"), "text": STRING})
IMAGE_PART = record({"type": one_of("image_url"), "image_url": record({"url": STRING}, {"detail": STRING})})
TEXTS = {"anyOf": [STRING, array(TEXT_PART, minItems=1)]}
CONTENT = {"anyOf": [STRING, array({"anyOf": [TEXT_PART, IMAGE_PART]}, minItems=1)]}
NAMED = {"name": STRING}
MESSAGE = {
    "anyOf": [
        record({"role": one_of("developer", "system"), "content": TEXTS}, NAMED),
        record({"role": one_of("user"), "content": CONTENT}, NAMED),
        record(
            {"role": one_of("assistant")},
            {
                **NAMED,
                "content": nullable(TEXTS),
                "refusal": nullable(STRING),
                "tool_calls": array(TOOL_CALL),
                "function_call": nullable(FUNCTION_CALL),
            },
        ),
        record({"role": one_of("tool"), "content": TEXTS, "tool_call_id": STRING}),
        record({"role": one_of("function"), "content": nullable(STRING), "name": STRING}),
    ]
}
FUNCTION = record(
    {"name": STRING}, {"description": STRING, "parameters": {"type": "object"}, "strict": nullable(BOOLEAN)}
)
TOOL = record({"type": one_of("function"), "function": FUNCTION})
JSON_SCHEMA_FORMAT = record(
    {"type": one_of("json_schema"), "json_schema": record({"name": STRING}, {"schema": {"type": "object"}})}
)
SAMPLING: dict[str, Shape] = {
    "temperature": nullable(between(0, 2)),
    "top_p": nullable(between(0, 1)),
    "presence_penalty": nullable(between(-2, 2)),
    "frequency_penalty": nullable(between(-2, 2)),
    "logit_bias": nullable({"type": "object", "additionalProperties": between(-100, 100)}),
    "seed": nullable(INTEGER),
    "n": nullable({"type": "integer", "minimum": 1, "maximum": 128}),
    "max_tokens": nullable({"type": "integer", "minimum": 0}),
    "stop": nullable({"anyOf": [STRING, array(STRING, minItems=1, maxItems=4)]}),
    "stream": nullable(BOOLEAN),
    "stream_options": nullable(record({}, {"include_usage": BOOLEAN})),
    "user": STRING,
}
CHAT_COMPLETION_REQUEST = record(
    {"model": STRING, "messages": array(MESSAGE, minItems=1)},
    {
        **SAMPLING,
        "max_completion_tokens": nullable(INTEGER),
        "logprobs": nullable(BOOLEAN),
        "top_logprobs": nullable({"type": "integer", "minimum": 0, "maximum": 20}),
        "tools": array(TOOL),
        "tool_choice": {
            "anyOf": [
                one_of("none", "auto", "required"),
                record({"type": one_of("function"), "function": record(NAMED)}),
            ]
        },
        "parallel_tool_calls": BOOLEAN,
        "functions": array(FUNCTION, minItems=1, maxItems=128),
        "function_call": {"anyOf": [one_of("none", "auto"), record(NAMED)]},
        "response_format": {"anyOf": [record({"type": one_of("text", "json_object")}), JSON_SCHEMA_FORMAT]},
        "reasoning_effort": nullable(one_of("none", "minimal", "low", "medium", "high", "xhigh")),
        "verbosity": nullable(one_of("low", "medium", "high")),
        "modalities": nullable(array(one_of("text", "audio"))),
        "metadata": nullable({"type": "object", "additionalProperties": STRING}),
        "store": nullable(BOOLEAN),
        "service_tier": nullable(STRING),
        "safety_identifier": STRING,
        "prompt_cache_key": STRING,
    },
)
COMPLETION_REQUEST = record(
    {"model": STRING, "prompt": {"anyOf": [STRING, array({"anyOf": [STRING, INTEGER, array(INTEGER)]}, minItems=1)]}},
    {
        **SAMPLING,
        "best_of": nullable(INTEGER),
        "echo": nullable(BOOLEAN),
        "logprobs": nullable({"type": "integer", "minimum": 0, "maximum": 5}),
        "suffix": nullable(STRING),
    },
)


def validate(value: object, shape: Shape) -> None:
    """Check ``value``. Raises `jsonschema.ValidationError`."""
    jsonschema.Draft202012Validator(shape).validate(value)
