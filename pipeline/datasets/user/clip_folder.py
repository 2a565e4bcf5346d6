"""A folder of the user's clips: sub-folders of numbered images, or animated GIFs.

Clips are cut into pieces of one number of frames, which are the rows. All pieces of a clip are in
one split. What a longer clip has beyond whole pieces, and clips that are shorter, are left out.
"""

import itertools
import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.threads import on_all_cores
from pipeline.datasets.base import Dataset
from pipeline.datasets.formats import image_files
from pipeline.datasets.formats.image_files import Frame
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.options import between, parse_options
from pipeline.datasets.user.image_folder import (
    ImageOptions,
    find_images,
    folder_facts,
    guess_classes,
    guess_splits,
    numbers_of_classes,
)
from pipeline.datasets.user.image_source import (
    Content,
    ImageSource,
    Item,
    Piece,
    Read,
    build_images,
    guess_frame,
)
from pipeline.datasets.user.user_data import Fact, existing, option_values, span

USUAL_FRAMES = 10


@dataclass(frozen=True, kw_only=True)
class ClipOptions(ImageOptions):
    """Options of a dataset of kind clip_folder; folders of classes hold the clips.

    Arguments:
        frames: of a row.
    """

    frames: Annotated[int, between(2, 1000)] = USUAL_FRAMES


@dataclass(frozen=True)
class FoundClip:
    """A clip: its images in order or its animation, the folder it is in, its split's number."""

    where: Path
    files: tuple[Path, ...]
    length: int
    folder: str
    split: int

    def pieces(self, frames: int) -> Iterator[Piece]:
        """Cut the clip into pieces of so many frames."""
        for first in range(0, self.length - frames + 1, frames):
            if len(self.files) == 1:
                yield Piece(self.files, first)
            else:
                yield Piece(self.files[first : first + frames])


@dataclass(frozen=True, kw_only=True)
class ClipFolder(ImageSource):
    """A folder of clips, split by clip."""

    options: ClipOptions
    rows_named = "clips"

    @property
    def reader(self) -> Callable[[Content, str], np.ndarray]:
        """What decodes the frames of a piece."""
        return partial(_decode, self.options, self.options.frames)

    def find(self) -> tuple[np.ndarray, Read]:
        """Find the clips that are long enough, and cut them."""
        options, frames = self.options, self.options.frames
        folder = existing(self.name, "path", options.path, folder=True)
        clips = [clip for clip in find_clips(folder, options) if clip.length >= frames]
        numbers = numbers_of_classes(options, {clip.where: clip.folder for clip in clips})
        splits = np.array([clip.split for clip in clips], np.int64)
        options.fill(splits, f"clips of {frames} frames or more")
        counts = [clip.length // frames for clip in clips]

        def read(is_wanted: np.ndarray) -> Iterator[Item]:
            pieces = ((clip, piece) for clip in clips for piece in clip.pieces(frames))
            for clip, piece in itertools.compress(pieces, is_wanted):
                yield str(clip.where), piece, numbers.get(clip.folder)

        return splits.repeat(counts), read

    def facts(self) -> list[Fact]:
        """Tell how clips are cut, too."""
        options = self.options
        folder = paths.root() / options.path
        clips = find_clips(folder, options)
        lengths = [clip.length for clip in clips]
        used = [length for length in lengths if length >= options.frames]
        ends = sum(length % options.frames for length in used)
        kind = "GIFs" if _suffixes(folder) == image_files.ANIMATED_SUFFIXES else "folders of images"
        told = f"{len(clips)} {kind} of {span(lengths)} frames, cut into pieces of {options.frames}"
        told += f"; left out at ends: {ends} frames" * (ends > 0)
        told += f"; left out as too short: {len(clips) - len(used)}" * (len(used) < len(clips))
        return [
            Fact("clips", told, option_values(options, "frames")),
            *super().facts(),
            *folder_facts(options, _suffixes(folder)),
        ]


def find_clips(folder: Path, options: ImageOptions) -> list[FoundClip]:
    """List the clips of a folder: its animations, or else the folders that have images."""
    suffixes = _suffixes(folder)
    found = find_images(folder, options.names, options.omit, suffixes)
    if suffixes == image_files.ANIMATED_SUFFIXES:
        lengths = on_all_cores(lambda image: image_files.count_frames(image.path), found)
        return [
            FoundClip(image.path, (image.path,), length, image.folder, image.split)
            for image, length in zip(found, lengths, strict=True)
        ]
    clips = []
    for where, images in itertools.groupby(found, lambda image: image.path.parent):
        several = list(images)
        files = tuple(sorted((image.path for image in several), key=_number))
        above = PurePosixPath(several[0].folder).parent.as_posix()
        clips.append(FoundClip(where, files, len(files), above, several[0].split))
    return clips


def _suffixes(folder: Path) -> tuple[str, ...]:
    animated = visible_files(folder, image_files.ANIMATED_SUFFIXES)
    return image_files.ANIMATED_SUFFIXES if animated else image_files.SUFFIXES


def _number(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts names by the numbers in them: 2.png before 10.png."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _decode(frame: Frame, frames: int, piece: Content, where: str) -> np.ndarray:
    """Decode a piece into a row, (1, frames, channels, height, width)."""
    assert isinstance(piece, Piece)
    if len(piece.files) == 1:
        return image_files.read_frames(piece.files[0], piece.first, frames, frame, where)[None]
    return np.concatenate([image_files.read_rows(one, frame, one) for one in piece.files])[None]


def guess(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    """Suggest options by the names of folders, the lengths of clips and their first frames."""
    folder = paths.root() / path
    guessed = guess_splits(name, path, given, _suffixes(folder))
    clips = find_clips(folder, parse_options(ClipOptions, name, {**guessed, **given}))
    if "classes" not in given:
        guessed["classes"] = guess_classes(folder, {clip.folder for clip in clips})
    usual = int(statistics.median(clip.length for clip in clips))
    if usual < 2:
        raise UserError(f"{folder}: expected clips of two or more frames, got {usual} in most")
    guessed["frames"] = min(USUAL_FRAMES, usual)
    return guessed | guess_frame([Piece(clip.files) for clip in clips], given)


def build(settings: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind clip_folder; its files are read when they are decoded."""
    name = str(settings["name"])
    options = parse_options(ClipOptions, name, settings)
    count = len(options.classes)
    return build_images(ClipFolder, options, name, "clips", count, options.frames)
