"""What kinds of images share: the size that images are brought to, and decoding them in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm

from arcore.events import Binary, Levels
from pipeline.datasets.base import SplitData, Unit
from pipeline.datasets.decoding_parts import PartsFolder, decoder
from pipeline.datasets.formats.image_files import Fit, Frame, read_rows
from pipeline.datasets.options import between
from pipeline.datasets.user.user_data import UserDataset, UserOptions

BATCH = 2048  # images that are decoded at a time
Side = Annotated[int, between(1, 1024)]


@dataclass(frozen=True, kw_only=True)
class FrameOptions(UserOptions):
    """Options of the user's images.

    Arguments:
        height, width: pixels of a row.
        gray: whether colours are left out.
        num_levels: of a pixel, 2 to 256; 2 makes the event binary.
        fit: how an image of another size is brought to this one.
        max_megapixels: of the largest image that is decoded.
    """

    height: Side = 32
    width: Side = 32
    gray: bool = False
    num_levels: Annotated[int, between(2, 256)] = 256
    fit: Fit = "resize"
    max_megapixels: Annotated[int, between(1, 89)] = 64

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


@dataclass(frozen=True)
class Undecoded:
    """Images of a split that are decoded together.

    Arguments:
        name: of the batch, under which its rows are kept until the dataset is whole.
        images: paths, or files' contents.
        where: what an error calls each.
        labels: of the rows, (rows,) int64, or None.
    """

    name: str
    images: Sequence[Path | bytes]
    where: Sequence[str]
    labels: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class ImageSource(UserDataset):
    """Images of the user's, which are decoded batch by batch.

    A batch that a killed run decoded is not decoded again.
    """

    def decode_batches(
        self, split: str, num_images: int, batches: Iterable[Undecoded], kept: PartsFolder
    ) -> Iterator[SplitData]:
        """Decode the images of a split in order, several at a time, with a bar of progress.

        Arguments:
            split: its name.
            num_images: of the split.
            batches: all of its images.
            kept: where decoded batches wait.
        """
        assert isinstance(self.options, FrameOptions)
        read = partial(_decode, self.options.frame)
        bar = tqdm(
            total=num_images, desc=f"decoding {split}", unit="image", leave=False, delay=0.5,
            disable=None,
        )  # fmt: skip
        with decoder() as decode, bar:
            for batch in batches:
                columns: list[Sequence[object]] = [batch.images, batch.where]
                rows = kept.part(batch.name, partial(decode, read, columns))
                bar.update(len(batch.images))
                yield SplitData(rows, batch.labels)


def _decode(frame: Frame, image: Path | bytes, where: str) -> np.ndarray:
    return read_rows(image if isinstance(image, Path) else BytesIO(image), frame, where)
