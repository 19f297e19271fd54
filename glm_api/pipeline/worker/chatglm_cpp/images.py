"""Decode the image of a prompt for chatglm-cpp."""

from __future__ import annotations

from glm_api.pipeline.worker.chatglm_cpp.bridge import chatglm_cpp
from glm_api.pipeline.worker.images import open_image


def decode_image(file: bytes) -> chatglm_cpp.Image:
    """Return the RGB pixels of a PNG or JPEG file. Raises `PromptError`."""
    rgb = open_image(file)
    return chatglm_cpp.Image(memoryview(rgb.tobytes()).cast("B", (rgb.height, rgb.width, 3)))
