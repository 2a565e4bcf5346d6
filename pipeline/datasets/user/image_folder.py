"""A folder of the user's images: PNG, JPEG and WebP files, in any sub-folders."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm

from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.core.threads import on_all_cores
from pipeline.datasets.base import SPLITS, Dataset
from pipeline.datasets.formats.image_files import ANIMATED_SUFFIXES, SUFFIXES, find_flaw
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.options import expected, parse_options, refuse_unless
from pipeline.datasets.user.image_source import (
    HEADERS,
    FrameOptions,
    ImageSource,
    Item,
    Read,
    build_images,
    guess_frame,
)
from pipeline.datasets.user.user_data import (
    Fact,
    existing,
    is_inside,
    listed,
    option_values,
    other_files,
    whole_split,
)

_USUAL_FOLDERS = {
    "train_folders": ("train", "training"),
    "valid_folders": ("valid", "validation", "val"),
    "test_folders": ("test", "testing"),
}
_KINDS = {SUFFIXES: "PNG, JPEG or WebP images", ANIMATED_SUFFIXES: "GIF images"}
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
        omit: files, or folders, below `path` that are left out.
    """

    named_by = "folders"
    classes: Classes = field(default_factory=list)
    train_folders: Folders = field(default_factory=list)
    valid_folders: Folders = field(default_factory=list)
    test_folders: Folders = field(default_factory=list)
    omit: Folders = field(default_factory=list)


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
        found = find_images(folder, options.names, options.omit)
        numbers = numbers_of_classes(options, {image.path: image.folder for image in found})
        splits = np.array([image.split for image in found])
        options.fill(splits, "files")

        def read(is_wanted: np.ndarray) -> Iterator[Item]:
            for image in itertools.compress(found, is_wanted):
                yield str(image.path), image.path, numbers.get(image.folder)

        return splits, read

    def facts(self) -> list[Fact]:
        """Tell classes too, and which files are left out."""
        return [*super().facts(), *folder_facts(self.options, SUFFIXES)]


def numbers_of_classes(options: ImageOptions, folders: Mapping[Path, str]) -> dict[str, int]:
    """Return the number of each class, and refuse files that are in no folder of one."""
    numbers = {name: number for number, name in enumerate(options.classes)}
    for path, folder in folders.items() if numbers else ():
        if folder not in numbers:
            raise UserError(
                f"{path}: expected it in a folder of option classes "
                f"({listed(options.classes)}), got {folder!r}"
            )
    return numbers


def folder_facts(options: ImageOptions, suffixes: Collection[str]) -> list[Fact]:
    """Tell the classes of a folder, and which of its files are left out for which reason."""
    folder, classes = paths.root() / options.path, options.classes
    told = f"{len(classes)}, by folder: {listed(classes)}" if classes else "none"
    facts = [Fact("classes", told, option_values(options, "classes"))]
    flawed: dict[str, list[str]] = {}
    for name in options.omit:
        reason = find_flaw(folder / name) if (folder / name).is_file() else None
        flawed.setdefault(reason or "by omit", []).append(name)
    reasons = [f"{len(names)} {reason} ({listed(names, 3)})" for reason, names in flawed.items()]
    if other := other_files(folder, suffixes):
        reasons.append(other)
    if reasons:
        facts.append(Fact("left out", "; ".join(reasons), option_values(options, "omit")))
    return facts


def find_images(
    folder: Path,
    splits: Mapping[str, list[str]],
    omit: Collection[str] = (),
    suffixes: tuple[str, ...] = SUFFIXES,
) -> list[FoundImage]:
    """List the images of a folder, split by split where folders below it are named as splits."""
    left = {folder / name for name in omit}
    named = [(number, name) for number, split in enumerate(SPLITS) for name in splits[split]]
    found: list[FoundImage] = []
    for number, name in named or [(0, ".")]:
        every = visible_files(folder / name, suffixes)
        files = [path for path in every if left.isdisjoint((path, *path.parents))]
        if not files:
            animated = suffixes == SUFFIXES and visible_files(folder / name, ANIMATED_SUFFIXES)
            hint = "; GIFs are clips (--clips)" * bool(animated)
            raise UserError(f"{folder / name}: expected {_KINDS[suffixes]}, found none{hint}")
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
    """Suggest options by the names of folders, and by decoding images in a quick way."""
    folder = paths.root() / path
    guessed = guess_splits(name, path, given)
    named = parse_options(ImageOptions, name, {**guessed, **given})
    found = find_images(folder, named.names, named.omit)
    if "omit" not in given:
        flawed = {image.path for image in _damaged(found)}
        found = [image for image in found if image.path not in flawed]
        require(bool(found), str(folder), "images that are whole and undamaged", "none")
        guessed["omit"] = [path.relative_to(folder).as_posix() for path in sorted(flawed)]
    if "classes" not in given:
        guessed["classes"] = guess_classes(folder, {image.folder for image in found})
    probed = [image.path for image in found[:: -(-len(found) // HEADERS)]]
    return guessed | guess_frame(probed, given)


def guess_splits(
    name: str, path: str, given: Mapping[str, object], suffixes: Collection[str] = SUFFIXES
) -> dict[str, object]:
    """Suggest the folders that are splits, by their names."""
    folder = paths.root() / path
    refuse_unless(folder.is_dir(), name, "path", "an existing folder", path)
    below = [child.name for child in folder.iterdir() if visible_files(child, suffixes)]
    usual = {
        option: [name for name in below if name.lower() in names]
        for option, names in _USUAL_FOLDERS.items()
    }
    return whole_split(usual, given)


def guess_classes(folder: Path, names: set[str]) -> list[str]:
    """Suggest classes by the folders that rows are in: two or more, or none."""
    if "." in names and len(names) > 1:
        raise UserError(f"{folder}: expected all files in folders of classes, or none")
    return sorted(names) if len(names) > 1 else []


def _damaged(found: list[FoundImage]) -> list[FoundImage]:
    """Return the images that cannot be decoded; of very many, what `HEADERS` tries meet."""
    tried = found[:: -(-len(found) // HEADERS)]
    bar = tqdm(tried, desc="checking", unit="image", leave=False, delay=0.5, disable=None)
    flaws = on_all_cores(lambda image: find_flaw(image.path), bar, most=None)
    return [image for image, flaw in zip(tried, flaws, strict=True) if flaw]


def build(settings: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind image_folder; its files are read when they are decoded."""
    name = str(settings["name"])
    options = parse_options(ImageOptions, name, settings)
    return build_images(ImageFolder, options, name, "files", len(options.classes))
