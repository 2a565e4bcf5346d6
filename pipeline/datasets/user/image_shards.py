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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitStream
from pipeline.datasets.decoding_parts import PartsFolder, rows_of_a_part
from pipeline.datasets.formats import image_files, packed_images
from pipeline.datasets.formats.packed_images import MAX_CLASSES, Packed
from pipeline.datasets.options import expected, parse_options
from pipeline.datasets.user import image_source
from pipeline.datasets.user.findings import columns_aside, left_aside
from pipeline.datasets.user.image_check import ImageCheck
from pipeline.datasets.user.image_source import FrameOptions, ImageSource, Undecoded
from pipeline.datasets.user.user_data import NamedSplits, refuse_unless

CHECKED = 64  # images in memory at a time that are checked
NOWHERE = 255  # instead of the number of a split
USUAL_NAMES = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
Patterns = Annotated[list[str], expected("patterns of files", all)]


@dataclass(frozen=True, kw_only=True)
class ImageShardOptions(FrameOptions):
    """Options of a dataset of kind image_shards; see the module's example."""

    image: str = "image"
    label: str = ""
    num_classes: Annotated[int, expected(f"at most {MAX_CLASSES}", MAX_CLASSES.__ge__)] = 0
    train_files: Patterns = field(default_factory=list)
    valid_files: Patterns = field(default_factory=list)
    test_files: Patterns = field(default_factory=list)

    @property
    def named(self) -> NamedSplits:
        """The files of each split, as patterns."""
        patterns = (self.train_files, self.valid_files, self.test_files)
        return NamedSplits(dict(zip(SPLITS, patterns, strict=True)), "files")


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
class ImageShards(ImageSource):
    """Images in Parquet files or tars, split by file or by image."""

    options: ImageShardOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Count images, then read and decode them in batches; `raw_dir` is not read."""
        layout = self._layout()
        stats = [(str(path), *_size_and_time(path)) for path in layout.files]
        kept = PartsFolder(self.name, [asdict(self.options), stats])
        streams = {}
        for split in SPLITS:
            count = layout.rows(split)
            rows = self.decode_batches(split, count, self._batches(split, layout), kept)
            streams[split] = SplitStream(count, rows)
        return streams

    def examine(self) -> list[str]:
        """Read all images and labels, decode some, and say what was found."""
        options, layout = self.options, self._layout()
        with ImageCheck(options.frame, sum(layout.counts)) as check:
            for path in layout.files:
                for packed in self._read(path, CHECKED):
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
        options, named = self.options, self.options.named
        folder, every = paths.root() / options.path, find(self.name, options.path)
        chosen = dict.fromkeys(every, NOWHERE)
        for number, split in enumerate(SPLITS):
            for pattern in named.names[split]:
                fitting = [path for path in every if _fits(path, folder, pattern)]
                if not fitting:
                    raise UserError(
                        f"{folder}: expected files like {pattern!r} of {split}_files, found none"
                    )
                for path in fitting:
                    if chosen[path] not in (NOWHERE, number):
                        raise UserError(f"{path}: expected it in one split, got two that name it")
                    chosen[path] = number
        if any(named.names.values()):
            every = [path for path in every if chosen[path] != NOWHERE]
        counts = [packed_images.count_images(path, options.image, options.label) for path in every]
        splits = np.repeat(np.array([chosen[path] for path in every], np.uint8), counts)
        named.fill(splits, options, options.path, "images")
        return Layout(every, counts, splits)

    def _batches(self, split: str, layout: Layout) -> Iterator[Undecoded]:
        """Read the images of a split in batches."""
        number, first = SPLITS.index(split), 0
        for place, (path, count) in enumerate(zip(layout.files, layout.counts, strict=True)):
            here = layout.splits[first : first + count] == number
            first += count
            if not here.any():
                continue
            seen = 0
            at_once = rows_of_a_part(image_source.BATCH, self.event.size)
            for part, packed in enumerate(self._read(path, at_once)):
                wanted = np.flatnonzero(here[seen : seen + len(packed.images)])
                seen += len(packed.images)
                if len(wanted):
                    some, name = packed.take(wanted), f"{split}-{place:05d}-{part:05d}"
                    yield Undecoded(name, some.images, some.where, self._labels(some))

    def _read(self, path: Path, at_once: int) -> Iterator[Packed]:
        return packed_images.read_batches(path, self.options.image, self.options.label, at_once)

    def _labels(self, packed: Packed) -> np.ndarray | None:
        if packed.labels is None:
            return None
        classes = self.options.num_classes
        for where, label in zip(packed.where, packed.labels.tolist(), strict=True):
            if not 0 <= label < classes:
                raise UserError(f"{where}: expected a label in [0, {classes}), got {label}")
        return packed.labels


def _size_and_time(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _fits(path: Path, folder: Path, pattern: str) -> bool:
    name = path.name if path == folder else path.relative_to(folder).as_posix()
    return fnmatch.fnmatchcase(name, pattern)


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
    """Whether a path is such a file, or a folder that has some and no other image."""
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
    options = parse_options(ImageShardOptions, name, config)
    refuse_unless(options.fit != "tiles", name, "fit", "'resize' or 'crop'", options.fit)
    count = options.num_classes
    fits = count >= 2 if options.label else count == 0
    refuse_unless(fits, name, "num_classes", ">= 2 with label, else 0", count)
    options.named.check(name)
    how = f"{options.fit}{'d' if options.fit == 'resize' else 'ped'}"
    how += f" to {options.height} x {options.width}"
    return ImageShards(
        name=name,
        event=options.event,
        unit=options.unit,
        provenance=options.described(how, options.named.words(options, "images")),
        options=options,
        num_classes=options.num_classes or None,
    )
