"""Routes for operators: server state, tokenization, and the prompt that the model gets."""

from __future__ import annotations

from typing import Any

from glm_api.api import examples
from glm_api.api.conversation import ConversationParameters, ConversationSchema
from glm_api.api.openapi import REACHING, TOKENIZING, Blueprint
from glm_api.context import pipeline
from glm_api.ops.props import pieces, server_props
from glm_api.ops.schemas import (
    ContentSchema,
    DetokenizeRequest,
    DetokenizeRequestSchema,
    PromptSchema,
    PropsSchema,
    SlotsSchema,
    TokenizeRequest,
    TokenizeRequestSchema,
    TokensSchema,
)

blueprint = Blueprint("ops", __name__, description="Server state, tokenization and prompt templates")


@blueprint.route("/props")
@blueprint.response(200, PropsSchema)
@blueprint.errors(*REACHING, 503)
def props() -> dict[str, Any]:
    """Describe the model and its default parameters."""
    return server_props()


@blueprint.route("/slots")
@blueprint.response(200, SlotsSchema)
@blueprint.errors(*REACHING)
def slots() -> dict[str, Any]:
    """List the running requests, the waiting requests and the contents of the cache slots."""
    return pipeline.snapshot()


@blueprint.route("/tokenize", methods=["POST"])
@blueprint.arguments(TokenizeRequestSchema, example={"content": "你好"})
@blueprint.response(200, TokensSchema)
@blueprint.errors(*TOKENIZING)
def tokenize(request: TokenizeRequest) -> dict[str, Any]:
    """Tokenize a text of at most 32,768 tokens, or of the context's length if that is longer."""
    ids = pipeline.tokenize(request.content, special=request.add_special)
    return {"tokens": pieces(ids) if request.with_pieces else ids}


@blueprint.route("/detokenize", methods=["POST"])
@blueprint.arguments(DetokenizeRequestSchema, example={"tokens": [64790, 64792]})
@blueprint.response(200, ContentSchema)
@blueprint.errors(*TOKENIZING)
def detokenize(request: DetokenizeRequest) -> dict[str, str]:
    """Convert at most 32,768 token ids into text, or as many as the context holds if that is more."""
    return {"content": pipeline.decode(request.tokens)}


@blueprint.route("/apply-template", methods=["POST"])
@blueprint.arguments(ConversationSchema, example=examples.REQUESTS["tools"]["value"])
@blueprint.response(200, PromptSchema)
@blueprint.errors(*TOKENIZING)
def apply_template(request: ConversationParameters) -> dict[str, Any]:
    """Render the prompt of a chat completion, without answering it. The prompt must fit into the context."""
    ids = pipeline.encode_chat(request.to_conversation(pipeline.model)).ids
    return {"prompt": pipeline.decode(ids), "tokens": ids}
