"""All parameters of the endpoints that generate: what each does here, and in three other servers.

This is the one place that knows them all. The request schemas take those from it that are refused, and
docs/compatibility.md is made from it (``make docs``). Parameters that are honoured are declared in the schemas; a test
checks that table and schemas have the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from marshmallow.fields import Field

from glm_api.api.fields import Unsupported

NOT_CHECKED = "?"


class Refused:
    """The parameter is refused, because ``reason``. ``neutral`` are the values that ask for nothing, beside null."""

    def __init__(self, *neutral: object, reason: str = "this server cannot do it") -> None:
        self.neutral, self.reason = neutral, reason

    def __str__(self) -> str:
        named = [f"`{value if isinstance(value, str) and value else json.dumps(value)}`" for value in self.neutral]
        exception = f", except {' and '.join(named)}" if named else ""
        return f"refused{exception}: {self.reason}"


class Accepted:
    """The parameter is taken in any shape, without effect, because ``reason``."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return f"no effect: {self.reason}"


@dataclass(frozen=True, slots=True)
class Row:
    """What the parameters ``names``, parted by commas, do in each server. A text for ``here`` means: honoured."""

    names: str
    here: str | Refused | Accepted
    llama_server: str = NOT_CHECKED
    vllm: str = NOT_CHECKED
    ollama: str = NOT_CHECKED

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters."""
        return self.names.split(", ")


def refused(rows: Iterable[Row]) -> dict[str, Field[Any]]:
    """Return the fields of a schema for the parameters in ``rows`` that are refused, by name."""
    return {
        name: Unsupported(*row.here.neutral, reason=row.here.reason)
        for row in rows
        if isinstance(row.here, Refused)
        for name in row.parameters
    }


def markdown(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of the table that shows ``rows``."""
    yield "| Parameter | This server | llama-server | vLLM | Ollama |"
    yield "|---|---|---|---|---|"
    for row in rows:
        names = ", ".join(f"`{name}`" for name in row.parameters)
        yield f"| {names} | {row.here} | {row.llama_server} | {row.vllm} | {row.ollama} |"


_NO_SAMPLER = "this server has no such sampler"
_ONE_TEXT = "special tokens are never part of the text"
_IDS = "`/tokenize` tells the token ids of a text, and `/completion` with `return_tokens` those of an answer"
_RAW = "a raw completion has no thinking; chat has"
_NO_TOOLS = "a raw completion has no tools; chat has"
_USAGE = Row("stream_options", Accepted("the last event always has the token counts, and a stream has no padding"))
_STOP_STRING = Row(
    "include_stop_str_in_output", Refused(False, reason="here a stop string is never part of the text"), vllm="yes"
)

# Of the requests that only make a prompt, too.
PROMPT = (
    Row("chat_template", Refused(reason="this server has its own, or that of the model's file"), vllm="yes"),
    Row("documents", Refused([], reason="put them into a message"), vllm="yes"),
    Row("mm_processor_kwargs, media_io_kwargs", Refused({}), vllm="yes"),
)

GENERATION = (
    Row("model", "any name gets the one model; `404` with `GLM_STRICT_MODEL=1`", vllm="yes", ollama="yes"),
    Row("temperature", "0 to 2; 0 is greedy", "yes", "yes", "yes"),
    Row("top_p", "yes", "yes", "yes", "yes"),
    Row("top_k", "yes; 0 or -1 means all", "yes", "yes"),
    Row("repetition_penalty", "0.01 to 2", "as `repeat_penalty`", "yes"),
    Row("repeat_penalty", "the same", "yes"),
    Row("presence_penalty, frequency_penalty", "-2 to 2", "yes", "yes", "yes"),
    Row("min_p", "0 to 1", "yes", "yes"),
    Row("stop", "a string or up to 16", "yes", "yes", "yes"),
    Row("stop_token_ids", "up to 1,024; like stop strings they do not end a tool call", vllm="yes"),
    Row("allowed_token_ids", "yes; not empty", vllm="yes"),
    Row(
        "logit_bias",
        "up to 1,024 token ids, -100 to 100; an object, or `[[id, bias], ...]`. `false` is -100",
        "yes",
        vllm="yes",
        ollama="no",
    ),
    Row("min_tokens", "yes; `400` above `max_tokens`", vllm="yes"),
    Row("ignore_eos", "yes", "yes", "yes"),
    Row(
        "seed",
        "any 64-bit integer; -1 means none. The same seed and request give the same answer on the same machine, "
        "whatever is cached. "
        "With `GLM_PREFILL=auto` the prompt is evaluated token by token for that, with `batch` without the cache",
        "yes",
        "yes",
        "yes",
    ),
    Row("stream", "yes", "yes", "yes", "yes"),
    Row("json_schema", "as `response_format` with a schema", "yes"),
    Row(
        "structured_outputs",
        "one of `json` (a string that holds the schema too), "
        "`json_object`, `regex`, `choice`; `grammar` and `structural_tag` are refused. With "
        "`response_format` or another of these it is `400`",
        vllm="yes",
    ),
    Row("guided_json, guided_regex, guided_choice", "older names of what `structured_outputs` has"),
    Row("guided_grammar", Refused(reason="this server takes `guided_json`, `guided_regex` and `guided_choice`")),
    Row("guided_decoding_backend", Refused(reason="this server has one, llguidance")),
    Row("guided_whitespace_pattern", Refused(reason="the white space of JSON is fixed here")),
    Row("grammar", Refused("", reason="this server takes `json_schema` and `structured_outputs`"), "yes"),
    Row("grammar_lazy", Refused(False, reason="this server takes no grammar"), "yes"),
    Row("grammar_triggers", Refused([], reason="this server takes no grammar"), "yes"),
    Row("typical_p, typ_p", Refused(1, reason=_NO_SAMPLER), "yes", "no"),
    Row("mirostat", Refused(0, reason=_NO_SAMPLER), "yes", "no"),
    Row("mirostat_tau, mirostat_eta", Accepted("only `mirostat` uses them"), "yes"),
    Row("dry_multiplier", Refused(0, reason=_NO_SAMPLER), "yes"),
    Row(
        "dry_base, dry_allowed_length, dry_penalty_last_n, dry_sequence_breakers",
        Accepted("only `dry_multiplier` uses them"),
        "yes",
    ),
    Row("xtc_probability", Refused(0, reason=_NO_SAMPLER), "yes"),
    Row("xtc_threshold", Accepted("only `xtc_probability` uses it"), "yes"),
    Row("dynatemp_range", Refused(0, reason=_NO_SAMPLER), "yes"),
    Row("dynatemp_exponent", Accepted("only `dynatemp_range` uses it"), "yes"),
    Row("top_n_sigma", Refused(-1, 0, reason=_NO_SAMPLER), "yes"),
    Row("adaptive_target", Refused(-1, reason=_NO_SAMPLER), "yes"),
    Row("adaptive_decay", Accepted("only `adaptive_target` uses it"), "yes"),
    Row("samplers", Refused(reason="the order of the samplers is fixed"), "yes"),
    Row("min_keep", Refused(0, 1, reason=_NO_SAMPLER), "yes"),
    Row("repeat_last_n", Refused(-1, reason="the penalties count all tokens"), "yes"),
    Row("n_keep, n_discard", Accepted("a prompt that is too long is refused, never cut"), "yes"),
    Row("n_indent", Refused(0), "yes"),
    Row("n_probs", Refused(0, reason="`logprobs` asks for log-probabilities"), "yes"),
    Row("post_sampling_probs", Refused(False, reason="log-probabilities are those before sampling"), "yes"),
    Row("t_max_predict_ms", Refused(0, -1, reason="the server's own time limit holds"), "yes"),
    Row("id_slot", Refused(-1, reason="the server chooses the slot"), "yes"),
    Row("cache_prompt", Refused(True, reason="the server always uses its cache"), "yes"),
    Row("return_tokens", Refused(False, reason=_IDS), "yes"),
    Row("response_fields", Refused([], reason="the fields of an answer are fixed"), "yes"),
    Row("lora", Refused([], reason="this server has no adapters"), "yes"),
    Row("thinking_budget_tokens, thinking_token_budget", Refused(-1), "yes", "yes"),
    Row("use_beam_search", Refused(False), vllm="yes"),
    Row("length_penalty", Refused(1, reason="only beam search uses it"), vllm="yes"),
    Row("early_stopping", Refused(False, reason="only beam search uses it"), vllm="older versions"),
    Row("bad_words", Refused([], reason="`logit_bias` keeps tokens out of the answer"), vllm="yes"),
    Row("watermarking", Refused(False), vllm="yes"),
    Row("repetition_detection", Refused({}), vllm="yes"),
    Row("skip_special_tokens", Refused(True, reason=_ONE_TEXT), vllm="yes"),
    Row("spaces_between_special_tokens", Accepted(_ONE_TEXT), vllm="yes"),
    Row("detokenize", Refused(True, reason="an answer always has its text"), vllm="older versions"),
    Row("truncate_prompt_tokens", Refused(reason="a prompt that is too long is refused, never cut"), vllm="yes"),
    Row("truncation_side", Accepted("only `truncate_prompt_tokens` uses it"), vllm="yes"),
    Row("prompt_logprobs", Refused(reason="`echo` with `logprobs` in completions tells them"), vllm="yes"),
    Row("logprob_token_ids", Refused([]), vllm="yes"),
    Row("return_token_ids", Refused(False, reason=_IDS), vllm="yes"),
    Row("return_tokens_as_token_ids", Refused(False, reason=_IDS), vllm="yes"),
    Row("priority", Refused(0, reason="requests run in the order of their arrival"), vllm="yes"),
    Row("request_id", Accepted("the header `X-Request-Id` names a request"), vllm="yes"),
    Row("session_id", Accepted("the cache finds a conversation by its text"), vllm="yes"),
    Row("cache_salt", Refused(reason="all requests share one cache"), vllm="yes"),
    Row("stream_interval", Refused(1, reason="each token is sent as soon as its text is certain"), vllm="yes"),
    Row("kv_transfer_params, ec_transfer_params", Refused({}, reason="the cache stays in this server"), vllm="yes"),
    Row("routed_experts_prompt_start", Refused(0), vllm="yes"),
    Row("vllm_xargs", Refused({}, reason="this server has no extensions"), vllm="yes"),
    Row("logits_processors", Refused([], reason="this server has no extensions"), vllm="older versions"),
    Row("return_token_offsets, return_mm_kwargs", Accepted("another endpoint of vLLM uses them"), vllm="no effect"),
    *PROMPT,
    Row("echo", Refused(False, reason="only `/v1/completions` returns the prompt too"), vllm="yes"),
    Row("n_cache_reuse", Accepted("the cache never changes the answer"), "yes"),
    Row("sse_ping_interval", Accepted("`GLM_PING_INTERVAL` sets it for all requests"), "yes"),
    Row("reasoning_control", Accepted("no endpoint ends thinking before its time"), "yes"),
    Row("user", Accepted("this server keeps no accounts"), vllm="no effect"),
    Row("moderation", Refused(reason="this server has no moderation")),
    Row("prompt_cache_retention, prompt_cache_options", Accepted("the cache finds a conversation by its text")),
    Row("service_tier", Accepted("there is one tier"), vllm="no effect"),
)

COMPLETION = (
    Row("max_completion_tokens", "current name of `max_tokens`, which wins over it; -1 too", vllm="yes, in chats"),
    Row("n_predict", "llama-server's name of `max_tokens`, which wins over it; -1 too", "yes"),
    Row("n", "up to 4, one after the other", vllm="yes", ollama="no"),
    Row(
        "stream_options",
        "`include_usage`, and vLLM's `continuous_usage_stats`: `usage` in each chunk; `400` without `stream`",
        vllm="yes",
        ollama="`include_usage`",
    ),
    Row("include_stop_str_in_output", "yes", vllm="yes"),
    Row("return_progress", "chunks with `prompt_progress`; only with `stream`", "yes"),
    Row("timings_per_token", "`timings` in each chunk; only with `stream`", "yes"),
    Row(
        "response_format",
        "`json_object` and `json_schema`, also with llama-server's `schema`: a grammar holds the answer, so that it "
        "always "
        "fits; what no grammar can enforce is `400`, with the keyword; references within the schema only",
        "by a grammar",
        "yes",
        "yes",
    ),
    Row("n_cmpl", Refused(1, reason="its name is `n` here"), "yes"),
    Row("best_of", Refused(1)),
    Row("safety_identifier", Accepted("this server keeps no accounts"), vllm="no effect"),
    Row("prompt_cache_key", Accepted("the cache finds a conversation by its text")),
)

_TOOL_CHOICE = (
    "`none`, `auto`, `required` (or `any`), a named function, `allowed_tools`: the model is shown only those tools"
)
_PARALLEL = (
    "yes; with `false` an answer makes one call at most. ChatGLM3, GLM-4 and GLM-4-0414 make several calls one after "
    "the other, and are shown the result of each right behind it; later models make them in one message, and are shown "
    "the results in the order of the calls"
)

CHAT = (
    Row("messages", "yes", "yes", "yes", "yes"),
    Row("max_tokens", "new tokens only; -1: as many as the context holds", "yes", "yes, deprecated", "yes"),
    Row(
        "tools",
        "yes, models with a trained format or with a template that knows tools; others `400`. A name has up to 128 "
        "printable characters; one with others than ASCII letters, digits, `_` and `-` is told to the model in these, "
        "and calls carry yours. A call names a declared tool, and its arguments always fit; with `strict` a schema "
        "that cannot be enforced in full is `400`",
        "with `--jinja`",
        "yes",
        "yes",
    ),
    Row("tool_choice", _TOOL_CHOICE, "yes", "the first four", "no"),
    Row("parallel_tool_calls", _PARALLEL, "yes, some models", "yes"),
    Row("functions, function_call", "yes, legacy; beside `tools` or `tool_choice` it is `400`"),
    Row(
        "continue_final_message, add_generation_prompt",
        "yes, but a last assistant message is continued without them too. `400` for both `true`; for "
        "`continue_final_message: false` or `add_generation_prompt: true` beside such a message; for the opposites "
        "without one",
        vllm="yes",
    ),
    Row(
        "logprobs, top_logprobs",
        "0 to 20; `400` for `top_logprobs` without `logprobs`",
        "yes, not with tools and a stream together",
        "yes",
        "no",
    ),
    Row(
        "reasoning_effort",
        "`none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`, given to the model's template; `none` and "
        "`minimal` tell it not to think instead. Models that do not think take these two only",
        "yes",
        "yes",
        "yes",
    ),
    Row(
        "thinking",
        "Z.ai's: `type` is `enabled` or `disabled`; `clear_thinking: false` keeps earlier reasoning in the prompt, if "
        "the template can. Models that do not think take neither `enabled` nor that",
    ),
    Row(
        "chat_template_kwargs",
        "variables for the model's template, at most 64 KiB. Models without a template take `enable_thinking: false` "
        "only, and models that do not think refuse `enable_thinking: true`. What contradicts `thinking` or "
        "`reasoning_effort` is `400`",
        "yes",
        "yes",
    ),
    Row(
        "include_reasoning",
        "with `false` the answer has no `reasoning_content`; its tokens count all the same",
        vllm="yes",
    ),
    Row(
        "reasoning_format",
        Refused("auto", "deepseek", reason="what the model thinks is always apart from the answer"),
        "yes",
    ),
    Row("thinking_forced_open", Refused(False, reason="the model's template decides it"), "yes"),
    Row("parse_tool_calls", Refused(True, reason="calls are always told apart from the text"), "yes"),
    Row("add_special_tokens", Refused(False, reason="the format of the model has them"), vllm="yes"),
    Row("return_prompt_text", Refused(False, reason="`/apply-template` tells the prompt"), vllm="yes"),
    Row("audio", Refused(reason="this server answers with text")),
    Row("modalities", Refused(["text"], reason="this server answers with text")),
    Row("prediction", Refused()),
    Row("web_search_options", Refused(reason="this server does not search the web")),
    Row("verbosity", Refused("medium")),
    Row("store, metadata", Accepted("chat completions are answered once and not kept"), vllm="no effect"),
)

# Of the endpoints that take a prompt as it is.
RAW = (
    Row("tools, functions", Refused([], reason=_NO_TOOLS)),
    Row("tool_choice, function_call", Refused("none", reason=_NO_TOOLS)),
    Row("reasoning_effort", Refused("none", "minimal", reason=_RAW)),
    Row("thinking", Refused({}, {"type": "disabled"}, reason=_RAW)),
    Row("chat_template_kwargs", Refused({}, reason="a raw completion has no template; chat has")),
)

COMPLETIONS = (
    Row("prompt", "text, token ids, or up to 16 of either", "text, token ids, or several", ollama="text"),
    Row("max_tokens", "16 by default, as in OpenAI's API; 0 only with `echo`; -1: as many as the context holds"),
    Row(
        "echo",
        "yes; with `logprobs` the prompt's tokens are told too, as lm-evaluation-harness needs it",
        "refused",
        ollama="no",
    ),
    Row("logprobs", "0 to 5, in the legacy shape"),
    Row("top_logprobs", Refused(0, reason="`logprobs` is the number of tokens here")),
    Row("suffix", Refused("", reason="GLM models cannot fill in text before a suffix"), "refused", "no", "yes"),
    Row("add_special_tokens", Refused(True, reason="a prompt opens as the model was trained"), vllm="yes"),
    Row("prompt_embeds", Refused(reason="a prompt is text or token ids"), vllm="yes"),
    *RAW,
    Row("verbosity", Refused("medium")),
)

_WHOLE_CONVERSATION = "a conversation that is too long is refused, not cut"

RESPONSES = (
    Row(
        "input",
        "text, messages, function calls and their results, reasoning, and references to items of stored responses",
        "text, items",
        ollama="yes",
    ),
    Row("instructions", "yes", "yes", ollama="yes"),
    Row("max_output_tokens", "yes; -1: as many as the context holds", ollama="yes"),
    Row("tools", "functions, as in chat completions", "functions", "yes", "yes"),
    Row("tool_choice", _TOOL_CHOICE, vllm="yes"),
    Row("parallel_tool_calls", _PARALLEL, vllm="yes"),
    Row(
        "text", "`format` as `response_format`, `json_schema` with its schema; `verbosity` is refused, except `medium`"
    ),
    Row("metadata", "given back"),
    Row(
        "include",
        "`message.output_text.logprobs`, and `reasoning.encrypted_content`, of which there is none; others refused",
    ),
    Row(
        "reasoning",
        "`effort` as `reasoning_effort`. `summary` is refused, except `auto`: there is no summary, but the reasoning "
        "itself. `context` is refused, except `auto`, and `mode`, except `standard`",
    ),
    Row("top_logprobs", "0 to 20; `400` without `message.output_text.logprobs` in `include`"),
    Row(
        "logprobs",
        Refused(
            False,
            reason="here `include` asks for log-probabilities with `message.output_text.logprobs`, and `top_logprobs` "
            "for more of them",
        ),
    ),
    Row(
        "previous_response_id",
        "yes, a [stored response](operations.md#stored-responses) of the same API key; `400` "
        "`previous_response_not_found` without it, or without one that it continues. `instructions` are not inherited",
        "refused",
        ollama="no",
    ),
    Row(
        "store",
        "`true` by default, and then the response is kept for a while; the answer tells whether it is. `true` is "
        "refused with `GLM_RESPONSE_STORE=off`",
    ),
    Row(
        "conversation",
        Refused(reason="this server has no such objects; `previous_response_id` continues a response"),
        ollama="no",
    ),
    Row("background", Refused(False, reason="this server answers each request at once")),
    Row("prompt", Refused(reason="this server has no stored prompts")),
    Row("truncation", Refused("disabled", reason=_WHOLE_CONVERSATION), ollama="no"),
    Row("max_tool_calls", "given back; it limits built-in tools, of which this server has none"),
    Row("safety_identifier", "given back; this server keeps no accounts"),
    Row("prompt_cache_key", "given back; the cache finds a conversation by its text"),
    Row("chat_template_kwargs", "as in chat completions, beside `reasoning`"),
    _USAGE,
    Row("context_management", Refused([], reason=_WHOLE_CONVERSATION)),
    Row("background_options", Refused({}, reason="this server answers each request at once")),
    Row("access_programs", Accepted("there is one model, for all")),
    Row("image", Refused({}, {"context_compression": "auto"}, {"context_compression": "disabled"})),
    Row("personality", Refused(reason="`instructions` tell the model its style")),
    Row("previous_input_messages", Refused([], reason="its name is `input` here"), vllm="yes"),
    Row("enable_response_messages", Refused(False, reason="`/apply-template` tells the prompt"), vllm="yes"),
    Row("functions, function_call", Refused(reason="its name is `tools` or `tool_choice` here")),
    Row("thinking", Refused(reason="its name is `reasoning` here")),
    Row("include_reasoning", Refused(True, reason="`reasoning` with `effort` `none` asks for no thinking")),
    Row("n, n_cmpl", Refused(1, reason="a response has one answer")),
    Row("max_tokens, max_completion_tokens, n_predict", Refused(reason="its name is `max_output_tokens` here")),
    Row("messages", Refused(reason="its name is `input` here")),
    Row("response_format", Refused(reason="its name is `text.format` here")),
    Row("reasoning_effort", Refused(reason="its name is `reasoning.effort` here")),
    _STOP_STRING,
)

NATIVE = (
    Row("prompt", "text, token ids, or up to 16 of either", "text, token ids, mixed, or several"),
    Row("n_predict", "-1, the default, and -2: as many as the context holds", "yes"),
    Row("n_probs", "0 to 20", "yes"),
    Row("return_tokens", "yes", "yes"),
    Row("return_progress, timings_per_token", "only with `stream`", "yes"),
    Row("n, n_cmpl", Refused(1, reason="send several prompts"), "yes"),
    Row("max_tokens", Refused(-1, reason="its name is `n_predict` here"), "yes"),
    Row("max_completion_tokens, max_output_tokens", Refused(reason="its name is `n_predict` here")),
    *RAW,
    _USAGE,
    Row("response_format", Refused(reason="its name is `json_schema` here"), "yes"),
    _STOP_STRING,
)

_NOT_BILLED = "this server bills nothing"

MESSAGES = (
    Row(
        "messages",
        "text, images in base64, tool calls and their results, thinking; `system` between them too",
        vllm="yes",
    ),
    Row("system", "a text or text blocks", vllm="yes"),
    Row("max_tokens", "required, 1 or more", vllm="yes"),
    Row("stop_sequences", "up to 16", vllm="yes"),
    Row(
        "tools",
        "tools of the client, as in chat completions; Anthropic's own are refused. `cache_control`, `input_examples`, "
        "`defer_loading`, `allowed_callers` and `eager_input_streaming` have no effect",
    ),
    Row(
        "tool_choice",
        "`auto`, `any`, `tool`, `none`; with `disable_parallel_tool_use` an answer makes one call at most",
    ),
    Row(
        "thinking",
        "`enabled`, which needs a model that thinks, `disabled`, and `adaptive`: the template decides. `display` is "
        "`summarized` (nothing is summed up) or `omitted`. `budget_tokens` has no effect: `max_tokens` is the one "
        "limit",
    ),
    Row(
        "output_config",
        "`format` with a JSON schema holds the answer to it; `effort` is given to the template of a model that thinks, "
        "and has no effect on others. `task_budget` is refused",
    ),
    Row("output_format", "older name of `output_config.format`"),
    Row(
        "context_management",
        "`clear_thinking_20251015` with `keep: all` keeps earlier thinking in the prompt, if the template can; other "
        "edits are refused: a conversation that is too long is refused, not cut",
    ),
    Row("chat_template_kwargs", "as in chat completions, beside `thinking` and `output_config`"),
    _USAGE,
    Row("metadata, user_profile_id", Accepted("this server keeps no accounts")),
    Row(
        "cache_control, diagnostics", Accepted("the cache finds a conversation by its text; `usage` tells what it had")
    ),
    Row("inference_geo", Accepted("the model runs where this server runs")),
    Row("billing_policy, fallback_credit_token", Accepted(_NOT_BILLED)),
    Row("speed", Refused("standard", reason="there is one speed")),
    Row("fallbacks", Refused("default", [], reason="there is one model")),
    Row("mcp_servers", Refused([], reason="this server calls no tools")),
    Row("container", Refused(reason="this server runs no code")),
    Row("compaction", Refused(reason="this server sums no conversation up")),
    Row("thread", Refused(reason="this server stores nothing; send the whole conversation")),
    Row("include_reasoning", Refused(True, reason="its name is `thinking.display` here")),
    Row("n, n_cmpl", Refused(1, reason="a message has one answer")),
    Row("max_completion_tokens, max_output_tokens, n_predict", Refused(reason="its name is `max_tokens` here")),
    Row("response_format", Refused(reason="its name is `output_config.format` here")),
    Row("reasoning_effort", Refused(reason="its name is `output_config.effort` here")),
    Row("parallel_tool_calls", Refused(True, reason="its name is `tool_choice.disable_parallel_tool_use` here")),
    Row("functions, function_call", Refused(reason="its name is `tools` or `tool_choice` here")),
    _STOP_STRING,
)
