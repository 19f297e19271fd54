"""The service of the tokenizer process: answer each question with ids or text."""

from __future__ import annotations

import ctypes
from dataclasses import replace

from glm_api.backend.errors import PromptError
from glm_api.log.faults import describe
from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.formats.tool_names import with_speakable_names
from glm_api.pipeline.frames import (
    Decoded,
    DecodeIds,
    EncodeChat,
    Encoded,
    EncodeText,
    Rejected,
    TokenizerAnswer,
    TokenizerQuestion,
    TooLong,
    ToTokenizer,
)
from glm_api.pipeline.worker.connection import Connection
from glm_api.pipeline.worker.tokenizer import LimitedTokenizer, TooManyTokens

# Encoding takes hundreds of bytes of memory for each byte of a text. The C library keeps that memory, so the process
# would stay as large as its largest question made it. After this many bytes of questions it is given back.
TRIM_AFTER_BYTES = 256 * 1024
_FAILED = "The server failed to turn this into tokens, or these tokens into text. See the server's log."


class TokenizerService:
    """Answers `EncodeChat`, `EncodeText` and `DecodeIds`, in order of arrival."""

    def __init__(self, connection: Connection[ToTokenizer], tokenizer: LimitedTokenizer, format: Format) -> None:
        self._connection = connection
        self._tokenizer = tokenizer
        self._format = format
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._trim_at = TRIM_AFTER_BYTES

    def serve(self) -> None:
        """Answer questions until the web process goes away. Raises `ParentGone` and `FrameError`."""
        while True:
            self._serve_one()
            if self._connection.received >= self._trim_at and self._trim is not None:
                self._trim(0)
                self._trim_at = self._connection.received + TRIM_AFTER_BYTES

    def _serve_one(self) -> None:
        frame = self._connection.receive()
        if isinstance(frame, TokenizerQuestion):
            self._connection.send(self._answer(frame))

    def _answer(self, frame: TokenizerQuestion) -> TokenizerAnswer:
        tokenizer = self._tokenizer
        try:
            match frame:
                case EncodeChat():
                    conversation, names = with_speakable_names(frame.conversation)
                    with tokenizer.limit(frame.most):
                        prompt = self._format.render(conversation)
                    tokenizer.check(prompt.ids, frame.most)
                    return Encoded(frame.id, prompt.ids, replace(prompt.output, names=names))
                case EncodeText():
                    encode = self._format.render_text if frame.prefix else tokenizer.encode
                    with tokenizer.limit(frame.most):
                        ids = encode(frame.text)
                    tokenizer.check(ids, frame.most)
                    return Encoded(frame.id, ids, self._format.text_output(frame.structured))
                case DecodeIds():
                    self._check(frame.ids)
                    return Decoded(frame.id, tokenizer.shown_pieces(frame.ids))
        except PromptError as error:
            return Rejected(frame.id, "prompt", error.message, error.param)
        except TooManyTokens as error:
            return TooLong(frame.id, error.tokens, error.at_least)
        except Exception as error:
            # An error that nobody foresaw costs one request, not the process.
            print(f"A question failed: {describe(error)}", flush=True)
            return Rejected(frame.id, "engine", _FAILED)

    def _check(self, ids: list[int]) -> None:
        """Raise `PromptError` for an unknown id. Clients send ids, and one without an embedding crashes the model."""
        for id in ids:
            if not self._tokenizer.knows(id):
                raise PromptError(f"The model has no token {id}.", "tokens")
