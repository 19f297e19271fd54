"""Check the images of a conversation against what a model accepts."""

from __future__ import annotations

from collections.abc import Sequence

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Message


def check_images(messages: Sequence[Message], *, accepted: bool) -> None:
    """Raise `PromptError` for an image if none is ``accepted``, else for a second one."""
    positions = [message.position for message in messages if message.image is not None]
    if positions and not accepted:
        raise PromptError("This model does not accept images.", f"messages.{positions[0]}.content")
    if len(positions) > 1:
        raise PromptError("This model accepts at most one image in a conversation.", f"messages.{positions[1]}.content")
