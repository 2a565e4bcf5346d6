"""Opening a split for training: which loader reads which events."""

from __future__ import annotations

from pathlib import Path

import arcore
from pipeline.core.errors import UserError
from pipeline.data.batches import BatchLoader
from pipeline.data.loading import SHUFFLE_ROWS, Loader
from pipeline.data.sound_loading import SoundLoader


def open_split(
    location: str | Path,
    split: str,
    model: arcore.AutoregressiveModel,
    *,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
    window: int | None = None,
    shuffle_rows: int = SHUFFLE_ROWS,
    first_rows: int | None = None,
) -> BatchLoader:
    """Open one rank's part of a split, for a model.

    A row on its way from shard to batch: its row group is read and checked against the manifest
    (`shard_reader.SplitReader`), it waits in memory in a window (`windows.Window`), is taken by the
    order that (seed, epoch) permutes, becomes an event by the split's read transform (bits of gray
    levels, noisy reals, clips of digits), drawn by (seed, epoch, row), and stands in a `Batch` with
    what the model is conditioned on.

    Arguments:
        location: folder of the shards, or a URI as in `pipeline.core.storage`.
        split: train, valid or test.
        model: whose event says how rows are cut, and whose condition what goes with them.
        rank: of this worker, in [0, world_size).
        world_size: number of workers.
        batch_size: rows (windows of sounds) of a training batch over all ranks; None for a split
            that is read in order alone.
        seed: of the shuffle and of what is drawn when read.
        window: samples of a training window of sounds; without effect on other events.
        shuffle_rows: rows that are held in memory.
        first_rows: only so many of the split's rows, the first ones; None for all.

    Raises:
        UserError: see `Loader` and `SoundLoader`; for `first_rows` of sounds.
    """
    if model.event.is_open:
        if first_rows is not None:
            raise UserError(f"trainer.train_rows: expected null for sounds, got {first_rows}")
        return SoundLoader(
            location, split, model=model, rank=rank, world_size=world_size, batch_size=batch_size,
            seed=seed, window=window, shuffle_rows=shuffle_rows,
        )  # fmt: skip
    return Loader(
        location, split, use_labels=model.condition_kind is not None, rank=rank,
        world_size=world_size, batch_size=batch_size, seed=seed, shuffle_rows=shuffle_rows,
        first_rows=first_rows,
    )  # fmt: skip
