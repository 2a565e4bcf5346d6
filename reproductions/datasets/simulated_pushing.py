"""A simulated arm that pushes objects, with actions and states: in place of robotic pushing.

The protocol is that of `robotic_pushing`: clips of 20 frames of 64 x 64 RGB, of which the first two
are given; each frame comes with the action before it and, while given, its state. There are two
test sets: `test`, of objects that training clips have too, and `novel`, of objects that are in no
other split. pybullet's own split of these objects is kept: names that end in 0 are novel.

A clip is a function of (seed, split, its number), see `pushing_simulator`. They are made by a
process a core, a part of `PART_CLIPS` at a time; parts wait in `data/decoded/`, so that a killed
run goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import Dataset, SplitData, SplitStream
from pipeline.datasets.clips.robotic_pushing import CONTEXT_FRAMES, NUM_FRAMES, SIDE, PushingClip
from pipeline.datasets.decoding_parts import PartsFolder, available_cores
from pipeline.datasets.options import Options, between, parse_options
from reproductions.datasets.pushing_simulator import MISSING, Simulator
from reproductions.datasets.recorded_content import check_content

NAME = "simulated_pushing"
NOVEL = "novel"
# In this order a split's number is part of its clips' seeds.
PARTS_OF = ("train", "valid", "test", NOVEL)
VECTOR = 2  # of an action and of a state: a place on the plane
SEEN_OBJECTS = tuple(f"{number:03d}" for number in range(100) if number % 10)
NOVEL_OBJECTS = tuple(f"{number:03d}" for number in range(0, 1000, 10))
PART_CLIPS = 25
CLIP = np.dtype(
    [
        ("frames", "u1", (NUM_FRAMES, 3, SIDE, SIDE)),
        ("actions", "<f4", (NUM_FRAMES, VECTOR)),
        ("states", "<f4", (NUM_FRAMES, VECTOR)),
    ]
)
# Of the rows of train, valid, test and novel, by (seed, levels, clips of each).
CONTENT_SHA256: dict[tuple[int, ...], str] = {
    (0, 16, 800, 40, 100, 100): "fb18b25a154ea17f52c7511805c2f86dce883eaac614b52294053b0314ce4fa7",
}


@dataclass(frozen=True, kw_only=True)
class SimulatedOptions(Options):
    """Options of simulated pushing.

    Arguments:
        seed: of all clips.
        num_levels: k in 2 to 256; a byte v becomes the level floor(v k / 256).
        train_rows, valid_rows, test_rows: clips; the novel test set has as many as the other.
        any_rendering: accept clips other than those on record, which another processor may render.
    """

    rows_per_shard: int = 256
    seed: Annotated[int, between(0, 2**32)] = 0
    num_levels: Annotated[int, between(2, 256)] = 16
    train_rows: Annotated[int, between(1, 10**6)] = 800
    valid_rows: Annotated[int, between(1, 10**6)] = 40
    test_rows: Annotated[int, between(1, 10**6)] = 100
    any_rendering: bool = False

    @property
    def rows(self) -> dict[str, int]:
        """Clips of each split."""
        counts = (self.train_rows, self.valid_rows, self.test_rows, self.test_rows)
        return dict(zip(PARTS_OF, counts, strict=True))

    @property
    def parts(self) -> list[tuple[str, int, int]]:
        """The parts in order: split, first clip, the one after the last."""
        return [
            (split, first, min(first + PART_CLIPS, count))
            for split, count in self.rows.items()
            for first in range(0, count, PART_CLIPS)
        ]


@dataclass(frozen=True, kw_only=True)
class SimulatedPushing(Dataset):
    """The clips, made where they have not been made yet, then streamed part by part."""

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Make the clips and check them; they are read again when the stream is."""
        options = self.options
        assert isinstance(options, SimulatedOptions)
        kept = parts_folder(options)
        _make(options, kept)
        _check(options, kept)
        return {
            split: SplitStream(rows, _stream(options, split, kept))
            for split, rows in options.rows.items()
        }


def parts_folder(options: SimulatedOptions) -> PartsFolder:
    """Return the folder where parts wait; another seed or pybullet has another."""
    return PartsFolder(NAME, [options.seed, _version(), CLIP.descr])


def part_name(split: str, first: int, stop: int) -> str:
    """The name of a part in that folder."""
    return f"{split}-{first:07d}-{stop:07d}"


def render_part(seed: int, split: str, first: int, stop: int) -> np.ndarray:
    """Make clips [first, stop) of a split, (stop - first,) of `CLIP`.

    Raises:
        UserError: without pybullet.
    """
    simulator = Simulator()
    names = NOVEL_OBJECTS if split == NOVEL else SEEN_OBJECTS
    clips = np.empty(stop - first, CLIP)
    for row, number in enumerate(range(first, stop)):
        made = simulator.clip((seed, PARTS_OF.index(split), number), names)
        clips[row] = made.frames, made.actions, made.states
    simulator.close()
    return clips


def _render_into(kept: PartsFolder, seed: int, split: str, first: int, stop: int) -> int:
    """Make a part in a process of its own; return how many clips it has."""
    return len(
        kept.part(part_name(split, first, stop), lambda: render_part(seed, split, first, stop))
    )


def _make(options: SimulatedOptions, kept: PartsFolder) -> None:
    """Make the parts that are missing by a process a core."""
    missing = [part for part in options.parts if not _is_made(kept, *part)]
    if not missing:
        return
    if _version() is None:
        raise UserError(f"{NAME}: {MISSING}")
    total = sum(options.rows.values())
    waiting = sum(stop - first for _, first, stop in missing)
    bar = tqdm(
        total=total,
        initial=total - waiting,
        desc="simulating",
        unit="clip",
        leave=False,
        disable=None,
    )
    workers = min(available_cores(), len(missing))
    context = multiprocessing.get_context("spawn")  # threads of this process do not come along
    with (
        bar,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool,
    ):
        jobs = [pool.submit(_render_into, kept, options.seed, *part) for part in missing]
        try:
            for job in as_completed(jobs):
                bar.update(job.result())
        except BrokenProcessPool:
            raise UserError(
                f"{NAME}: a process that rendered clips died; run the stage again, which goes on"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, in whatever way."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _is_made(kept: PartsFolder, split: str, first: int, stop: int) -> bool:
    return (kept.folder / f"{part_name(split, first, stop)}.npy").is_file()


def _read(kept: PartsFolder, split: str, first: int, stop: int) -> np.ndarray:
    """Read a part that was made."""
    path = kept.folder / f"{part_name(split, first, stop)}.npy"
    try:
        clips: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: missing or damaged, remove it: {error}") from None
    if clips.dtype != CLIP or clips.shape != (stop - first,):
        raise UserError(
            f"{path}: expected {stop - first} clips, got {clips.dtype} of shape {clips.shape}; "
            "remove it"
        )
    return clips


def _check(options: SimulatedOptions, kept: PartsFolder) -> None:
    """Compare the clips with those on record, if these numbers of clips are."""
    expected = CONTENT_SHA256.get((options.seed, options.num_levels, *options.rows.values()))
    if expected is None or options.any_rendering:
        return
    rows = (rows_of(_read(kept, *part), options.num_levels) for part in options.parts)
    by = (
        f"pybullet {_version()}, numpy {np.__version__}, {platform.machine()}, "
        f"{' '.join(platform.libc_ver())}: another processor or C library may round the physics "
        "otherwise, and then the kept results are of other clips; to go on with these, which need "
        "not be made again: any_rendering=true"
    )
    check_content(NAME, rows, expected, by)


def _stream(options: SimulatedOptions, split: str, kept: PartsFolder) -> Iterator[SplitData]:
    for part in options.parts:
        if part[0] == split:
            yield rows_of(_read(kept, *part), options.num_levels)


def rows_of(clips: np.ndarray, num_levels: int) -> SplitData:
    """Turn clips into rows of levels with the vectors of each frame, (n, 20, 4)."""
    levels = (clips["frames"].astype(np.uint16) * num_levels >> 8).astype(np.uint8)
    vectors = [PushingClip(one["frames"], one["actions"], one["states"]).vectors() for one in clips]
    return SplitData(levels, np.stack(vectors))


def _version() -> str | None:
    try:
        return metadata.version("pybullet")
    except metadata.PackageNotFoundError:
        return None


def build(config: Mapping[str, object]) -> Dataset:
    """Build the dataset simulated_pushing."""
    options = parse_options(SimulatedOptions, NAME, config)
    return SimulatedPushing(
        name=NAME,
        family=NAME,
        event=Levels(options.num_levels, (NUM_FRAMES, 3, SIDE, SIDE)),
        unit="nats_per_frame",
        files=(),
        provenance=(
            f"rendered by pybullet with seed {options.seed}: its KUKA LBR iiwa pushes three of "
            f"its random_urdfs; {SIDE} x {SIDE} RGB of {options.num_levels} levels; train, valid "
            f"and test of {len(SEEN_OBJECTS)} objects, novel of {len(NOVEL_OBJECTS)} others, whose "
            f"names end in 0; the first {CONTEXT_FRAMES} frames are given; each frame comes with "
            "the action before it and, while given, its state"
        ),
        options=options,
        context_frames=CONTEXT_FRAMES,
        condition_sequence=(NUM_FRAMES, 2 * VECTOR),
        extra_test_splits=(NOVEL,),
    )
