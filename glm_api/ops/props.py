"""Facts about the server and its tokens, in llama-server's shapes."""

from __future__ import annotations

from typing import Any

from glm_api.api.parameters import DEFAULT_MAX_TOKENS, DEFAULTS
from glm_api.backend.errors import PromptError
from glm_api.context import pipeline, server_version, settings
from glm_api.ops.schemas import TokenizeRequest
from glm_api.pipeline.pipeline import SlotState

_PARAMETERS: dict[str, Any] = {
    "temperature": DEFAULTS.temperature,
    "top_p": DEFAULTS.top_p,
    "top_k": DEFAULTS.top_k,
    "min_p": DEFAULTS.min_p,
    "repeat_penalty": DEFAULTS.repetition_penalty,
    "presence_penalty": DEFAULTS.presence_penalty,
    "frequency_penalty": DEFAULTS.frequency_penalty,
    "seed": DEFAULTS.seed,
    "min_tokens": DEFAULTS.min_tokens,
    "ignore_eos": DEFAULTS.ignore_eos,
    "n_predict": DEFAULT_MAX_TOKENS,
}


def server_props() -> dict[str, Any]:
    """Return the model and the default parameters. Raises `ModelLoading`."""
    info = pipeline.model
    return {
        "model_alias": settings.model_name,
        "model_path": settings.model.name,
        "family": info.family,
        "total_slots": info.slots,
        "threads": pipeline.threads,
        "default_generation_settings": {"n_ctx": info.context_length, **_PARAMETERS, "params": _PARAMETERS},
        "chat_template": info.template,
        "bos_token": info.opening,
        "eos_token": info.ending,
        "modalities": {"vision": info.supports_images, "audio": False},
        "build_info": f"glm-api-server {server_version()}",
    }


def slots() -> list[dict[str, Any]]:
    """Return the state of each cache slot. Raises `ModelLoading`."""
    context = pipeline.model.context_length
    return [_slot(slot, context) for slot in pipeline.slots()]


def _slot(slot: SlotState, context: int) -> dict[str, Any]:
    generation = slot.generation
    state: dict[str, Any] = {
        "id": slot.id,
        "id_task": -1,
        "n_ctx": context,
        "speculative": False,
        "is_processing": generation is not None,
        "tokens": slot.tokens,
        "n_prompt_tokens": 0,
        "n_prompt_tokens_processed": 0,
        "n_prompt_tokens_cache": 0,
        "next_token": [{"has_next_token": False, "n_decoded": 0, "n_remain": 0}],
    }
    if generation is not None:
        decoded = generation.generated_tokens
        remaining = max(0, max(generation.work.limits) - decoded)
        state |= {
            "id_task": generation.id,
            "n_prompt_tokens": generation.prompt_tokens,
            "n_prompt_tokens_processed": generation.processed or 0,
            "n_prompt_tokens_cache": 0 if generation.started is None else generation.started.cached_tokens,
            "next_token": [{"has_next_token": True, "n_decoded": decoded, "n_remain": remaining}],
        }
    return state


def tokens(request: TokenizeRequest) -> dict[str, Any]:
    """Return the ids that ``request`` asks for. Raises `ApiError`, and `BackendError` from the tokenizer."""
    request.check()
    if request.messages:
        ids = pipeline.encode_chat(request.to_conversation(pipeline.model)).ids
    elif request.prompt is not None:
        ids = _ids(request.prompt, request.add_special_tokens, "prompt")
    else:
        ids = _ids(request.content or "", request.add_special, "content")
    found: dict[str, Any] = {"tokens": ids, "count": len(ids), "max_model_len": pipeline.model.context_length}
    if request.with_pieces or request.return_token_strs:
        pieces = pipeline.pieces(ids)
        if request.with_pieces:
            found["tokens"] = [{"id": id, "piece": _piece(piece)} for id, piece in zip(ids, pieces, strict=True)]
        if request.return_token_strs:
            found["token_strs"] = [piece.decode(errors="replace") for piece in pieces]
    return found


def _ids(text: str, special: bool, param: str) -> list[int]:
    try:
        return pipeline.tokenize(text, special=special)
    except PromptError as error:
        raise error.at(param) from None


def _piece(piece: bytes) -> str | list[int]:
    """Return what an id adds to the text: as text, or as bytes if these are no whole characters."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
