"""General lossless codecs of images: PNG, WebP, JPEG XL, ..., alone and as one mosaic."""

import io
import lzma
import math
from collections.abc import Sequence
from functools import partial
from typing import TypeGuard

import numpy as np
import PIL
import pyarrow as pa
from PIL import Image, features

from arcore.events import Event, Levels, is_levels
from pipeline.core.threads import on_all_cores
from pipeline.evaluation import lossless_codec
from pipeline.evaluation.lossless_codec import LosslessCodec, in_tenths
from pipeline.evaluation.result_records import CodecResult

ZSTD_LEVEL = 19
XZ_PRESET = 9 | lzma.PRESET_EXTREME
JPEGXL_EFFORT = 9


def applies(event: Event) -> TypeGuard[Levels]:
    """Tell whether an event is an image that the codecs can code."""
    return (
        is_levels(event)
        and event.num_levels <= 256
        and len(event.shape) == 3
        and event.shape[0] in (1, 3)
        and None not in event.shape
    )


def _has_bits(event: Levels) -> bool:
    return event.num_levels == 2 and len(event.shape) == 3 and event.shape[0] == 1


def pixels_of(image: np.ndarray) -> np.ndarray:
    """Put colours (C, H, W) last; one colour has no axis."""
    return np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def _levels(pixels: np.ndarray, event: Levels) -> np.ndarray:
    """Undo `pixels_of`; of gray that was given three times one is left."""
    levels = pixels.astype(np.uint8)
    return levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)[: event.shape[0]]


def _encode_file(image: np.ndarray, event: Levels, kind: str, **options: object) -> list[bytes]:
    """Encode as a picture of 1-bit, 8-bit gray or RGB pixels, whose values are the levels."""
    pixels = image[0].astype(bool) if _has_bits(event) else pixels_of(image)
    return _file_of(pixels, kind, **options)


def _encode_webp(image: np.ndarray, event: Levels) -> list[bytes]:
    """Encode as WebP, which has RGB only: gray levels are given three times."""
    rgb = pixels_of(np.broadcast_to(image, (3, *image.shape[1:])))
    return _file_of(rgb, "WEBP", lossless=True, quality=100, method=6)


def _file_of(pixels: np.ndarray, kind: str, **options: object) -> list[bytes]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return [file.getvalue()]


def _decode_file(parts: Sequence[bytes], event: Levels) -> np.ndarray:
    with Image.open(io.BytesIO(parts[0])) as picture:
        return _levels(np.asarray(picture), event)


def _packed(image: np.ndarray, event: Levels) -> bytes:
    """Return the image's bytes, channel by channel; bits are packed, 8 per byte."""
    return (np.packbits(image) if _has_bits(event) else np.ascontiguousarray(image)).tobytes()


def _unpacked(data: bytes, event: Levels) -> np.ndarray:
    raw = np.frombuffer(data, np.uint8)
    levels = np.unpackbits(raw, count=event.size) if _has_bits(event) else raw
    return levels.reshape(event.extents)


def _encode_zstd(image: np.ndarray, event: Levels) -> list[bytes]:
    codec = pa.Codec("zstd", compression_level=ZSTD_LEVEL)
    return [bytes(codec.compress(_packed(image, event), asbytes=True))]


def _decode_zstd(parts: Sequence[bytes], event: Levels) -> np.ndarray:
    size = math.ceil(event.size / 8) if _has_bits(event) else event.size
    return _unpacked(pa.Codec("zstd").decompress(parts[0], size, asbytes=True), event)


def _encode_xz(image: np.ndarray, event: Levels) -> list[bytes]:
    return [lzma.compress(_packed(image, event), preset=XZ_PRESET)]


def _decode_xz(parts: Sequence[bytes], event: Levels) -> np.ndarray:
    return _unpacked(lzma.decompress(parts[0]), event)


def _encode_jpegxl(image: np.ndarray, event: Levels) -> list[bytes]:
    """Encode bits at a depth of 1, levels at one of 8."""
    import imagecodecs

    coded = imagecodecs.jpegxl_encode(
        pixels_of(image), lossless=True, effort=JPEGXL_EFFORT,
        bitspersample=1 if _has_bits(event) else 8, numthreads=1,
    )  # fmt: skip
    return [bytes(coded)]


def _decode_jpegxl(parts: Sequence[bytes], event: Levels) -> np.ndarray:
    import imagecodecs

    return _levels(np.asarray(imagecodecs.jpegxl_decode(parts[0], numthreads=1)), event)


CODECS = {
    "png": LosslessCodec(
        label="PNG (Pillow, measured here)",
        settings="optimize=True",
        encode=partial(_encode_file, kind="PNG", optimize=True),
        decode=_decode_file,
        together=False,
    ),
    "webp": LosslessCodec(
        label="WebP lossless (Pillow, measured here)",
        settings="quality=100 method=6",
        encode=_encode_webp,
        decode=_decode_file,
        longest=16_383,
    ),
    "zstd": LosslessCodec(
        label="zstd (pyarrow, measured here)",
        settings=f"level={ZSTD_LEVEL}",
        encode=_encode_zstd,
        decode=_decode_zstd,
        together=False,
    ),
    "jpegxl": LosslessCodec(
        label="JPEG XL (imagecodecs, measured here)",
        settings=f"effort={JPEGXL_EFFORT}",
        encode=_encode_jpegxl,
        decode=_decode_jpegxl,
    ),
    "group4": LosslessCodec(  # the fax machines' code
        label="CCITT G4 (Pillow, measured here)",
        settings="",
        encode=partial(_encode_file, kind="TIFF", compression="group4"),
        decode=_decode_file,
        alone=False,
        applies=_has_bits,
    ),
    "xz": LosslessCodec(
        label="xz (Python, measured here)",
        settings="preset=9e",
        encode=_encode_xz,
        decode=_decode_xz,
        alone=False,
    ),
}


def libraries() -> dict[str, str | None]:
    """Return the versions of the libraries that the bytes depend on."""
    import imagecodecs

    return {
        "pillow": PIL.__version__,
        "zlib": features.version("zlib_ng") or features.version("zlib"),
        "webp": features.version("webp"),
        "libtiff": features.version("libtiff"),
        "pyarrow": pa.__version__,
        "imagecodecs": imagecodecs.__version__,
        "libjxl": str(imagecodecs.jpegxl_version()).removeprefix("libjxl "),
    }


def measure_all(images: np.ndarray, event: Levels) -> list[CodecResult]:
    """Code images (N, C, H, W) uint8, N > 1, by every codec, each alone and all together."""
    together = partial(measure_together, images=images, event=event)
    side = max(mosaic(images).shape)
    return lossless_codec.measure_all(CODECS.values(), images, event, together, side)


def measure_together(codec: LosslessCodec, images: np.ndarray, event: Levels) -> CodecResult:
    """Code all images as one picture: a near-square mosaic in their order.

    The standard error is from ten mosaics, each of a tenth of the images as they follow each
    other; it is too small where neighbours are alike, as tiles of one photograph are.
    """

    def size(part: np.ndarray) -> int:
        return sum(codec.sizes(mosaic(part), event.num_levels, f"the mosaic of {len(part)} images"))

    tenths = in_tenths(images)
    total, *parts = on_all_cores(size, [images, *tenths])
    means = np.array(parts) / [len(tenth) for tenth in tenths]
    return codec.result(total, len(images), means, event, "mosaic")


def mosaic(images: np.ndarray) -> np.ndarray:
    """Put images (N, C, H, W) side by side in a near-square, (C, rows H, columns W).

    There are ceil(sqrt(N)) columns, and what is left over is level 0.
    """
    count, channels, height, width = images.shape
    columns = math.isqrt(count - 1) + 1
    rows = math.ceil(count / columns)
    padded = np.zeros((rows * columns, channels, height, width), images.dtype)
    padded[:count] = images
    grid = padded.reshape(rows, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return np.ascontiguousarray(grid.reshape(channels, rows * height, columns * width))
