"""Images packed into few files: Parquet as Hugging Face `datasets` has it, tars of WebDataset.

Files are read once for each split, in batches, so that they may be larger than memory.
"""

import fnmatch
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.datasets.base import SPLITS, Dataset
from pipeline.datasets.formats import packed_images
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
from pipeline.datasets.user.user_data import Fact, option_values, whole_split

_PROBED = 200  # images whose headers are read for a guess
_LABEL_NAMES = ("label", "labels", "class")
Patterns = Annotated[list[str], expected("patterns of files", all)]


@dataclass(frozen=True, kw_only=True)
class ImageShardOptions(FrameOptions):
    """Options of a dataset of kind image_shards, whose path is a folder or a file.

    Arguments:
        image: of Parquet: the column of images.
        label: of Parquet a column of integers, of tars cls; "" for none.
        num_classes: 0 without label.
        train_files, valid_files, test_files: patterns below `path`: of all three splits, of train
            and test (valid is drawn from train then), or of none (images are split by
            `split_seed`).
    """

    named_by = "files"
    image: str = "image"
    label: str = ""
    num_classes: Annotated[int, expected("at most 1000000", (10**6).__ge__)] = 0
    train_files: Patterns = field(default_factory=list)
    valid_files: Patterns = field(default_factory=list)
    test_files: Patterns = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ImageShards(ImageSource):
    """Images in Parquet files or tars, split by file or by image."""

    options: ImageShardOptions
    most_headers = _PROBED

    def find(self) -> tuple[np.ndarray, Read]:
        """Count the images of the files that are of some split."""
        options, files = self.options, self._files()
        columns = (options.image, options.label)
        counts = [packed_images.count_images(path, *columns) for path in files]
        splits = np.repeat(list(files.values()), counts)
        options.fill(splits, "images")

        def read(is_wanted: np.ndarray) -> Iterator[Item]:
            here = np.split(is_wanted, np.cumsum(counts)[:-1])
            for path, wanted in zip(files, here, strict=True):
                samples = packed_images.read_samples(path, *columns) if wanted.any() else iter(())
                for sample in itertools.compress(samples, wanted):
                    where, _, label = sample
                    fits = label is None or 0 <= label < options.num_classes
                    require(fits, where, f"a label in [0, {options.num_classes})", label)
                    yield sample

        return splits, read

    def facts(self) -> list[Fact]:
        """Tell classes too."""
        options = self.options
        told = f"{options.num_classes}, by {options.label}" if options.label else "none"
        return [
            *super().facts(),
            Fact("classes", told, option_values(options, "label", "num_classes")),
        ]

    def _files(self) -> dict[Path, int]:
        """The files in order, each with the number of its split, 0 where splits have no names."""
        folder, named = paths.root() / self.options.path, self.options.names
        every = find(self.name, self.options.path)
        if not any(named.values()):
            return dict.fromkeys(every, 0)
        chosen: dict[Path, int] = {}
        for number, split in enumerate(SPLITS):
            for pattern in named[split]:
                fitting = [path for path in every if _fits(path, folder, pattern)]
                if not fitting:
                    raise UserError(
                        f"{folder}: expected files like {pattern!r} of {split}_files, found none"
                    )
                for path in fitting:
                    if chosen.setdefault(path, number) != number:
                        raise UserError(f"{path}: expected it in one split, got two that name it")
        return {path: chosen[path] for path in every if path in chosen}


def _fits(path: Path, folder: Path, pattern: str) -> bool:
    name = path.name if path == folder else path.relative_to(folder).as_posix()
    return fnmatch.fnmatchcase(name, pattern)


def find(name: str, given: str) -> list[Path]:
    """List the files of a dataset: all Parquet files or all tars."""
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
    return bool(packed_images.find_files(path)) and not visible_files(path, SUFFIXES)


def guess_patterns(path: Path, files: list[Path]) -> dict[str, list[str]]:
    """Suggest patterns of the files of each split: names, or folders, that begin with its name.

    Example:
        >>> files = [Path("d", name) for name in ("test-0.tar", "train-0.tar", "train-1.tar")]
        >>> guess_patterns(Path("d"), files)
        {'train_files': ['train*'], 'valid_files': [], 'test_files': ['test*']}
    """
    found = {}
    for split, word in (("train", "train"), ("valid", "val"), ("test", "test")):
        patterns = (f"{word}*", f"*/{word}*")
        fitting = (one for one in patterns if any(_fits(file, path, one) for file in files))
        found[f"{split}_files"] = list(fitting)[:1]
    return found


def guess(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    """Suggest options by the files' names, columns or members, labels, and some images."""
    files, folder = find(name, path), paths.root() / path
    guessed = whole_split(guess_patterns(folder, files), given)
    if packed_images.is_parquet(files[0]):
        images, integers = packed_images.image_columns(files[0])
        fits = bool(images) or "image" in given
        require(fits, str(files[0]), "a column of images (struct with bytes)", images)
        guessed["image"] = images[0] if images else ""
        guessed["label"] = next((one for one in integers if one in _LABEL_NAMES), "")
    else:
        guessed["label"] = "cls" if packed_images.has_classes(files[0]) else ""
    image, label = (str(given.get(key, guessed.get(key, ""))) for key in ("image", "label"))
    if label and "num_classes" not in given:
        most = max(packed_images.highest_label(file, image, label) for file in files)
        guessed["num_classes"] = most + 1
        if most < 1 and "label" not in given:  # one class is none
            guessed |= {"label": "", "num_classes": 0}
            label = ""
    samples = itertools.islice(packed_images.read_samples(files[0], image, label), _PROBED)
    probed = [content for _, content, _ in samples]
    require(bool(probed), str(files[0]), "images", "none")
    return guessed | guess_frame(probed, given)


def build(settings: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind image_shards; its files are read when they are decoded."""
    name = str(settings["name"])
    options = parse_options(ImageShardOptions, name, settings)
    count = options.num_classes
    fits = count >= 2 if options.label else count == 0
    refuse_unless(fits, name, "num_classes", ">= 2 with label, else 0", count)
    return build_images(ImageShards, options, name, "images", count)
