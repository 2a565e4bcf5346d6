"""Images packed into few files: Parquet as Hugging Face `datasets` has it, tars of WebDataset.

Such a dataset is a file `pipeline/conf/dataset/<name>.yaml`, which
`python -m stages.add_dataset <name> --images <folder or file>` writes:

    name: birds
    kind: image_shards
    path: /data/birds             # .parquet or .tar files at any depth, or one of them
    height: 32
    width: 32
    gray: false
    num_levels: 256               # 2 to 256; 2 makes the event binary
    fit: crop                     # resize or crop
    image: image                  # of Parquet: the column of images; its struct has their bytes
    label: label                  # of Parquet a column of integers, of tars cls; "" for none
    num_classes: 0                # 0 without label
    train_files: []               # patterns below `path`: of all three splits, of train and test
    valid_files: []               # (valid is drawn from train then), or of none (images are split
    test_files: []                # by `split_seed`)
    valid_fraction: 0.1
    test_fraction: 0.1
    split_seed: 0
    max_megapixels: 64
    rows_per_shard: 16384

An image is a row. Files are read once for each split, in batches, so that they may be larger than
memory. They stay where they are, as those of kind image_folder do.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitData, SplitStream
from pipeline.datasets.decoding_parts import PartsFolder, decoder, rows_of_a_part
from pipeline.datasets.formats import image_files, packed_images
from pipeline.datasets.formats.image_files import Frame
from pipeline.datasets.formats.packed_images import Packed
from pipeline.datasets.own.image_options import FrameOptions, ImageCheck, check_frame
from pipeline.datasets.own.own_data import (
    columns_aside,
    left_aside,
    parse_own,
    refuse_unless,
    split_by_seed,
    split_words,
    valid_by_seed,
    valid_words,
)

BATCH, CHECKED = 2048, 64  # images in memory at a time, to be decoded and to be checked
NOWHERE = 255  # instead of the number of a split
USUAL_NAMES = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}


@dataclass(frozen=True, kw_only=True)
class ImageShardOptions(FrameOptions):
    """Options of a dataset of kind image_shards; see the module's example."""

    image: str = "image"
    label: str = ""
    num_classes: int = 0
    train_files: list = field(default_factory=list)  # type: ignore[type-arg]
    valid_files: list = field(default_factory=list)  # type: ignore[type-arg]
    test_files: list = field(default_factory=list)  # type: ignore[type-arg]

    @property
    def patterns(self) -> dict[str, list[str]]:
        """The files of each split."""
        named = (self.train_files, self.valid_files, self.test_files)
        return dict(zip(SPLITS, named, strict=True))


@dataclass(frozen=True)
class Layout:
    """Which image is in which split.

    Attributes:
        files: with images, in order.
        counts: images of each.
        splits: of each image of all files, the number of its split in SPLITS, uint8.
    """

    files: list[Path]
    counts: list[int]
    splits: np.ndarray

    def rows(self, split: str) -> int:
        """Images of a split."""
        return int(np.count_nonzero(self.splits == SPLITS.index(split)))


@dataclass(frozen=True, kw_only=True)
class ImageShards(Dataset):
    """Images in Parquet files or tars, split by file or by image."""

    packed: ImageShardOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Count images, then read and decode them in batches; `raw_dir` is not read.

        A batch that a killed run decoded is not decoded again.
        """
        layout = self._layout()
        stats = [(str(path), *_size_and_time(path)) for path in layout.files]
        kept = PartsFolder(self.name, [asdict(self.packed), stats])
        return {s: SplitStream(layout.rows(s), self._rows(s, layout, kept)) for s in SPLITS}

    def examine(self) -> list[str]:
        """Read all images and labels, decode some, and say what was found."""
        options, layout = self.packed, self._layout()
        with ImageCheck(options.frame, sum(layout.counts)) as check:
            for path in layout.files:
                for packed in packed_images.read_batches(
                    path, options.image, options.label, CHECKED
                ):
                    self._labels(packed)
                    for content, where in zip(packed.images, packed.where, strict=True):
                        check.look_at(BytesIO(content), where)
        is_parquet = packed_images.is_parquet(layout.files[0])
        kinds = "Parquet files" if is_parquet else "tars"
        lines = [f"{sum(layout.counts)} images in {len(layout.files)} {kinds} of {options.path}"]
        lines += [f"{split}: {layout.rows(split)} rows" for split in SPLITS]
        lines += [*check.told(), options.told]
        if options.label:
            lines.append(f"classes: {options.num_classes}, by {options.label}")
        if is_parquet:
            used = (options.image, options.label)
            lines += columns_aside(packed_images.other_columns(layout.files[0], used))
        folder = paths.root() / options.path
        return [*lines, *left_aside(folder, set(layout.files))] if folder.is_dir() else lines

    def _layout(self) -> Layout:
        """Count the images of each file and say which split each is in.

        Raises:
            UserError: without files, for patterns that fit none or one file twice, or for a file
                that is damaged or of another layout.
        """
        options = self.packed
        folder = paths.root() / options.path
        every = find(self.name, options.path)
        chosen = dict.fromkeys(every, NOWHERE)
        for number, split in enumerate(SPLITS):
            for path in every:
                if not _fits(path, folder, options.patterns[split]):
                    continue
                if chosen[path] != NOWHERE:
                    raise UserError(f"{path}: expected it in one split, got two that name it")
                chosen[path] = number
            for pattern in options.patterns[split]:
                if not any(_fits(path, folder, [pattern]) for path in every):
                    raise UserError(
                        f"{folder}: expected files like {pattern!r} of {split}_files, found none"
                    )
        if any(options.patterns.values()):
            every = [path for path in every if chosen[path] != NOWHERE]
        counts = [packed_images.count_images(path, options.image, options.label) for path in every]
        splits = np.repeat(np.array([chosen[path] for path in every], np.uint8), counts)
        return Layout(every, counts, self._filled(splits))

    def _filled(self, splits: np.ndarray) -> np.ndarray:
        """Draw the splits that no pattern names: all of them, or valid out of train."""
        options = self.packed
        if not options.train_files:
            cut = split_by_seed(len(splits), options, options.path, "images")
            for number, split in enumerate(SPLITS):
                splits[cut[split]] = number
        elif not options.valid_files:
            (train,) = np.nonzero(splits == 0)
            valid = valid_by_seed(len(train), options, options.path, "images of train_files")
            splits[train[valid]] = 1
        return splits

    def _rows(self, split: str, layout: Layout, kept: PartsFolder) -> Iterator[SplitData]:
        frame, total = self.packed.frame, layout.rows(split)
        bar = tqdm(
            total=total,
            desc=f"decoding {split}",
            unit="image",
            leave=False,
            delay=0.5,
            disable=None,
        )
        read = partial(_decoded, frame)
        with decoder() as decode, bar:
            for name, packed in self._batches(split, layout):
                columns: list[Sequence[object]] = [packed.images, packed.where]
                rows = kept.part(name, partial(decode, read, columns))
                bar.update(len(rows))
                yield SplitData(rows, self._labels(packed))

    def _batches(self, split: str, layout: Layout) -> Iterator[tuple[str, Packed]]:
        """Read the images of a split in batches, each with a name."""
        options, number, first = self.packed, SPLITS.index(split), 0
        for place, (path, count) in enumerate(zip(layout.files, layout.counts, strict=True)):
            here = layout.splits[first : first + count] == number
            first += count
            if not here.any():
                continue
            seen = 0
            at_once = rows_of_a_part(BATCH, self.event.size)
            batches = packed_images.read_batches(path, options.image, options.label, at_once)
            for part, packed in enumerate(batches):
                wanted = np.flatnonzero(here[seen : seen + len(packed.images)])
                seen += len(packed.images)
                if len(wanted):
                    yield f"{split}-{place:05d}-{part:05d}", packed.take(wanted)

    def _labels(self, packed: Packed) -> np.ndarray | None:
        if packed.labels is None:
            return None
        classes = self.packed.num_classes
        for where, label in zip(packed.where, packed.labels.tolist(), strict=True):
            if not 0 <= label < classes:
                raise UserError(f"{where}: expected a label in [0, {classes}), got {label}")
        return packed.labels


def _decoded(frame: Frame, content: bytes, where: str) -> np.ndarray:
    return image_files.read_rows(BytesIO(content), frame, where)


def _size_and_time(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _fits(path: Path, folder: Path, patterns: list[str]) -> bool:
    name = path.name if path == folder else path.relative_to(folder).as_posix()
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def find(name: str, given: str) -> list[Path]:
    """List the files of a dataset: all Parquet files or all tars.

    Raises:
        UserError: if there are none, or both.
    """
    path = paths.root() / given
    refuse_unless(bool(given) and path.exists(), name, "path", "an existing file or folder", given)
    files = packed_images.find_files(path)
    kinds = {packed_images.is_parquet(file) for file in files}
    if len(kinds) != 1:
        got = "both" if kinds else "none"
        raise UserError(f"{path}: expected Parquet files or tars with images, found {got}")
    return files


def is_packed(given: str) -> bool:
    """Whether a path is such a file, or a folder that has some and no image beside them."""
    path = paths.root() / given
    if not path.exists():
        return False
    return bool(packed_images.find_files(path)) and not (
        path.is_dir() and image_files.find_images(path)
    )


def guess_patterns(path: Path, files: list[Path]) -> dict[str, list[str]]:
    """Patterns of the files of each split, by their names, or else their folders.

    Example:
        >>> files = [Path("d", f"{name}-00000-of-00001.parquet") for name in ("test", "train")]
        >>> guess_patterns(Path("d"), files)["train_files"]
        ['train-00000-of-00001.parquet']
    """
    found: dict[str, list[str]] = {f"{split}_files": [] for split in SPLITS}
    for file in files if path not in files else ():
        inner = file.relative_to(path)
        for part in reversed(inner.parts):
            split = next((s for s in SPLITS if part.lower().startswith(USUAL_NAMES[s])), None)
            if split is not None:
                found[f"{split}_files"].append(inner.as_posix())
                break
    return {
        option: _shortened(names, [name for names in found.values() for name in names])
        for option, names in found.items()
    }


def _shortened(names: list[str], every: list[str]) -> list[str]:
    """Put one pattern in place of many names that begin with the same word, if no others do."""
    escaped = [glob.escape(name) for name in names]
    if len(names) < 3:
        return escaped
    stems = {name[: len(name) - len(name.lstrip("abcdefghijklmnopqrstuvwxyz/"))] for name in names}
    others = [name for name in every if name not in names]
    theirs = any(name.startswith(stem) for name in others for stem in stems)
    return sorted(f"{stem}*" for stem in stems) if all(stems) and not theirs else escaped


def build(config: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind image_shards; its files are looked at when they are decoded.

    Raises:
        UserError: for bad options.
    """
    name = str(config["name"])
    options = parse_own(ImageShardOptions, config)
    check_frame(name, options)
    refuse_unless(options.fit != "tiles", name, "fit", "'resize' or 'crop'", options.fit)
    count, most = options.num_classes, packed_images.MAX_CLASSES
    fits = count >= 2 if options.label else count == 0
    refuse_unless(fits, name, "num_classes", ">= 2 with label, else 0", count)
    refuse_unless(count <= most, name, "num_classes", f"at most {most}", count)
    for split, patterns in options.patterns.items():
        texts = all(isinstance(one, str) and one for one in patterns)
        refuse_unless(texts, name, f"{split}_files", "patterns of files", patterns)
    given = [split for split in SPLITS if options.patterns[split]]
    refuse_unless(
        given in ([], ["train", "test"], list(SPLITS)), name,
        "train_files, valid_files, test_files",
        "patterns for all, for train and test, or for none", options.patterns,
    )  # fmt: skip
    how = f"{options.fit}{'d' if options.fit == 'resize' else 'ped'}"
    how += f" to {options.height} x {options.width}"
    return ImageShards(
        name=name,
        family=name,
        event=options.event,
        unit=options.unit,
        files=(),
        provenance=options.described(how, _split_words(options)),
        options=options,
        num_classes=options.num_classes or None,
        packed=options,
    )


def _split_words(options: ImageShardOptions) -> str:
    if options.valid_files:
        return "split by files"
    if options.train_files:
        return f"split by files, {valid_words(options)}"
    return split_words(options, "images")


KINDS = {"image_shards": build}
