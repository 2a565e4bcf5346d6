"""What codecs need for images, each alone and all as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from arcore.events import Levels
from pipeline.evaluation import image_codecs
from pipeline.evaluation.coded_sizes import TENTHS, codec_result
from pipeline.evaluation.image_codecs import ImageCodec
from pipeline.evaluation.result_records import CodecResult


def measure_all(images: np.ndarray, event: Levels) -> list[CodecResult]:
    """Code images by every codec that can, each alone and all together.

    Arguments:
        images: (N, C, H, W) uint8 levels, N at least 2.
        event: what one image is.
    """
    codecs = [codec for codec in image_codecs.CODECS.values() if codec.applies(event)]
    longest = max(images.shape[2:])
    alone = [
        measure(codec, images, event)
        for codec in codecs
        if codec.alone and not 0 < codec.longest < longest
    ]
    side = max(mosaic_extents(images.shape))
    return alone + [
        measure_together(codec, images, event)
        for codec in codecs
        if codec.together and not 0 < codec.longest < side
    ]


def measure(codec: ImageCodec, images: np.ndarray, event: Levels) -> CodecResult:
    """Code each image alone.

    Arguments:
        codec: one of `CODECS`.
        images: (N, C, H, W) uint8 levels, N at least 2.
        event: what one image is.

    Raises:
        RuntimeError: if an image does not come back as it was.
    """
    sizes = [_size(codec, image, event, f"test image {n}") for n, image in enumerate(images)]
    return codec_result(codec, sum(sizes), len(images), np.array(sizes), event)


def measure_together(codec: ImageCodec, images: np.ndarray, event: Levels) -> CodecResult:
    """Code all images, like `measure`, as one picture: a near-square mosaic in their order.

    The standard error is that of ten mosaics, each of a tenth of the images as they follow each
    other; it is too small where neighbours are alike, as tiles of one photograph are.
    """
    whole = _mosaic_size(codec, images, event)
    tenths = np.array_split(images, min(TENTHS, len(images)))
    means = np.array([_mosaic_size(codec, tenth, event) / len(tenth) for tenth in tenths])
    return codec_result(codec, whole, len(images), means, event, "mosaic")


def mosaic(images: np.ndarray) -> np.ndarray:
    """Put images side by side, row after row, in a near-square; what is left over is level 0.

    Arguments:
        images: (N, C, H, W).

    Returns:
        (C, rows H, columns W), with columns = ceil(sqrt(N)).

    Example:
        >>> mosaic(np.arange(1, 4, dtype=np.uint8).reshape(3, 1, 1, 1)).tolist()
        [[[1, 2], [3, 0]]]
    """
    count, channels, height, width = images.shape
    rows, columns = (
        whole // side
        for whole, side in zip(mosaic_extents(images.shape), (height, width), strict=True)
    )
    padded = np.zeros((rows * columns, channels, height, width), images.dtype)
    padded[:count] = images
    grid = padded.reshape(rows, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return np.ascontiguousarray(grid.reshape(channels, rows * height, columns * width))


def mosaic_extents(shape: Sequence[int]) -> tuple[int, int]:
    """Return the height and width of the mosaic of images of shape (N, C, H, W).

    Example:
        >>> mosaic_extents((3, 1, 8, 9))
        (16, 18)
    """
    count, _, height, width = shape
    columns = math.isqrt(count - 1) + 1
    return math.ceil(count / columns) * height, columns * width


def _mosaic_size(codec: ImageCodec, images: np.ndarray, event: Levels) -> int:
    picture = mosaic(images)
    whole = Levels(event.num_levels, picture.shape)
    return _size(codec, picture, whole, f"the mosaic of {len(images)} images")


def _size(codec: ImageCodec, image: np.ndarray, event: Levels, what: str) -> int:
    data = codec.encode(image, event)
    if not np.array_equal(codec.decode(data, event), image):
        raise RuntimeError(f"{codec.label}: {what} did not come back as it was")
    return len(data)
