"""General lossless codecs as baselines: the bytes that PNG, WebP and zstd need for a test image.

Each image is coded alone, as a file of its own: all bytes count, headers too (which is most of what
tiny images cost). Every coded image is decoded again and compared.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import PIL
import pyarrow as pa
from PIL import Image, features

from arcore.events import Event, Levels, is_levels
from pipeline.core.errors import UserError
from pipeline.evaluation.results import CodecResult, Score

ZSTD_LEVEL = 19
NATS_PER_BYTE = 8 * math.log(2)


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A lossless codec for images (C, H, W) of uint8 levels, with C of 1 or 3.

    Arguments:
        label: as tables print it.
        settings: in words.
        encode: from an image and its event to bytes.
        decode: the way back.
    """

    label: str
    settings: str
    encode: Callable[[np.ndarray, Levels], bytes]
    decode: Callable[[bytes, Levels], np.ndarray]


def applies(event: Event) -> TypeGuard[Levels]:
    """Tell whether an event is an image that the codecs can code.

    Example:
        >>> applies(Levels(256, (3, 32, 32))), applies(Levels(2, (180,)))
        (True, False)
    """
    return (
        is_levels(event)
        and event.num_levels <= 256
        and len(event.shape) == 3
        and event.shape[0] in (1, 3)
        and None not in event.shape
    )


def _has_bits(event: Levels) -> bool:
    return event.num_levels == 2 and event.shape[0] == 1


def _to_picture(image: np.ndarray, event: Levels) -> Image.Image:
    """Make a picture of 1-bit, 8-bit gray or RGB pixels, whose values are the levels."""
    if _has_bits(event):
        return Image.fromarray(image[0].astype(bool))
    return Image.fromarray(np.ascontiguousarray(image[0] if len(image) == 1 else _last(image)))


def _last(image: np.ndarray) -> np.ndarray:
    return image.transpose(1, 2, 0)


def _from_file(data: bytes, event: Levels) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture).astype(np.uint8)
    if pixels.ndim == 2:
        return pixels[None]
    return pixels.transpose(2, 0, 1)[: event.shape[0]]


def encode_png(image: np.ndarray, event: Levels) -> bytes:
    """Encode as PNG: 1 bit per pixel for bits, 8-bit gray or RGB otherwise.

    Example:
        >>> event = Levels(256, (3, 4, 4))
        >>> encode_png(np.zeros(event.shape, np.uint8), event)[1:4]
        b'PNG'
    """
    file = io.BytesIO()
    _to_picture(image, event).save(file, "PNG", optimize=True)
    return file.getvalue()


def encode_webp(image: np.ndarray, event: Levels) -> bytes:
    """Encode as lossless WebP, which has RGB only: gray levels are given three times."""
    file = io.BytesIO()
    rgb = np.ascontiguousarray(_last(np.broadcast_to(image, (3, *image.shape[1:]))))
    Image.fromarray(rgb).save(file, "WEBP", lossless=True, quality=100, method=6)
    return file.getvalue()


def encode_zstd(image: np.ndarray, event: Levels) -> bytes:
    """Encode with zstd the image's bytes, channel by channel; bits are packed, 8 per byte."""
    raw = np.packbits(image) if _has_bits(event) else np.ascontiguousarray(image)
    return bytes(_zstd().compress(raw.tobytes(), asbytes=True))


def decode_zstd(data: bytes, event: Levels) -> np.ndarray:
    """Decode what `encode_zstd` wrote."""
    size = math.ceil(event.size / 8) if _has_bits(event) else event.size
    raw = np.frombuffer(_zstd().decompress(data, size, asbytes=True), np.uint8)
    levels = np.unpackbits(raw, count=event.size) if _has_bits(event) else raw
    return levels.reshape(event.extents)


def _zstd() -> pa.Codec:
    return pa.Codec("zstd", compression_level=ZSTD_LEVEL)


CODECS = {
    "png": Codec(
        label="PNG (Pillow, measured here)",
        settings="optimize=True",
        encode=encode_png,
        decode=_from_file,
    ),
    "webp": Codec(
        label="WebP lossless (Pillow, measured here)",
        settings="quality=100 method=6",
        encode=encode_webp,
        decode=_from_file,
    ),
    "zstd": Codec(
        label="zstd (pyarrow, measured here)",
        settings=f"level={ZSTD_LEVEL}",
        encode=encode_zstd,
        decode=decode_zstd,
    ),
}


def require() -> None:
    """Check that the installed libraries have the codecs.

    Raises:
        UserError: naming what is missing.
    """
    if not features.check("webp"):
        raise UserError(
            f"Pillow {PIL.__version__}: expected one with WebP; install Pillow's own wheel "
            "(pip install --force-reinstall --only-binary :all: pillow)"
        )
    if not pa.Codec.is_available("zstd"):
        raise UserError(f"pyarrow {pa.__version__}: expected one with zstd; install its own wheel")


def libraries() -> dict[str, str | None]:
    """Return the versions of the libraries that the bytes depend on."""
    return {
        "pillow": PIL.__version__,
        "zlib": features.version("zlib_ng") or features.version("zlib"),
        "webp": features.version("webp"),
        "pyarrow": pa.__version__,
    }


def measure(codec: Codec, images: np.ndarray, event: Levels) -> CodecResult:
    """Code each image alone.

    Arguments:
        codec: one of `CODECS`.
        images: (N, C, H, W) uint8 levels, N at least 2.
        event: what one image is.

    Raises:
        RuntimeError: if an image does not come back as it was.
    """
    sizes = np.empty(len(images), np.int64)
    for row, image in enumerate(images):
        data = codec.encode(image, event)
        if not np.array_equal(codec.decode(data, event), image):
            raise RuntimeError(f"{codec.label}: test image {row} did not come back as it was")
        sizes[row] = len(data)
    nats = float(sizes.mean()) * NATS_PER_BYTE
    error = float(sizes.std(ddof=1)) / math.sqrt(len(sizes)) * NATS_PER_BYTE
    return CodecResult(
        label=codec.label,
        settings=codec.settings,
        num_rows=len(images),
        bytes=int(sizes.sum()),
        score=Score.from_nats(nats, error, event),
    )
