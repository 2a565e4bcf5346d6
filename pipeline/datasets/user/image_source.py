"""What kinds of images share: the size that images are brought to, and decoding them in batches."""

import abc
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from arcore.events import Binary, Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, SplitData, SplitStream, Unit
from pipeline.datasets.formats import image_files
from pipeline.datasets.formats.image_files import Frame, Side
from pipeline.datasets.options import refuse_unless
from pipeline.datasets.read_transforms import permute_rows
from pipeline.datasets.user.user_data import (
    PART_BYTES,
    Fact,
    UserDataset,
    UserOptions,
    option_values,
    readable_bytes,
    rows_of_a_part,
    span,
    split_by_seed,
)

BATCH = 512  # images that are decoded at a time
_READ = (*image_files.FORMATS, *image_files.ANIMATED)
_ALPHA = ("LA", "RGBA", "PA")
_FEW_SIZES = 3
SMALL = 128  # pixels of a side up to which images are kept as they are
HEADERS = 20_000  # images whose headers are read


@dataclass(frozen=True)
class Piece:
    """The frames of a clip: images, or an animation from its frame `first` on."""

    files: tuple[Path, ...]
    first: int = 0


Content = Path | bytes | Piece
Item = tuple[str, Content, int | None]  # what an error calls an image, the image, its class
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
        """Refuse splits that name train or test alone."""
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

    most_headers: ClassVar[int] = HEADERS
    rows_named: ClassVar[str] = "images"

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

    @property
    def frame(self) -> FrameOptions:
        """The options, with the size that images are brought to."""
        assert isinstance(self.options, FrameOptions)
        return self.options

    @property
    def reader(self) -> Callable[[Content, str], np.ndarray]:
        """What decodes an image, given what an error calls it, into a row; it can be pickled."""
        return partial(_decode, self.frame)

    @property
    def split_options(self) -> tuple[str, ...]:
        """The options that name splits, or draw them."""
        named = tuple(f"{split}_{self.frame.named_by}" for split in SPLITS)
        given = tuple(name for name in named if getattr(self.options, name))
        if not given:
            return super().split_options
        return given if named[1] in given else (*given, "valid_fraction", "split_seed")

    def facts(self) -> list[Fact]:
        """Tell sizes and colours by the headers of the images."""
        (splits, read), frame = self.find(), self.frame
        items = itertools.islice(read(np.ones(len(splits), bool)), self.most_headers)
        found = Headers.of(content for _, content, _ in items)
        fitted = "cropped" if frame.fit == "crop" else "resized"
        sizes = found.sizes_in_words()
        if list(found.sizes) != [(frame.height, frame.width)]:
            sizes += f"; {fitted} to {frame.height} x {frame.width}"
        colours = f"{found.gray} gray, {found.total - found.gray} in colours"
        colours += f", {found.transparent} with transparency (laid on white)" * (
            found.transparent > 0
        )
        colours += f"; taken as {'gray' if frame.gray else 'RGB'}"
        some = f"; of the first {found.total:,} of {len(splits):,}" * (found.total < len(splits))
        stored = f"{found.num_files:,} images, {readable_bytes(found.num_bytes)}{some}"
        return [
            Fact("files", stored),
            Fact("sizes", sizes, option_values(frame, "height", "width", "fit")),
            Fact("colours", colours, option_values(frame, "gray")),
        ]

    def _rows(self, split: str, images: Iterator[Item], count: int) -> Iterator[SplitData]:
        read = self.reader
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


def _decode(frame: Frame, image: Content, where: str) -> np.ndarray:
    assert not isinstance(image, Piece)
    return image_files.read_rows(_source(image), frame, where)


def _source(image: Path | bytes) -> image_files.Source:
    return image if isinstance(image, Path) else BytesIO(image)


@dataclass(frozen=True)
class Headers:
    """What the headers of images tell.

    Arguments:
        sizes: how many images, or clips, have a height and width.
        gray, transparent: how many of them are so.
        num_files, num_bytes: what they are stored in.
    """

    sizes: Counter[tuple[int, int]]
    gray: int
    transparent: int
    num_files: int
    num_bytes: int

    @classmethod
    def of(cls, images: Iterable[Content]) -> "Headers":
        """Read headers; of a clip, its first frame's."""
        sizes, gray, transparent = Counter[tuple[int, int]](), 0, 0
        files, packed = set[Path](), list[int]()
        for one in images:
            content = one.files[0] if isinstance(one, Piece) else one
            try:
                with Image.open(_source(content), formats=_READ) as image:
                    sizes[image.height, image.width] += 1
                    gray += image_files.is_gray(image)
                    transparent += image.mode in _ALPHA or "transparency" in image.info
            except image_files.FLAWS:
                continue  # decoding says what is wrong
            if isinstance(one, bytes):
                packed.append(len(one))
            else:
                files |= set(one.files if isinstance(one, Piece) else (one,))
        stored = sum(packed) + sum(file.stat().st_size for file in files)
        return cls(sizes, gray, transparent, len(packed) + len(files), stored)

    @property
    def total(self) -> int:
        """Images, or clips, whose header can be read."""
        return self.sizes.total()

    def sizes_in_words(self) -> str:
        """Return the sizes, height first."""
        if len(self.sizes) <= _FEW_SIZES:
            return ", ".join(f"{h} x {w} ({count})" for (h, w), count in self.sizes.most_common())
        heights, widths = zip(*self.sizes, strict=True)
        return f"{span(heights)} x {span(widths)}, {len(self.sizes)} different"


def guess_frame(images: Iterable[Content], given: Mapping[str, object]) -> dict[str, object]:
    """Suggest options by the headers of some images: colours, and the size that all have."""
    found = Headers.of(images)
    guessed: dict[str, object] = {"gray": found.gray == found.total}
    same = next(iter(found.sizes)) if len(found.sizes) == 1 else None
    if same and max(same) <= SMALL:
        guessed |= {"height": same[0], "width": same[1]}
    elif "fit" not in given:
        guessed["fit"] = "crop"
    return guessed


def build_images(
    kind: type[ImageSource],
    options: FrameOptions,
    name: str,
    what: str,
    num_classes: int,
    frames: int | None = None,
) -> ImageSource:
    """Build a dataset of images, or of clips of `frames`; `what` is split."""
    options.check_names(name)
    levels, fitted = options.num_levels, "cropped" if options.fit == "crop" else "resized"
    shape = options.shape if frames is None else (frames, *options.shape)
    of_bits: Unit = "nats" if frames is None else "nats_per_frame"
    rows = kind.rows_named if frames is None else f"clips of {frames} frames"
    return kind(
        name=name,
        event=Binary(shape) if levels == 2 else Levels(levels, shape),
        unit=of_bits if levels == 2 else "bits_per_dim",
        provenance=(
            f"{'gray' if options.gray else 'RGB'} {rows} of {Path(options.path).name}, {fitted} to "
            f"{options.height} x {options.width}, {levels} levels; {options.split_words(what)}"
        ),
        options=options,
        num_classes=num_classes or None,
    )
