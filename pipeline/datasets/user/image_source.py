"""What kinds of images share: the size that images are brought to, and decoding them in batches."""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from arcore.events import Binary, Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, SplitData, SplitStream
from pipeline.datasets.formats import image_files
from pipeline.datasets.formats.image_files import Frame, Side
from pipeline.datasets.options import refuse_unless
from pipeline.datasets.read_transforms import permute_rows
from pipeline.datasets.user.user_data import (
    PART_BYTES,
    UserDataset,
    UserOptions,
    rows_of_a_part,
    split_by_seed,
)

BATCH = 512  # images that are decoded at a time
SMALL = 128  # pixels of a side up to which images are kept as they are
Item = tuple[str, Path | bytes, int | None]  # what an error calls an image, the image, its class
Read = Callable[[np.ndarray], Iterator[Item]]  # the images that are wanted, (N,) bool, in order


@dataclass(frozen=True, kw_only=True)
class FrameOptions(Frame, UserOptions):
    """Options of the user's images; two levels make the event binary.

    Train and test are named, by folders or by patterns of files, or all three splits, or none; what
    is not named is drawn by `split_seed`, valid alone out of train.
    """

    named_by: ClassVar[str]
    height: Side = 32
    width: Side = 32

    @property
    def names(self) -> dict[str, list[str]]:
        """What of the dataset each split is."""
        return {split: getattr(self, f"{split}_{self.named_by}") for split in SPLITS}

    def check_names(self, dataset: str) -> None:
        """Refuse splits of which train or test alone is named."""
        given = [split for split in SPLITS if self.names[split]]
        refuse_unless(
            given in ([], ["train", "test"], list(SPLITS)),
            dataset,
            ", ".join(f"{split}_{self.named_by}" for split in SPLITS),
            f"{self.named_by} for all, for train and test, or for none",
            self.names,
        )

    def fill(self, splits: np.ndarray, what: str) -> None:
        """Draw the splits that are not named, in place: the number of the split of each item."""
        if not self.names["train"]:
            cut = split_by_seed(len(splits), self, self.path, what)
            for number, split in enumerate(SPLITS):
                splits[cut[split]] = number
        elif not self.names["valid"]:
            (train,) = np.nonzero(splits == 0)
            count, share = len(train), self.valid_fraction
            num_valid = round(share * count)
            if min(num_valid, count - num_valid) < 1:
                raise UserError(
                    f"{self.path}: expected {what} of train_{self.named_by} for each of train and "
                    f"valid, got {count} {what} with valid_fraction {share}"
                )
            splits[train[permute_rows(count, self.split_seed)[:num_valid]]] = 1

    def split_words(self, what: str) -> str:
        """Say how rows are split, for a provenance."""
        if not self.names["train"]:
            return super().split_words(what)
        drawn = f", {self.valid_fraction} of those of train for valid, chosen by seed "
        drawn = "" if self.names["valid"] else f"{drawn}{self.split_seed}"
        return f"split by {self.named_by}{drawn}"


@dataclass(frozen=True, kw_only=True)
class ImageSource(UserDataset):
    """Images of the user's, which are decoded batch by batch, several at a time."""

    @abc.abstractmethod
    def find(self) -> tuple[np.ndarray, Read]:
        """Find the images, which stay where they are: the split of each, and what reads them."""

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Assign images to splits; they are decoded when a stream is read."""
        (splits, read), streams = self.find(), {}
        for number, split in enumerate(SPLITS):
            is_wanted = splits == number
            count = int(is_wanted.sum())
            streams[split] = SplitStream(count, self._rows(split, read(is_wanted), count))
        return streams

    def _rows(self, split: str, images: Iterator[Item], count: int) -> Iterator[SplitData]:
        assert isinstance(self.options, FrameOptions)
        read = partial(_decode, self.options)
        bar = tqdm(
            total=count, desc=f"decoding {split}", unit="image", leave=False, delay=0.5,
            disable=None,
        )  # fmt: skip
        rows = rows_of_a_part(BATCH, self.event.size)
        with bar:
            for batch in _batches(images, rows):
                where, contents, classes = zip(*batch, strict=True)
                labels = None if self.num_classes is None else np.array(classes, np.int64)
                yield SplitData(image_files.decode(read, [contents, where]), labels)
                bar.update(len(batch))


def _batches(images: Iterable[Item], rows: int) -> Iterator[list[Item]]:
    """Yield so many images at a time, fewer where their files would take too much memory."""
    batch, held = list[Item](), 0
    for item in images:
        batch.append(item)
        held += len(item[1]) if isinstance(item[1], bytes) else 0
        if len(batch) == rows or held > PART_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _decode(frame: Frame, image: Path | bytes, where: str) -> np.ndarray:
    return image_files.read_rows(_source(image), frame, where)


def _source(image: Path | bytes) -> image_files.Source:
    return image if isinstance(image, Path) else BytesIO(image)


def guess_frame(images: Iterable[Path | bytes], given: Mapping[str, object]) -> dict[str, object]:
    """Suggest options by the headers of some images: colours, and the size that all have."""
    guessed: dict[str, object] = {}
    sizes, gray = set(), True
    for one in images:
        try:
            with Image.open(_source(one), formats=image_files.FORMATS) as image:
                sizes.add((image.height, image.width))
                gray = gray and image.mode in image_files.GRAY
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
            continue  # decoding says what is wrong
    guessed["gray"] = gray
    same = next(iter(sizes)) if len(sizes) == 1 else None
    if same and max(same) <= SMALL:
        guessed |= {"height": same[0], "width": same[1]}
    elif "fit" not in given:
        guessed["fit"] = "crop"
    return guessed


def build_images(
    kind: type[ImageSource], options: FrameOptions, name: str, what: str, num_classes: int
) -> ImageSource:
    """Build a dataset of images, or of other things (`what`) that are split."""
    options.check_names(name)
    levels, fitted = options.num_levels, "cropped" if options.fit == "crop" else "resized"
    return kind(
        name=name,
        event=Binary(options.shape) if levels == 2 else Levels(levels, options.shape),
        unit="nats" if levels == 2 else "bits_per_dim",
        provenance=(
            f"{'gray' if options.gray else 'RGB'} images of {Path(options.path).name}, {fitted} to "
            f"{options.height} x {options.width}, {levels} levels; {options.split_words(what)}"
        ),
        options=options,
        num_classes=num_classes or None,
    )
