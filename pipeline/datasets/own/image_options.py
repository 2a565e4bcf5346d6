"""What kinds of images share: the frame that an image is brought to, and its event."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from arcore.events import Binary, Levels
from pipeline.datasets.base import Unit
from pipeline.datasets.formats.image_files import Fit, Frame
from pipeline.datasets.own.own_data import OwnOptions, refuse_unless

LARGEST_SIDE = 1024


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

    def described(self, fitted: str, split: str) -> str:
        """Say what the rows are, for a provenance: how images are fitted, how they are split."""
        return (
            f"{'gray' if self.gray else 'RGB'} images of {Path(self.path).name}, {fitted}, "
            f"{self.num_levels} levels; {split}"
        )


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
