"""Images as people have them: PNG, JPEG and WebP files brought to rows of one size.

Pillow decodes, with its three decoders alone, and that of GIF for animations. What a header says
is checked before a pixel is decoded, so that a small file that claims to be a huge image costs
nothing.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image, ImageOps

from pipeline.core.errors import UserError, require
from pipeline.core.threads import on_all_cores
from pipeline.datasets.options import between

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
ANIMATED, ANIMATED_SUFFIXES = ("GIF",), (".gif",)
DAMAGED, DAMAGED_WORDS = "damaged", "whole and undamaged"
MAX_PIXELS = 64_000_000
GRAY = ("1", "L", "LA")  # modes without colours
Fit = Literal["resize", "crop"]
Side = Annotated[int, between(1, 1024)]
Source = Path | io.BytesIO
FLAWS = (  # what Pillow raises for damaged files
    OSError, SyntaxError, ValueError, EOFError, IndexError, zlib.error, struct.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class Frame:
    """How an image of any size becomes a row of one size.

    Arguments:
        height, width: of a row, in pixels.
        gray: luma instead of RGB.
        num_levels: k in 2 to 256; a byte v becomes the level floor(v k / 256).
        fit: `resize` squeezes or stretches the image; `crop` takes the largest part in its middle
            of the right proportions first.
    """

    height: Side
    width: Side
    gray: bool = False
    num_levels: Annotated[int, between(2, 256)] = 256
    fit: Fit = "resize"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a row."""
        return (1 if self.gray else 3, self.height, self.width)


def decode_upright(source: Source, gray: bool, where: str | Path) -> Image.Image:
    """Decode an image into mode L or RGB.

    Orientation by EXIF is applied; transparent pixels are laid on white; colours are taken as they
    are stored, without their profile.
    """
    with _opened(source, where, FORMATS) as image:
        _check_still(image, where)
        return _upright(image, gray, where)


def find_flaw(source: Path) -> str | None:
    """Return why `decode_upright` would refuse an image, None for a sound one.

    A JPEG is decoded at an eighth of its size, which reads all of the file in less time.
    """
    try:
        with _opened(source, source, FORMATS) as image:
            _check_still(image, source)
            image.draft(None, (image.width // 8, image.height // 8))
            _upright(image, True, source)
    except UserError as error:
        reason = str(error).removeprefix(f"{source}: ")
        return DAMAGED if DAMAGED_WORDS in reason else reason.replace("expected", "not", 1)
    return None


def read_rows(source: Source, frame: Frame, where: str | Path) -> np.ndarray:
    """Decode an image into a row, (1, channels, height, width) uint8 levels.

    Sizes are changed by Pillow's bicubic filter, which averages where it reduces.
    """
    return _levels(decode_upright(source, frame.gray, where), frame)[None]


def count_frames(source: Path) -> int:
    """Return the frames of an animation."""
    with _opened(source, source, ANIMATED) as image:
        return int(getattr(image, "n_frames", 1))


def read_frames(
    source: Path, first: int, count: int, frame: Frame, where: str | Path
) -> np.ndarray:
    """Decode frames of an animation from `first` on, (count, channels, height, width)."""
    with _opened(source, where, ANIMATED) as image:
        rows = []
        for number in range(first, first + count):
            image.seek(number)
            rows.append(_levels(_upright(image, frame.gray, where), frame))
        return np.stack(rows)


@contextmanager
def _opened(source: Source, where: str | Path, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open an image, and explain in one line what is wrong with its file."""
    try:
        with Image.open(source, formats=formats) as image:
            yield image
    except FLAWS as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "file not found" if missing else " ".join(str(error).split()) or "no data"
        reason = reason.replace(str(source), "the file")
        kinds = "GIF" if formats == ANIMATED else "PNG, JPEG or WebP"
        raise UserError(f"{where}: expected a {kinds} image, {DAMAGED_WORDS}: {reason}") from None


def _check_still(image: Image.Image, where: str | Path) -> None:
    several = image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False)
    require(not several, str(where), "a still image", "several frames")


def _upright(image: Image.Image, gray: bool, where: str | Path) -> Image.Image:
    fits = image.width * image.height <= MAX_PIXELS
    require(fits, str(where), f"at most {MAX_PIXELS} pixels", image.size)
    fits = image.mode in _EIGHT_BIT and not is_of_16_bits(image)
    require(fits, str(where), "8 bits a channel", f"mode {image.mode} or 16 bits")
    image.load()
    upright = _flattened(ImageOps.exif_transpose(image))
    return upright.convert("L" if gray else "RGB")


def _levels(pixels: Image.Image, frame: Frame) -> np.ndarray:
    """Bring pixels to the size and the levels of a frame, (channels, height, width)."""
    size = (frame.width, frame.height)
    if frame.fit == "crop":
        scale = min(pixels.width / frame.width, pixels.height / frame.height)
        across, down = (max(1, round(scale * side)) for side in size)
        left, top = (pixels.width - across) // 2, (pixels.height - down) // 2
        pixels = pixels.crop((left, top, left + across, top + down))
    if pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.BICUBIC)
    row = channels_first(pixels)
    if frame.num_levels == 256:
        return row
    return (row.astype(np.uint16) * frame.num_levels >> 8).astype(np.uint8)


def channels_first(pixels: Image.Image) -> np.ndarray:
    """Return pixels as (C, H, W) uint8."""
    values = np.asarray(pixels)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def is_gray(image: Image.Image) -> bool:
    """Whether an image has no colours, by its mode or its palette."""
    if image.mode != "P":
        return image.mode in GRAY
    palette = np.array(image.getpalette("RGB") or [0]).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def is_of_16_bits(image: Image.Image) -> bool:
    """Whether a PNG has 16 bits a channel; of colours Pillow would drop half without a word."""
    return image.format == "PNG" and any(
        ";16" in str(part[-1]) for part in getattr(image, "tile", ())
    )


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA", "PA") and "transparency" not in image.info:
        return image
    seen = image.convert("RGBA")
    white = Image.new("RGBA", seen.size, "white")
    white.alpha_composite(seen)
    return white.convert("RGB")


# Decodes events, whose arguments stand in columns, and puts their rows one below the other.
Decode = Callable[[Callable[..., np.ndarray], Sequence[Sequence[object]]], np.ndarray]
_elsewhere: ContextVar[Decode | None] = ContextVar("decode", default=None)


@contextmanager
def decoding_by(decode: Decode) -> Iterator[None]:
    """Let something else than threads of this process decode, inside the block."""
    token = _elsewhere.set(decode)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def decode(read: Callable[..., np.ndarray], columns: Sequence[Sequence[object]]) -> np.ndarray:
    """Decode events as `Decode` says: by a thread for each core, or by what `decoding_by` says."""
    if (elsewhere := _elsewhere.get()) is not None:
        return elsewhere(read, columns)
    rows = zip(*columns, strict=True)
    return np.concatenate(on_all_cores(lambda arguments: read(*arguments), rows, most=None))
