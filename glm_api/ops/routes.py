"""Routes for operators: server state, tokenization, and the prompt that the model gets."""

from __future__ import annotations

from typing import Any

from glm_api.api import examples
from glm_api.api.conversation import ConversationParameters, ConversationSchema
from glm_api.api.openapi import REACHING, TOKENIZING, Blueprint
from glm_api.context import pipeline
from glm_api.ops.props import server_props, slots, tokens
from glm_api.ops.schemas import (
    ContentSchema,
    DetokenizeRequest,
    DetokenizeRequestSchema,
    PromptSchema,
    PropsSchema,
    QueueSchema,
    SlotSchema,
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
@blueprint.response(200, SlotSchema(many=True))
@blueprint.errors(*REACHING, 503)
def get_slots() -> list[dict[str, Any]]:
    """List the cache slots, and how far the requests are that use them."""
    return slots()


@blueprint.route("/queue")
@blueprint.response(200, QueueSchema)
@blueprint.errors(*REACHING)
def queue() -> dict[str, Any]:
    """List the running requests and the waiting requests."""
    return pipeline.snapshot()


@blueprint.route("/tokenize", methods=["POST"])
@blueprint.arguments(TokenizeRequestSchema, example={"content": "你好"})
@blueprint.response(200, TokensSchema)
@blueprint.errors(*TOKENIZING)
def tokenize(request: TokenizeRequest) -> dict[str, Any]:
    """Tokenize a text of at most 32,768 tokens, or of the context's length if that is longer, or a conversation."""
    return tokens(request)


@blueprint.route("/detokenize", methods=["POST"])
@blueprint.arguments(DetokenizeRequestSchema, example={"tokens": [64790, 64792]})
@blueprint.response(200, ContentSchema)
@blueprint.errors(*TOKENIZING)
def detokenize(request: DetokenizeRequest) -> dict[str, str]:
    """Convert at most 32,768 token ids into text, or as many as the context holds if that is more."""
    text = pipeline.decode(request.tokens)
    return {"content": text, "prompt": text}


@blueprint.route("/apply-template", methods=["POST"])
@blueprint.arguments(ConversationSchema, example=examples.REQUESTS["tools"]["value"])
@blueprint.response(200, PromptSchema)
@blueprint.errors(*TOKENIZING)
def apply_template(request: ConversationParameters) -> dict[str, Any]:
    """Render the prompt of a chat completion, without answering it. The prompt must fit into the context."""
    ids = pipeline.encode_chat(request.to_conversation(pipeline.model)).ids
    return {"prompt": pipeline.decode(ids), "tokens": ids}
