"""A folder of the user's images: PNG, JPEG and WebP files, in any sub-folders."""

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
from pipeline.datasets.options import expected, parse_options, refuse_unless
from pipeline.datasets.user.image_source import (
    FrameOptions,
    ImageSource,
    Item,
    Read,
    build_images,
    guess_frame,
)
from pipeline.datasets.user.user_data import (
    existing,
    is_inside,
    listed,
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
    """Options of a dataset of kind image_folder.

    Arguments:
        classes: the folders that files are in, below `path` or the folder of their split; [] for
            none.
        train_folders, valid_folders, test_folders: folders below `path` that are a split, of all
            three, of train and test, or of none; what is missing is drawn by `split_seed`, valid
            alone from the files of train.
    """

    named_by = "folders"
    classes: Classes = field(default_factory=list)
    train_folders: Folders = field(default_factory=list)
    valid_folders: Folders = field(default_factory=list)
    test_folders: Folders = field(default_factory=list)


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

    def find(self) -> tuple[np.ndarray, Read]:
        """Find the files, and refuse one that is in no folder of a class."""
        options = self.options
        folder = existing(self.name, "path", options.path, folder=True)
        found = find_images(folder, options.names)
        numbers = {name: number for number, name in enumerate(options.classes)}
        for image in found if numbers else ():
            if image.folder not in numbers:
                raise UserError(
                    f"{image.path}: expected it in a folder of option classes "
                    f"({listed(options.classes)}), got {image.folder!r}"
                )
        splits = np.array([image.split for image in found])
        options.fill(splits, "files")

        def read(is_wanted: np.ndarray) -> Iterator[Item]:
            for image in itertools.compress(found, is_wanted):
                yield str(image.path), image.path, numbers.get(image.folder)

        return splits, read


def find_images(folder: Path, splits: Mapping[str, list[str]]) -> list[FoundImage]:
    """List the images of a folder, split by split where folders below it are named as splits."""
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
    """Suggest options by the names of folders and the headers of some images."""
    folder = paths.root() / path
    refuse_unless(folder.is_dir(), name, "path", "an existing folder", path)
    below = [child.name for child in folder.iterdir() if visible_files(child, SUFFIXES)]
    usual = {
        option: [name for name in below if name.lower() in names]
        for option, names in _USUAL_FOLDERS.items()
    }
    guessed = whole_split(usual, given)
    named = parse_options(ImageOptions, name, {**guessed, **given})
    found = find_images(folder, named.names)
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
    return build_images(ImageFolder, options, name, "files", len(options.classes))
