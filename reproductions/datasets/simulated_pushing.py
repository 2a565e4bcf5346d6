"""A simulated arm that pushes objects, with actions and states: in place of robotic pushing.

The protocol is as for `robotic_pushing`, with a second test set, `novel`, of objects that are in
no other split: pybullet's whose names end in 0. A clip is a function of (seed, split, its
number), see `pushing_simulator`. A process for each core makes `PART_CLIPS` at a time.
"""

import platform
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import Dataset, SplitData, joined
from pipeline.datasets.clips.robotic_pushing import CONTEXT_FRAMES, NUM_FRAMES, SIDE, PushingClip
from pipeline.datasets.options import Options, between, parse_options
from reproductions.datasets.pushing_simulator import MISSING, Simulator
from reproductions.datasets.stand_ins import check_content, installed_version

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
    """The clips, made when they are decoded."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Make the clips and compare them with those on record, if these numbers of clips are."""
        options = self.options
        assert isinstance(options, SimulatedOptions)
        if installed_version("pybullet") is None:
            raise UserError(f"{NAME}: {MISSING}")
        parts = [
            rows_of(clips, options.num_levels) for clips in _render(options.seed, options.parts)
        ]
        expected = CONTENT_SHA256.get((options.seed, options.num_levels, *options.rows.values()))
        if expected is not None and not options.any_rendering:
            by = (
                f"pybullet {installed_version('pybullet')}, numpy {np.__version__}, "
                f"{platform.machine()}, {' '.join(platform.libc_ver())}: another processor "
                "or C library may round the physics otherwise, and then the kept results are of "
                "other clips; to go on with these: any_rendering=true"
            )
            check_content(NAME, parts, expected, by)
        places = [split for split, _, _ in options.parts]
        return {
            split: joined(
                [part for part, place in zip(parts, places, strict=True) if place == split]
            )
            for split in options.rows
        }


def render_part(seed: int, split: str, first: int, stop: int) -> np.ndarray:
    """Make clips [first, stop) of a split, (stop - first,) of `CLIP`."""
    simulator = Simulator()
    names = NOVEL_OBJECTS if split == NOVEL else SEEN_OBJECTS
    clips = np.empty(stop - first, CLIP)
    for row, number in enumerate(range(first, stop)):
        made = simulator.clip((seed, PARTS_OF.index(split), number), names)
        clips[row] = made.frames, made.actions, made.states
    simulator.close()
    return clips


def _render(seed: int, parts: list[tuple[str, int, int]]) -> list[np.ndarray]:
    """Make parts by a process for each core."""
    jobs = (delayed(render_part)(seed, *part) for part in parts)
    made = Parallel(n_jobs=-1, return_as="generator")(jobs)
    bar = tqdm(made, desc="simulating", total=len(parts), unit="part", leave=False, disable=None)
    try:
        return list(bar)
    except BrokenProcessPool:
        raise UserError(
            f"{NAME}: a process that rendered clips died; run the stage again"
        ) from None


def rows_of(clips: np.ndarray, num_levels: int) -> SplitData:
    """Turn clips into rows of levels with the vectors of each frame, (n, 20, 4)."""
    levels = (clips["frames"].astype(np.uint16) * num_levels >> 8).astype(np.uint8)
    vectors = [PushingClip(one["frames"], one["actions"], one["states"]).vectors() for one in clips]
    return SplitData(levels, np.stack(vectors))


def build(settings: Mapping[str, object]) -> Dataset:
    """Build the dataset simulated_pushing."""
    options = parse_options(SimulatedOptions, NAME, settings)
    return SimulatedPushing(
        name=NAME,
        event=Levels(options.num_levels, (NUM_FRAMES, 3, SIDE, SIDE)),
        unit="nats_per_frame",
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
