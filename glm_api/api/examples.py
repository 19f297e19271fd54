"""Examples for the OpenAPI document. Each request works as it is."""

from __future__ import annotations

import json
from typing import Any

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city's name"}},
            "required": ["city"],
        },
    },
}

REQUESTS: dict[str, Any] = {
    "chat": {
        "summary": "A question",
        "value": {"model": "default", "messages": [{"role": "user", "content": "Hello! What is your name?"}]},
    },
    "stream": {
        "summary": "A streamed answer",
        "value": {
            "model": "default",
            "messages": [{"role": "user", "content": "你好，你是谁？"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    },
    "tools": {
        "summary": "A tool that the model may call",
        "value": {
            "model": "default",
            "messages": [{"role": "user", "content": "What is the weather like in Beijing?"}],
            "tools": [WEATHER],
            "temperature": 0,
        },
    },
    "logprobs": {
        "summary": "The likeliest tokens in each place, and an answer that can be repeated",
        "value": {
            "model": "default",
            "messages": [{"role": "user", "content": "Hello! What is your name?"}],
            "seed": 1,
            "logprobs": True,
            "top_logprobs": 3,
            "max_tokens": 16,
        },
    },
    "result": {
        "summary": "The result of a tool call",
        "value": {
            "model": "default",
            "messages": [
                {"role": "user", "content": "What is the weather like in Beijing?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Beijing"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": '{"temperature": 21, "sky": "sunny"}'},
            ],
            "tools": [WEATHER],
        },
    },
}

_HEAD: dict[str, Any] = {
    "id": "chatcmpl-8f14e45fceea167a5a36dedd4bea2543",
    "created": 1700000000,
    "model": "chatglm3-6b",
    "system_fingerprint": "fp_44709d6fcb83",
}
_TIMINGS = {
    "queue_ms": 0.2,
    "cache_n": 0,
    "prompt_n": 12,
    "prompt_ms": 310.5,
    "prompt_per_token_ms": 25.875,
    "prompt_per_second": 38.647,
    "predicted_n": 10,
    "predicted_ms": 905.1,
    "predicted_per_token_ms": 100.567,
    "predicted_per_second": 9.944,
}

COMPLETION: dict[str, Any] = {
    **_HEAD,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello! I am ChatGLM.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 10,
        "total_tokens": 22,
        "prompt_tokens_details": {"cached_tokens": 0},
    },
    "timings": _TIMINGS,
}

CHUNK: dict[str, Any] = {
    **_HEAD,
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": {"content": "Hello"}, "logprobs": None, "finish_reason": None}],
}
EVENT = {"data": json.dumps(CHUNK)}
