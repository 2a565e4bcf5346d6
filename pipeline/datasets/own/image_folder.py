"""A folder of images of one's own: PNG, JPEG and WebP files, in any sub-folders.

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
`dvc repro -f preprocess@<name>` reads them anew. Training needs the shards alone.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.file_hash import sha256_of
from pipeline.datasets.base import SPLITS, Dataset, SplitData, SplitStream
from pipeline.datasets.decoding_parts import PartsFolder, decode_files, rows_of_a_part
from pipeline.datasets.formats import image_files
from pipeline.datasets.formats.image_files import Frame
from pipeline.datasets.own.image_options import FrameOptions, ImageCheck, check_frame
from pipeline.datasets.own.own_data import (
    existing,
    inside,
    left_aside,
    listed,
    parse_own,
    refuse_unless,
    split_by_seed,
    split_words,
    valid_by_seed,
    valid_words,
)

PART_ROWS = 2048
BEGINNING = 1 << 12  # bytes, which tell most files apart


@dataclass(frozen=True, kw_only=True)
class ImageOptions(FrameOptions):
    """Options of a dataset of kind image_folder; see the module's example."""

    shorter_side: int = 0
    classes: list = field(default_factory=list)  # type: ignore[type-arg]
    train_folders: list = field(default_factory=list)  # type: ignore[type-arg]
    valid_folders: list = field(default_factory=list)  # type: ignore[type-arg]
    test_folders: list = field(default_factory=list)  # type: ignore[type-arg]

    @property
    def frame(self) -> Frame:
        """How an image becomes rows."""
        return replace(super().frame, shorter_side=self.shorter_side)

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each class."""
        return {name: number for number, name in enumerate(self.classes)}

    @functools.cached_property
    def by_path(self) -> bool:
        """Whether classes are told apart by their paths."""
        return any("/" in name for name in self.classes)

    @property
    def folders(self) -> dict[str, list[str]]:
        """The folders of each split."""
        named = (self.train_folders, self.valid_folders, self.test_folders)
        return dict(zip(SPLITS, named, strict=True))


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """A folder of images, split by file."""

    images: ImageOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Read headers, then decode by several threads as parts are asked for.

        A part that a killed run decoded is not decoded again. `raw_dir` is not read.
        """
        files, counts = self._files(), dict[str, list[int]]()
        stats = hashlib.sha256()  # of one file after the other, since there may be millions
        for split in SPLITS:
            counts[split] = []
            for path in files[split]:
                counts[split].append(self.images.frame.count(*self._measure(path)))
                found = path.stat()
                stats.update(
                    f"{path} {found.st_size} {found.st_mtime_ns}\n".encode(
                        "utf-8", "surrogateescape"
                    )
                )
        kept = PartsFolder(self.name, [asdict(self.images), stats.hexdigest()])
        return {
            split: SplitStream(
                sum(counts[split]), self._rows(split, files[split], counts[split], kept)
            )
            for split in SPLITS
        }

    def examine(self) -> list[str]:
        """Read all headers and bytes, decode some files, and say what was found."""
        files, frame = self._files(), self.images.frame
        every = [path for split in SPLITS for path in files[split]]
        with ImageCheck(frame, len(every)) as check:
            sizes = {path: check.look_at(path, path) for path in every}
        lines = [f"{len(every)} images in {self.images.path}", *check.told(), self.images.told]
        for split in SPLITS:
            rows = sum(frame.count(*sizes[path]) for path in files[split])
            lines.append(f"{split}: {len(files[split])} files, {rows} rows")
        if self.images.classes:
            per_class = Counter(map(self._class, every))
            lines.append(
                "classes: " + listed([f"{c} ({per_class[c]})" for c in self.images.classes])
            )
        same = _duplicates(files)
        if same:
            lines.append(
                f"beware: {len(same)} files of valid or test have the very content of a file of "
                f"another split: {listed(same, 3)}"
            )
        folder = existing(self.name, "path", self.images.path, folder=True)
        return [*lines, *left_aside(folder, set(every))]

    def _measure(self, path: Path) -> tuple[int, int]:
        return image_files.measure(path, self.images.frame, path)

    def _files(self) -> dict[str, list[Path]]:
        """The files of each split, in order.

        Raises:
            UserError: if the folder or a listed one has no image, a file lies in no listed folder
                of several splits, or in a folder that is no class.
        """
        options = self.images
        folder = existing(self.name, "path", options.path, folder=True)
        if any(options.folders.values()):
            files = {split: _below(folder, split, options.folders[split]) for split in SPLITS}
            if not options.valid_folders:
                train = files["train"]
                valid = set(valid_by_seed(len(train), options, folder, "files").tolist())
                files["valid"] = [path for n, path in enumerate(train) if n in valid]
                files["train"] = [path for n, path in enumerate(train) if n not in valid]
        else:
            every = image_files.find_images(folder)
            if not every:
                raise UserError(f"{folder}: expected PNG, JPEG or WebP images, found none")
            cut = split_by_seed(len(every), options, folder, "files")
            files = {split: [every[number] for number in cut[split]] for split in SPLITS}
        for path in (path for split in SPLITS for path in files[split] if options.classes):
            if (name := self._class(path)) not in options.numbers:
                raise UserError(
                    f"{path}: expected it in a folder of option classes "
                    f"({listed(options.classes)}), got {name!r}"
                )
        return files

    def _class(self, path: Path) -> str:
        """The name of a file's folder, or its path where that is how classes are told apart."""
        options = self.images
        if not options.by_path:
            return path.parent.name
        return _below_its_root(path.parent, _roots(paths.root() / options.path, options.folders))

    def _rows(
        self, split: str, files: list[Path], counts: list[int], kept: PartsFolder
    ) -> Iterator[SplitData]:
        numbers = self.images.numbers
        read = partial(_read, self.images.frame)
        at_once = rows_of_a_part(PART_ROWS, self.event.size)
        for part, rows in decode_files(files, counts, read, kept, split, at_once):
            labels = None
            if numbers:
                own = [numbers[self._class(path)] for path in files[part]]
                labels = np.repeat(np.array(own, np.int64), counts[part])
            yield SplitData(rows, labels)


def _read(frame: Frame, path: Path) -> np.ndarray:
    return image_files.read_rows(path, frame, path)


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
        UserError: for images that lie beside such folders.
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
    options = parse_own(ImageOptions, config)
    check_frame(name, options)
    least = ">= 0, and 0 but for tiles"
    fits = options.shorter_side >= 0 and (options.fit == "tiles" or not options.shorter_side)
    refuse_unless(fits, name, "shorter_side", least, options.shorter_side)
    lists = {f"{split}_folders": folders for split, folders in options.folders.items()}
    for key, names in ({"classes": options.classes} | lists).items():
        texts = all(isinstance(one, str) and inside(one) for one in names)
        refuse_unless(texts, name, key, "relative paths of folders without '..'", names)
        refuse_unless(len(set(names)) == len(names), name, key, "different folders", names)
    refuse_unless(
        len(options.classes) != 1, name, "classes", "two or more, or none", options.classes
    )
    given = [split for split in SPLITS if options.folders[split]]
    refuse_unless(
        given in ([], ["train", "test"], list(SPLITS)), name,
        "train_folders, valid_folders, test_folders",
        "folders for all, for train and test, or for none", options.folders,
    )  # fmt: skip
    _refuse_overlap(name, options)
    return ImageFolder(
        name=name,
        family=name,
        event=options.event,
        unit=options.unit,
        files=(),
        provenance=_provenance(options),
        options=options,
        num_classes=len(options.classes) or None,
        images=options,
    )


def _refuse_overlap(name: str, options: ImageOptions) -> None:
    """Refuse a folder that is in another split too, or below one."""
    folders = [(s, Path(one)) for s in SPLITS for one in options.folders[s]]
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
    split = split_words(options, "files")
    if options.train_folders:
        split = "split by folders"
        split += "" if options.valid_folders else f", {valid_words(options)}"
    return options.described(how[options.fit], split)


KINDS = {"image_folder": build}
