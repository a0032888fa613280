"""Format and size of an image from its header: nothing is decoded, so a hostile image costs nothing.

Specifications: PNG (https://www.w3.org/TR/png-3/), JPEG (ITU-T T.81, annex B), GIF89a, BMP (Windows GDI's
BITMAPCOREHEADER and BITMAPINFOHEADER).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

ImageFormat = Literal["JPEG", "PNG", "GIF", "BMP"]

# Mostly the size stands among these; to read more would cost more than all the rest.
FIRST_BYTES = 1024

# How a whole file ends: one that does not was cut off, or carries something after the image.
_ENDINGS: dict[ImageFormat, bytes] = {
    "JPEG": b"\xff\xd9",
    "PNG": b"IEND\xae\x42\x60\x82",
    "GIF": b"\x00\x3b",
}

_JPEG_PARAMETERLESS = {0x01, *range(0xD0, 0xD8)}
# 0xC0..0xCF start a frame, except the tables and extensions that share the range.
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN_OR_END = {0xDA, 0xD9}


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself.

    Attributes:
        format: Found from the content; the file's name does not matter.
        height: In pixels.
        width: In pixels.
        is_whole: Whether the file ends as its format says it must; one cut off may do so by chance.
        num_bytes: Length of the file.
    """

    format: ImageFormat
    height: int
    width: int
    is_whole: bool
    num_bytes: int


def read_image_header(stream: BinaryIO) -> ImageHeader | None:
    """Reads format and size from the header of an image.

    Args:
        stream: Seekable, at its start. A stream rather than the first bytes: in a JPEG the size comes after
            metadata of any length. It needs no buffer.

    Returns:
        The header, or None where there is no whole header of a JPEG, PNG, GIF or BMP image.
    """
    start = stream.read(FIRST_BYTES)
    try:
        if start.startswith(b"\xff\xd8\xff"):
            return _header("JPEG", _jpeg_size(start, stream), stream)
        if start.startswith(b"\x89PNG\r\n\x1a\n") and start[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", start, 16)
            return _header("PNG", (height, width), stream)
        if start.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack_from("<HH", start, 6)
            return _header("GIF", (height, width), stream)
        if start.startswith(b"BM"):
            return _header("BMP", _bmp_size(start), stream, declared_bytes=_bmp_bytes(start))
    except struct.error:  # The file ends inside its header.
        return None
    return None


def _header(
    image_format: ImageFormat,
    size: tuple[int, int] | None,
    stream: BinaryIO,
    declared_bytes: int = 0,
) -> ImageHeader | None:
    if size is None or min(size) <= 0:
        return None
    num_bytes = stream.seek(0, os.SEEK_END)
    ending = _ENDINGS.get(image_format, b"")
    stream.seek(max(0, num_bytes - len(ending)))
    is_whole = stream.read(len(ending)) == ending and num_bytes >= declared_bytes
    return ImageHeader(image_format, size[0], size[1], is_whole, num_bytes)


def _jpeg_size(start: bytes, stream: BinaryIO) -> tuple[int, int] | None:
    """Walks the segments up to the frame header."""

    def read(place: int, count: int) -> bytes:
        if place + count <= len(start):
            return start[place : place + count]
        stream.seek(place)
        return stream.read(count)

    place = 2
    while read(place, 1) == b"\xff":
        place += 1
        while (marker := read(place, 1)) == b"\xff":  # Any number of fill bytes may come before a marker.
            place += 1
        place += 1
        if not marker or marker[0] in _JPEG_SCAN_OR_END:
            return None
        if marker[0] in _JPEG_PARAMETERLESS:
            continue
        (length,) = struct.unpack(">H", read(place, 2))
        if marker[0] in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", read(place + 3, 4))
            return height, width
        place += length
    return None


def _bmp_size(start: bytes) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", start, 14)
    if header_bytes == 12:
        width, height = struct.unpack_from("<HH", start, 18)
    else:
        width, height = struct.unpack_from("<ii", start, 18)
    return abs(height), width  # A negative height means that rows are stored from the top.


def _bmp_bytes(start: bytes) -> int:
    """Returns the length that the file claims to have."""
    return struct.unpack_from("<I", start, 2)[0]
