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
    fit: crop                     # resize or crop
    classes: [rose, tulip]        # the folders that files are in, below `path` or the folder of
                                  # their split; [] for none
    train_folders: []             # all three, train and test, or none: folders below `path` that
    valid_folders: []             # are a split; what is missing is drawn by `split_seed`, valid
    test_folders: []              # alone from the files of train
    valid_fraction: 0.1
    test_fraction: 0.1
    split_seed: 0
    rows_per_shard: 16384

Files stay where they are: `fetch` copies nothing, and `dvc repro -f preprocess@<name>` reads them
again. Training needs the shards alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.datasets.base import SPLITS, Dataset
from pipeline.datasets.formats.image_files import SUFFIXES
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.options import expected, parse_options
from pipeline.datasets.user.image_source import (
    FoundImages,
    FrameOptions,
    ImageSource,
    Item,
    guess_frame,
)
from pipeline.datasets.user.user_data import (
    NamedSplits,
    existing,
    is_inside,
    listed,
    refuse_unless,
    whole_split,
)

_PROBED = 200  # headers that are read for a guess
_USUAL_FOLDERS = {
    "train_folders": ("train", "training"),
    "valid_folders": ("valid", "validation", "val"),
    "test_folders": ("test", "testing"),
}
_INSIDE = expected(
    "relative paths of folders without '..'", lambda names: all(map(is_inside, names))
)
_DIFFERENT = expected("different folders", lambda names: len(set(names)) == len(names))
Folders = Annotated[list[str], _INSIDE, _DIFFERENT]
Classes = Annotated[Folders, expected("two or more, or none", lambda names: len(names) != 1)]


@dataclass(frozen=True, kw_only=True)
class ImageOptions(FrameOptions):
    """Options of a dataset of kind image_folder; see the module's example."""

    classes: Classes = field(default_factory=list)
    train_folders: Folders = field(default_factory=list)
    valid_folders: Folders = field(default_factory=list)
    test_folders: Folders = field(default_factory=list)

    @property
    def named(self) -> NamedSplits:
        """The folders of each split."""
        folders = (self.train_folders, self.valid_folders, self.test_folders)
        return NamedSplits(dict(zip(SPLITS, folders, strict=True)), "folders")


@dataclass(frozen=True)
class FoundImage:
    """An image: its file, the folder below its root that it is in, the number of its split."""

    path: Path
    folder: str
    split: int


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ImageSource):
    """A folder of images, split by file."""

    options: ImageOptions

    def find(self) -> FoundImages:
        """Find the files, and refuse one that is in no folder of a class."""
        options = self.options
        folder = existing(self.name, "path", options.path, folder=True)
        found = find_images(folder, options.named.names)
        numbers = {name: number for number, name in enumerate(options.classes)}
        for image in found if numbers else ():
            if image.folder not in numbers:
                raise UserError(
                    f"{image.path}: expected it in a folder of option classes "
                    f"({listed(options.classes)}), got {image.folder!r}"
                )
        splits = np.array([image.split for image in found])
        options.named.fill(splits, options, options.path, "files")

        def read(is_wanted: np.ndarray) -> Iterator[Item]:
            for image in itertools.compress(found, is_wanted):
                yield str(image.path), image.path, numbers.get(image.folder)

        return FoundImages(splits, read)


def find_images(folder: Path, splits: Mapping[str, list[str]]) -> list[FoundImage]:
    """List the images of a folder, split by split where folders below it are named as splits.

    Raises:
        UserError: for a folder without images, or one that is in two splits.
    """
    named = [(number, name) for number, split in enumerate(SPLITS) for name in splits[split]]
    found: list[FoundImage] = []
    for number, name in named or [(0, ".")]:
        files = visible_files(folder / name, SUFFIXES)
        if not files:
            raise UserError(f"{folder / name}: expected PNG, JPEG or WebP images, found none")
        found += [
            FoundImage(path, path.parent.relative_to(folder / name).as_posix(), number)
            for path in files
        ]
    for image in found:
        fits = image.folder.encode(errors="ignore").decode() == image.folder
        require(fits, str(folder), "names of folders in UTF-8", image.folder)
    if len({image.path for image in found}) < len(found):
        raise UserError(f"{folder}: expected folders apart for the splits, got {dict(splits)}")
    return sorted(found, key=lambda image: (image.split, image.path))


def guess(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    """Suggest options by the names of folders and the headers of some images.

    Raises:
        UserError: for a folder without images, or with some next to folders of classes.
    """
    folder = paths.root() / path
    refuse_unless(folder.is_dir(), name, "path", "an existing folder", path)
    below = [child.name for child in folder.iterdir() if visible_files(child, SUFFIXES)]
    usual = {
        option: [name for name in below if name.lower() in names]
        for option, names in _USUAL_FOLDERS.items()
    }
    guessed = whole_split(folder, usual, given)
    splits = {
        split: list(map(str, given.get(f"{split}_folders", guessed.get(f"{split}_folders", []))))  # type: ignore[call-overload]
        for split in SPLITS
    }
    found = find_images(folder, splits)
    if "classes" not in given:
        folders = sorted({image.folder for image in found})
        if "." in folders and len(folders) > 1:
            raise UserError(f"{folder}: expected all images in folders of classes, or none")
        guessed["classes"] = folders if len(folders) > 1 else []
    probed = [image.path for image in found[:: max(1, len(found) // _PROBED)]]
    return guessed | guess_frame(probed, given)


def build(settings: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind image_folder; its files are read when they are decoded."""
    name = str(settings["name"])
    options = parse_options(ImageOptions, name, settings)
    options.named.check(name)
    return ImageFolder(
        name=name,
        event=options.event,
        unit=options.unit,
        provenance=options.described("files"),
        options=options,
        num_classes=len(options.classes) or None,
    )
