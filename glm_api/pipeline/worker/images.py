"""Decode the image of a prompt, in the child: a decoder that fails there costs one request, not the server."""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

from glm_api.backend.errors import PromptError

# Models scale images to about 1120 x 1120, so larger ones only use up memory.
MOST_PIXELS = 32 * 1024 * 1024
FORMATS = ("PNG", "JPEG")


def open_image(file: bytes) -> Image.Image:
    """Return the RGB image in a PNG or JPEG file. Raises `PromptError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(file), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise PromptError(f"The image has more than {MOST_PIXELS} pixels. Send a smaller one.", "messages")
                return image.convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning, OSError, ValueError):
        raise PromptError("The image is damaged, too large, or neither a PNG nor a JPEG file.", "messages") from None
    except SyntaxError:
        # Pillow's PNG reader raises this for broken chunks.
        raise PromptError("The image is damaged.", "messages") from None
