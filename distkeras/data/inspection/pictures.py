"""Thumbnails for a contact sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

THUMBNAIL_PIXELS = 96
JPEG_QUALITY = 70


def thumbnail_of_file(path: Path) -> bytes | None:
    """Returns a small JPEG of an image file; None: it cannot be decoded, or Pillow (extra `report`) is missing."""
    if find_spec("PIL") is None:
        return None
    from PIL import Image

    try:
        with Image.open(path) as image:
            # JPEG is decoded to a fraction of its size at once.
            image.draft("RGB", (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            return _encoded(image)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def thumbnails_of_arrays(images: Sequence[np.ndarray]) -> list[bytes | None]:
    """Returns a small JPEG of each image in memory; None: it is no image, or Pillow is missing.

    The smallest number in any of them is black, and the largest one white: pixels may go up to 255, to 16 or to 1.

    Args:
        images: Each of shape (height, width, channels) with 1 or 3 channels, of any real type.
    """
    shown = [pixels for pixels in images if _is_picture(pixels)]
    if not shown or find_spec("PIL") is None:
        return [None] * len(images)
    from PIL import Image

    finite = np.concatenate([pixels[np.isfinite(pixels)].astype(np.float64) for pixels in shown])
    black, white = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)

    def thumbnail(pixels: np.ndarray) -> bytes:
        # `fmin` and `fmax` make black of what is no number.
        shares = np.fmax(np.fmin((pixels.astype(np.float64) - black) / ((white - black) or 1.0), 1), 0)
        levels = (255 * shares).round().astype(np.uint8)
        return _encoded(Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels))

    return [thumbnail(pixels) if _is_picture(pixels) else None for pixels in images]


def _is_picture(pixels: np.ndarray) -> bool:
    return pixels.dtype.kind in "biuf" and pixels.ndim == 3 and pixels.shape[-1] in (1, 3) and pixels.size > 0


def _encoded(image: Any) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
