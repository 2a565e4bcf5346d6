"""A folder of the user's images: PNG, JPEG and WebP files, in any sub-folders.

Such a dataset is a file `pipeline/conf/dataset/<name>.yaml`, which
`python -m stages.add_dataset <name> --images <folder>` writes:

    name: flowers
    kind: image_folder
    path: /data/flowers           # searched at any depth; or relative to the project's root
    height: 32
    width: 32
    gray: false
    num_levels: 256               # 2 to 256; 2 makes the event binary
    fit: crop                     # resize, crop or tiles
    shorter_side: 0               # for tiles: the image is reduced to this first
    classes: [rose, tulip]        # names of the folders that files lie in, or, if one of them has
                                  # a "/", their paths below that of the split; [] for none
    train_folders: []             # all three, train and test, or none: folders below `path` that
    valid_folders: []             # are a split; what is missing is drawn by `split_seed`, valid
    test_folders: []              # alone from the files of train
    valid_fraction: 0.1
    test_fraction: 0.1
    split_seed: 0
    max_megapixels: 64
    rows_per_shard: 16384

All tiles of a file are in one split. Files stay where they are: `fetch` copies nothing, and
`dvc repro -f preprocess@<name>` reads them again. Training needs the shards alone.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from pipeline.core import paths
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitStream
from pipeline.datasets.decoding_parts import PartsFolder, cut_into_parts, rows_of_a_part
from pipeline.datasets.formats import image_files
from pipeline.datasets.formats.image_files import Frame
from pipeline.datasets.options import expected, parse_options
from pipeline.datasets.user import image_source
from pipeline.datasets.user.findings import left_aside, listed
from pipeline.datasets.user.image_check import ImageCheck
from pipeline.datasets.user.image_source import FrameOptions, ImageSource, Undecoded
from pipeline.datasets.user.user_data import NamedSplits, existing, is_inside, refuse_unless

BEGINNING = 1 << 12  # bytes, which tell most files apart
_INSIDE = expected(
    "relative paths of folders without '..'", lambda names: all(map(is_inside, names))
)
_DIFFERENT = expected("different folders", lambda names: len(set(names)) == len(names))
Folders = Annotated[list[str], _INSIDE, _DIFFERENT]
Classes = Annotated[Folders, expected("two or more, or none", lambda names: len(names) != 1)]


@dataclass(frozen=True, kw_only=True)
class ImageOptions(FrameOptions):
    """Options of a dataset of kind image_folder; see the module's example."""

    shorter_side: int = 0
    classes: Classes = field(default_factory=list)
    train_folders: Folders = field(default_factory=list)
    valid_folders: Folders = field(default_factory=list)
    test_folders: Folders = field(default_factory=list)

    @property
    def frame(self) -> Frame:
        """How an image becomes rows."""
        return replace(super().frame, shorter_side=self.shorter_side)

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each class."""
        return {name: number for number, name in enumerate(self.classes)}

    @property
    def named(self) -> NamedSplits:
        """The folders of each split."""
        folders = (self.train_folders, self.valid_folders, self.test_folders)
        return NamedSplits(dict(zip(SPLITS, folders, strict=True)), "folders")

    def class_of(self, path: Path) -> str:
        """The name of a file's folder, or its path where paths tell classes apart."""
        if not any("/" in name for name in self.classes):
            return path.parent.name
        return _below_its_root(path.parent, _roots(paths.root() / self.path, self.named.names))


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ImageSource):
    """A folder of images, split by file."""

    options: ImageOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Read headers, then decode by several threads as batches are asked for.

        `raw_dir` is not read.
        """
        files, counts = self._files(), dict[str, list[int]]()
        frame, stats = self.options.frame, hashlib.sha256()  # of files one by one: may be millions
        for split in SPLITS:
            counts[split] = []
            for path in files[split]:
                counts[split].append(frame.count(*image_files.measure(path, frame, path)))
                found = path.stat()
                line = f"{path} {found.st_size} {found.st_mtime_ns}\n"
                stats.update(line.encode("utf-8", "surrogateescape"))
        kept = PartsFolder(self.name, [asdict(self.options), stats.hexdigest()])
        streams = {}
        for split in SPLITS:
            batches = self._batches(split, files[split], counts[split])
            rows = self.decode_batches(split, len(files[split]), batches, kept)
            streams[split] = SplitStream(sum(counts[split]), rows)
        return streams

    def examine(self) -> list[str]:
        """Read all headers and bytes, decode some files, and say what was found."""
        options, files = self.options, self._files()
        every = [path for split in SPLITS for path in files[split]]
        with ImageCheck(options.frame, len(every)) as check:
            sizes = {path: check.look_at(path, path) for path in every}
        lines = [f"{len(every)} images in {options.path}", *check.told(), options.told]
        for split in SPLITS:
            rows = sum(options.frame.count(*sizes[path]) for path in files[split])
            lines.append(f"{split}: {len(files[split])} files, {rows} rows")
        if options.classes:
            per_class = Counter(map(options.class_of, every))
            lines.append("classes: " + listed([f"{c} ({per_class[c]})" for c in options.classes]))
        if same := _duplicates(files):
            lines.append(
                f"beware: {len(same)} files of valid or test have the very content of a file of "
                f"another split: {listed(same, 3)}"
            )
        folder = existing(self.name, "path", options.path, folder=True)
        return [*lines, *left_aside(folder, set(every))]

    def _files(self) -> dict[str, list[Path]]:
        """The files of each split, in order.

        Raises:
            UserError: if the folder or a listed one has no image, or a file is in a folder that is
                no class.
        """
        options, named = self.options, self.options.named
        folder = existing(self.name, "path", options.path, folder=True)
        if any(named.names.values()):
            files = {s: _below(folder, s, named.names[s]) for s in SPLITS}
        else:
            files = dict.fromkeys(SPLITS[1:], list[Path]())
            files["train"] = image_files.find_images(folder)
            if not files["train"]:
                raise UserError(f"{folder}: expected PNG, JPEG or WebP images, found none")
        every = [path for split in SPLITS for path in files[split]]
        splits = np.repeat(np.arange(len(SPLITS)), [len(files[split]) for split in SPLITS])
        named.fill(splits, options, folder, "files")
        for path in every if options.classes else ():
            if (name := options.class_of(path)) not in options.numbers:
                raise UserError(
                    f"{path}: expected it in a folder of option classes "
                    f"({listed(options.classes)}), got {name!r}"
                )
        return {
            split: [every[place] for place in np.flatnonzero(splits == number)]
            for number, split in enumerate(SPLITS)
        }

    def _batches(self, split: str, files: list[Path], counts: list[int]) -> Iterator[Undecoded]:
        numbers = self.options.numbers
        at_once = rows_of_a_part(image_source.BATCH, self.event.size)
        for number, part in enumerate(cut_into_parts(counts, at_once)):
            labels = None
            if numbers:
                classes = [numbers[self.options.class_of(path)] for path in files[part]]
                labels = np.repeat(np.array(classes, np.int64), counts[part])
            where = list(map(str, files[part]))
            yield Undecoded(f"{split}-{number:05d}", files[part], where, labels)


def _below(folder: Path, split: str, names: list[str]) -> list[Path]:
    found: set[Path] = set()
    for name in names:
        there = image_files.find_images(folder / name)
        if not there:
            raise UserError(f"{folder}: expected images in {name!r} of {split}_folders, found none")
        found.update(there)
    return sorted(found)


def _duplicates(files: Mapping[str, list[Path]]) -> list[str]:
    """Names of held-out files whose bytes are those of a file of an earlier split.

    Files are read whole only where one of another split begins alike and is as long.
    """
    alike: dict[tuple[int, bytes], list[tuple[str, Path]]] = {}
    for split in SPLITS:
        for path in files[split]:
            alike.setdefault(_beginning(path), []).append((split, path))
    same = []
    for group in alike.values():
        if len({split for split, _ in group}) == 1:
            continue
        seen: dict[str, str] = {}
        for split, path in group:  # in the order of the splits
            if seen.setdefault(sha256_of(path), split) != split:
                same.append(path.name)
    return same


def _beginning(path: Path) -> tuple[int, bytes]:
    """Return a file's length, and the hash of what it begins with."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.sha256(file.read(BEGINNING)).digest()


def find_classes(folder: Path, splits: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of the folders that images lie in, [] where there are none, or one alone.

    Where two folders in different places have one name, all are told by their paths.

    Arguments:
        folder: with images at any depth.
        splits: the lists of folders below it that are a split, in which images lie without being of
            a class, and below which paths begin; none where `folder` is so itself.

    Raises:
        UserError: for images that are next to such folders.
    """
    roots = _roots(folder, splits)
    parents = {path.parent for root in roots for path in image_files.find_images(root)}
    of_classes = parents - set(roots)
    if of_classes != parents and of_classes:
        raise UserError(f"{folder}: expected all images in folders of classes, or none")
    whole = {_below_its_root(parent, roots) for parent in of_classes}
    last = {parent.name for parent in of_classes}
    names = sorted(last if len(last) == len(whole) else whole)
    return names if len(names) > 1 else []


def _roots(folder: Path, splits: Mapping[str, Sequence[str]]) -> list[Path]:
    return [folder / name for names in splits.values() for name in names] or [folder]


def _below_its_root(path: Path, roots: Sequence[Path]) -> str:
    root = next(root for root in roots if path.is_relative_to(root))
    return path.relative_to(root).as_posix()


def build(config: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind image_folder; its files are looked at when they are decoded.

    Raises:
        UserError: for bad options.
    """
    name = str(config["name"])
    options = parse_options(ImageOptions, name, config)
    fits = options.shorter_side >= 0 and (options.fit == "tiles" or not options.shorter_side)
    wanted = ">= 0, and 0 but for tiles"
    refuse_unless(fits, name, "shorter_side", wanted, options.shorter_side)
    options.named.check(name)
    _refuse_overlap(name, options)
    return ImageFolder(
        name=name,
        event=options.event,
        unit=options.unit,
        provenance=_provenance(options),
        options=options,
        num_classes=len(options.classes) or None,
    )


def _refuse_overlap(name: str, options: ImageOptions) -> None:
    """Refuse a folder that is in another split too, or below one."""
    folders = [(s, Path(one)) for s in SPLITS for one in options.named.names[s]]
    for split, one in folders:
        for other, two in folders:
            if split != other and one.is_relative_to(two):
                raise UserError(
                    f"options {split}_folders and {other}_folders of dataset {name!r}: expected "
                    f"folders apart, got {str(one)!r} and {str(two)!r}"
                )


def _provenance(options: ImageOptions) -> str:
    size = f"{options.height} x {options.width}"
    tiles = f"tiles of {size}"
    if options.shorter_side:
        tiles += f" after reduction to a shorter side of {options.shorter_side}"
    how = {"resize": f"resized to {size}", "crop": f"cropped to {size}", "tiles": tiles}
    split = options.named.words(options, "files")
    return options.described(how[options.fit], split)
