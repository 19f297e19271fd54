"""A file becomes pixels, or an error for the client that sent it."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from glm_api.backend.errors import PromptError
from glm_api.pipeline.worker.chatglm_cpp.images import decode_image
from glm_api.pipeline.worker.images import MOST_PIXELS


def file_of(kind: str, size: tuple[int, int] = (3, 2), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "L")])
def test_png_and_jpeg_become_rgb(kind: str, mode: str) -> None:
    image = decode_image(file_of(kind, mode=mode))
    assert (image.width, image.height, image.channels) == (3, 2, 3)


@pytest.mark.parametrize(
    "file",
    [b"", b"hello", file_of("GIF"), file_of("PNG")[:45]],
)
def test_anything_else_is_refused(file: bytes) -> None:
    with pytest.raises(PromptError):
        decode_image(file)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    side = int(MOST_PIXELS**0.5) + 1
    with pytest.raises(PromptError, match="pixels"):
        decode_image(file_of("PNG", (side, side), "1"))
