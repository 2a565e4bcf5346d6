"""What kinds of images share: the size that images are brought to, and decoding them in batches."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from arcore.events import Binary, Levels
from pipeline.datasets.base import SPLITS, SplitData, SplitStream
from pipeline.datasets.formats import image_files
from pipeline.datasets.formats.image_files import Fit, Frame
from pipeline.datasets.options import between
from pipeline.datasets.user.user_data import (
    PART_BYTES,
    NamedSplits,
    UserDataset,
    UserOptions,
    rows_of_a_part,
)

BATCH = 512  # images that are decoded at a time
SMALL = 128  # pixels of a side up to which images are kept as they are
Side = Annotated[int, between(1, 1024)]
Item = tuple[str, Path | bytes, int | None]  # what an error calls an image, the image, its class
Read = Callable[[np.ndarray], Iterator[Item]]  # the images that are wanted, (N,) bool, in order


@dataclass(frozen=True, kw_only=True)
class FrameOptions(UserOptions):
    """Options of the user's images.

    Arguments:
        height, width: pixels of a row.
        gray: whether colours are left out.
        num_levels: of a pixel, 2 to 256; 2 makes the event binary.
        fit: how an image of another size is brought to this one.
    """

    named_by: ClassVar[str]
    height: Side = 32
    width: Side = 32
    gray: bool = False
    num_levels: Annotated[int, between(2, 256)] = 256
    fit: Fit = "resize"

    @property
    def frame(self) -> Frame:
        """How an image becomes a row."""
        return Frame(self.height, self.width, self.gray, self.num_levels, self.fit)

    @property
    def named(self) -> NamedSplits:
        """What of the dataset each split is."""
        names = dataclasses.asdict(self)
        of_split = {split: names[f"{split}_{self.named_by}"] for split in SPLITS}
        return NamedSplits(of_split, self.named_by)


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
        read = partial(_decode, self.options.frame)
        bar = tqdm(
            total=count, desc=f"decoding {split}", unit="image", leave=False, delay=0.5,
            disable=None,
        )  # fmt: skip
        rows = rows_of_a_part(BATCH, self.event.size)
        with image_files.decoder() as decode, bar:
            for batch in _batches(images, rows):
                where, contents, classes = zip(*batch, strict=True)
                labels = None if self.num_classes is None else np.array(classes, np.int64)
                yield SplitData(decode(read, [contents, where]), labels)
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
    options.named.check(name)
    shape, levels, frame = options.frame.shape, options.num_levels, options.frame
    fitted = f"{'cropped' if frame.fit == 'crop' else 'resized'} to {frame.height} x {frame.width}"
    return kind(
        name=name,
        event=Binary(shape) if levels == 2 else Levels(levels, shape),
        unit="nats" if levels == 2 else "bits_per_dim",
        provenance=(
            f"{'gray' if frame.gray else 'RGB'} images of {Path(options.path).name}, {fitted}, "
            f"{levels} levels; {options.named.words(options, what)}"
        ),
        options=options,
        num_classes=num_classes or None,
    )
