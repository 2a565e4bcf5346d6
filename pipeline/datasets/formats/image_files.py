"""Images as people have them: PNG, JPEG and WebP files brought to rows of one size.

Pillow decodes, with its three decoders alone. What a header says is checked before a pixel is
decoded, so that a small file that claims to be a huge image costs nothing.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps

from pipeline.core.errors import UserError
from pipeline.datasets.formats.visible_files import visible_files

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
Fit = Literal["resize", "crop", "tiles"]
Source = Path | io.BytesIO
_FLAWS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
GRAY = ("1", "L", "LA")  # modes without colours
_QUARTER_TURNS = (5, 6, 7, 8)  # orientations of EXIF in which rows and columns change places
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class Frame:
    """How an image of any size becomes rows of one size.

    Arguments:
        height, width: of a row, in pixels.
        gray: luma instead of RGB.
        num_levels: k in 2 to 256; a byte v becomes the level floor(v k / 256).
        fit: `resize` squeezes or stretches the image; `crop` takes the largest part in its middle
            of the right proportions first; `tiles` cuts it into as many rows as fit side by side,
            around its middle, and is the only one that gives several.
        shorter_side: pixels to which the shorter side is reduced before tiles are cut, 0 for none.
        max_megapixels: of an image; larger ones are refused unread.
    """

    height: int
    width: int
    gray: bool = False
    num_levels: int = 256
    fit: Fit = "resize"
    shorter_side: int = 0
    max_megapixels: int = 64

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a row."""
        return (1 if self.gray else 3, self.height, self.width)

    def reduced(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image after its reduction, which never enlarges.

        Example:
            >>> Frame(32, 32, shorter_side=320).reduced(2160, 3840)
            (320, 569)
        """
        shorter = min(height, width)
        if not 0 < self.shorter_side < shorter:
            return height, width
        scale = self.shorter_side / shorter
        return max(1, round(height * scale)), max(1, round(width * scale))

    def count(self, height: int, width: int) -> int:
        """Rows that an image of a size gives.

        Example:
            >>> Frame(32, 32, fit="tiles", shorter_side=320).count(2160, 3840)
            170
        """
        if self.fit != "tiles":
            return 1
        height, width = self.reduced(height, width)
        return (height // self.height) * (width // self.width)


def find_images(folder: Path) -> list[Path]:
    """List the images of a folder at any depth by name; see `visible_files`."""
    return [path for path in visible_files(folder) if path.suffix.lower() in SUFFIXES]


def measure(source: Source, frame: Frame, where: str | Path) -> tuple[int, int]:
    """Return an image's height and width as they are seen, from its header.

    Raises:
        UserError: for a file that is no such image, has several frames, too many pixels, or is too
            small for a tile.
    """
    with _opened(source, frame, where) as image:
        height, width = image.height, image.width
        # a PNG may have them after its pixels, which are decoded for it where turns change the rows
        exif = image.getexif() if frame.fit == "tiles" else Image.Image.getexif(image)
        if exif.get(ExifTags.Base.Orientation) in _QUARTER_TURNS:
            height, width = width, height
    if frame.count(height, width) == 0:
        small = frame.reduced(height, width)
        raise UserError(
            f"{where}: expected an image of at least {frame.height} x {frame.width} pixels, "
            f"got {small[0]} x {small[1]}"
        )
    return height, width


def is_coloured(source: Source) -> bool:
    """Whether an image that `measure` has passed is stored in colour, by its header."""
    with Image.open(source, formats=FORMATS) as image:
        return image.mode not in GRAY


def ends_whole(stream: BinaryIO) -> bool:
    """Whether a file has the end of its format, which one that was cut lacks.

    No pixel is decoded. A whole JPEG that has other data after its end gives False too.
    """
    head = stream.read(8)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 64))
    tail = stream.read()
    if head.startswith(b"\xff\xd8"):
        return tail.rstrip(b"\0").endswith(b"\xff\xd9")
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    return head.startswith(b"RIFF") and 8 + int.from_bytes(head[4:], "little") <= size


def read_rows(source: Source, frame: Frame, where: str | Path) -> np.ndarray:
    """Decode an image.

    Orientation by EXIF is obeyed; transparent pixels are laid on white; colours are taken as they
    are stored, without their profile. Sizes are changed by Pillow's bicubic filter, which averages
    where it reduces.

    Returns:
        (rows, channels, height, width) uint8 levels.

    Raises:
        UserError: as `measure`, or if it is truncated or damaged.
    """
    with _opened(source, frame, where) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        pixels = _flattened(upright).convert("L" if frame.gray else "RGB")
    rows = _fitted(pixels, frame)
    if len(rows) == 0:
        raise UserError(
            f"{where}: expected an image of at least {frame.height} x {frame.width} pixels, "
            f"got {pixels.height} x {pixels.width}"
        )
    if frame.num_levels == 256:
        return rows
    return (rows.astype(np.uint16) * frame.num_levels >> 8).astype(np.uint8)


@contextmanager
def _opened(source: Source, frame: Frame, where: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(source, formats=FORMATS) as image:
            size, most = f"{image.width} x {image.height}", frame.max_megapixels
            several = image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False)
            problems = (
                (image.width * image.height > most * 10**6, f"at most {most} million pixels", size),
                (several, "a still image", "several frames"),
                (image.mode not in _EIGHT_BIT, "8 bits a channel", f"mode {image.mode}"),
                (is_of_16_bits(image), "8 bits a channel", "16"),
            )
            for holds, expected, got in problems:
                if holds:
                    raise UserError(f"{where}: expected {expected}, got {got}")
            yield image
    except _FLAWS as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "file not found" if missing else " ".join(str(error).split()) or "no data"
        reason = reason.replace(str(source), "the file")
        raise UserError(
            f"{where}: expected a PNG, JPEG or WebP image, whole and undamaged: {reason}"
        ) from None


def is_of_16_bits(image: Image.Image) -> bool:
    """Whether a PNG has 16 bits a channel; of colours Pillow would drop half without a word."""
    return image.format == "PNG" and any(
        ";16" in str(part[-1]) for part in getattr(image, "tile", ())
    )


def _flattened(image: Image.Image) -> Image.Image:
    """Lay transparent pixels on white."""
    if image.mode not in ("LA", "RGBA", "PA") and "transparency" not in image.info:
        return image
    seen = image.convert("RGBA")
    white = Image.new("RGBA", seen.size, "white")
    white.alpha_composite(seen)
    return white.convert("RGB")


def _fitted(pixels: Image.Image, frame: Frame) -> np.ndarray:
    size = (frame.width, frame.height)
    if frame.fit == "tiles":
        height, width = frame.reduced(pixels.height, pixels.width)
        if (width, height) != pixels.size:
            pixels = pixels.resize((width, height), Image.Resampling.BICUBIC)
        return _tiles(_channels_first(pixels), frame.height, frame.width)
    if frame.fit == "crop":
        scale = min(pixels.width / frame.width, pixels.height / frame.height)
        across, down = (max(1, round(scale * side)) for side in size)
        left, top = (pixels.width - across) // 2, (pixels.height - down) // 2
        pixels = pixels.crop((left, top, left + across, top + down))
    if pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.BICUBIC)
    return _channels_first(pixels)[None]


def _channels_first(pixels: Image.Image) -> np.ndarray:
    values = np.asarray(pixels)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _tiles(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut (C, H, W) into (rows, C, height, width), row by row, around the middle."""
    channels, full_height, full_width = pixels.shape
    down, across = full_height // height, full_width // width
    top, left = (full_height - down * height) // 2, (full_width - across * width) // 2
    middle = pixels[:, top : top + down * height, left : left + across * width]
    cut = middle.reshape(channels, down, height, across, width)
    return cut.transpose(1, 3, 0, 2, 4).reshape(-1, channels, height, width)
