"""What kinds of images share: the frame that an image is brought to, its event, and a check."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from tqdm import tqdm

from arcore.events import Binary, Levels
from pipeline.datasets.base import Unit
from pipeline.datasets.formats.image_files import (
    Fit,
    Frame,
    Source,
    ends_whole,
    is_coloured,
    measure,
    read_rows,
)
from pipeline.datasets.own.own_data import OwnOptions, counted, listed, refuse_unless

LARGEST_SIDE = 1024
_DECODED = 100  # images of a dataset that its check decodes


@dataclass(frozen=True, kw_only=True)
class FrameOptions(OwnOptions):
    """Options of images of one's own.

    Arguments:
        height, width: pixels of a row.
        gray: whether colours are left out.
        num_levels: of a pixel, 2 to 256; 2 makes the event binary.
        fit: how an image of another size is brought to this one.
        max_megapixels: of the largest image that is decoded.
    """

    height: int = 32
    width: int = 32
    gray: bool = False
    num_levels: int = 256
    fit: Fit = "resize"
    max_megapixels: int = 64

    @property
    def frame(self) -> Frame:
        """How an image becomes rows."""
        return Frame(
            self.height, self.width, self.gray, self.num_levels, self.fit,
            max_megapixels=self.max_megapixels,
        )  # fmt: skip

    @property
    def event(self) -> Binary | Levels:
        """What a row is."""
        shape = self.frame.shape
        return Binary(shape) if self.num_levels == 2 else Levels(self.num_levels, shape)

    @property
    def unit(self) -> Unit:
        """The unit that the field reports such images in."""
        return "nats" if self.num_levels == 2 else "bits_per_dim"

    @property
    def told(self) -> str:
        """Say what the rows are, for who looks at what was found."""
        shape = " x ".join(map(str, self.frame.shape))
        return f"rows: {shape}, {self.num_levels} levels, fit: {self.fit}"

    def described(self, fitted: str, split: str) -> str:
        """Say what the rows are, for a provenance: how images are fitted, how they are split."""
        return (
            f"{'gray' if self.gray else 'RGB'} images of {Path(self.path).name}, {fitted}, "
            f"{self.num_levels} levels; {split}"
        )


class ImageCheck:
    """A check of all images that is much cheaper than to decode them, with a bar of progress.

    Of each image the header and the end are looked at; pixels are decoded of one in so many, and of
    those that do not end as they should. Colours are looked for where they would be left out.

    Arguments:
        frame: what images are brought to.
        count: of the images.
    """

    def __init__(self, frame: Frame, count: int) -> None:
        self.frame, self.count = frame, count
        self.extents = Counter[tuple[int, int]]()
        self._stride = -(-count // _DECODED)
        self._decoded = self._seen = self._coloured = 0
        self._bar = tqdm(
            total=count, desc="checking", unit="image", leave=False, delay=0.5, disable=None
        )

    def __enter__(self) -> ImageCheck:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def look_at(self, source: Source, where: str | Path) -> tuple[int, int]:
        """Check one image; return its height and width.

        Raises:
            UserError: naming what is amiss with it.
        """
        size = measure(source, self.frame, where)
        self._coloured += self.frame.gray and is_coloured(source)
        with source.open("rb") if isinstance(source, Path) else BytesIO(source.getvalue()) as file:
            whole = ends_whole(file)
        if not whole or self._seen % self._stride == 0:
            read_rows(source, self.frame, where)
            self._decoded += 1
        self._seen += 1
        self._bar.update()
        self.extents[size] += 1
        return size

    def told(self) -> list[str]:
        """Say what was found, in lines."""
        sizes = [f"{many} of {high} x {wide}" for (high, wide), many in self.extents.most_common()]
        rest = ", of the others headers and ends; preprocess decodes all"
        coloured = counted(self._coloured, "image")
        lines = [f"beware: {coloured} stored in colour made gray; gray=false keeps colours"]
        return [
            *lines * (self._coloured > 0),
            f"sizes (height x width): {listed(sizes)}",
            f"checked: the pixels of {self._decoded}{rest * (self._decoded < self.count)}",
        ]


def check_frame(name: str, options: FrameOptions) -> None:
    """Check the options of a frame.

    Raises:
        UserError: naming the option that is out of range.
    """
    ranges = {
        "height": (1, LARGEST_SIDE),
        "width": (1, LARGEST_SIDE),
        "num_levels": (2, 256),
        "max_megapixels": (1, 89),
    }
    for key, (least, most) in ranges.items():
        value = getattr(options, key)
        refuse_unless(least <= value <= most, name, key, f"{least} to {most}", value)
