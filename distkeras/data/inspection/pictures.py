"""Thumbnails for a contact sheet."""

from __future__ import annotations

import io
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


def thumbnail_of_array(pixels: np.ndarray) -> bytes | None:
    """Returns a small JPEG of an image in memory; None: it is no image, or Pillow is missing.

    Args:
        pixels: Shape (height, width, channels) with 1 or 3 channels; integers up to 255, or floats of any range,
            which are stretched from black to white.
    """
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or find_spec("PIL") is None:
        return None
    from PIL import Image

    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = (255 * (pixels.astype(np.float64) - low) / ((high - low) or 1.0)).astype(np.uint8)
    return _encoded(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def _encoded(image: Any) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
