"""Small pictures as data URIs: PNG written by hand, so that equal pixels are equal bytes."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def data_uri(image: NDArray[np.uint8]) -> str:
    """image: (c, h, w) with one channel for grey or three for colours."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def png(image: NDArray[np.uint8]) -> bytes:
    """The image, (c, h, w) of bytes, as PNG."""
    channels, height, width = image.shape
    pixels = image.transpose(1, 2, 0).reshape(height, width * channels)
    scanlines = np.pad(pixels, ((0, 0), (1, 0))).astype(np.uint8)  # before each line its filter: none
    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(scanlines.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
