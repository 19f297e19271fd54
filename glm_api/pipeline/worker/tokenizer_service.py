"""The tokenizer process's work: answer each question with ids or text."""

from __future__ import annotations

from glm_api.backend.errors import PromptError
from glm_api.log.faults import describe
from glm_api.pipeline.conversation import conversation_from_json
from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.frames import Decoded, DecodeIds, EncodeChat, Encoded, EncodeText, Frame, Rejected
from glm_api.pipeline.worker.connection import Connection
from glm_api.pipeline.worker.tokenizer import PipelineTokenizer


class TokenizerService:
    """Answers `EncodeChat`, `EncodeText` and `DecodeIds`, in the order in which they come."""

    def __init__(self, connection: Connection, tokenizer: PipelineTokenizer, format: Format) -> None:
        self._connection = connection
        self._tokenizer = tokenizer
        self._format = format

    def serve(self) -> None:
        """Work until the web process goes away. Raises `ParentGone`."""
        while True:
            frame = self._connection.receive()
            if isinstance(frame, (EncodeChat, EncodeText, DecodeIds)):
                self._connection.send(self._answer(frame))

    def _answer(self, frame: EncodeChat | EncodeText | DecodeIds) -> Frame:
        try:
            match frame:
                case EncodeChat():
                    prompt = self._format.render(conversation_from_json(frame.conversation))
                    return Encoded(frame.id, prompt.ids, prompt.output.to_json())
                case EncodeText():
                    encode = self._format.render_text if frame.prefix else self._tokenizer.encode
                    return Encoded(frame.id, encode(frame.text), {})
                case DecodeIds():
                    self._check(frame.ids)
                    return Decoded(frame.id, self._tokenizer.show(frame.ids))
        except PromptError as error:
            return Rejected(frame.id, error.message, error.param)
        except Exception as error:
            # Whatever nobody thought of may cost one request, not the process.
            print(f"A question failed: {describe(error)}", flush=True)
            return Rejected(frame.id, "This cannot be turned into tokens. Change it, then try again.", None)

    def _check(self, ids: list[int]) -> None:
        """Ids come from outside, and one beyond the embeddings would bring the model down. Raises `PromptError`."""
        for id in ids:
            if not self._tokenizer.knows(id):
                raise PromptError(f"The model has no token {id}.", "tokens")
