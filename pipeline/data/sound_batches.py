"""Batches of sounds of several lengths: padding, the span that counts, speakers and symbols."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from arcore.model import AutoregressiveModel
from pipeline.data.batches import Batch
from pipeline.datasets.base import SplitData

MAX_SAMPLES = 1 << 16  # of a batch that is scored, padding included, unless one row has more


def labels_of(split: SplitData) -> np.ndarray:
    """Return the labels of a split of sounds, (N, label_width) int64.

    See `pipeline.datasets.base.Sound`: the number of samples, the speaker, the number of symbols,
    the symbols.
    """
    assert split.labels is not None, "sounds have labels"
    return split.labels


def lengths(split: SplitData) -> np.ndarray:
    """Return the real samples of each row of a split of sounds, (N,) int64."""
    return labels_of(split)[:, 0]


def symbols_by_frame(labels: np.ndarray, begin: np.ndarray, hop: int, width: int) -> np.ndarray:
    """Return the symbol of each frame of windows, (N, ceil(width / hop)).

    The n symbols of a row share its frames out evenly: frame f of F has symbol floor(f n / F).

    Arguments:
        labels: of the windows' rows, (N, label_width).
        begin: the sample of the row with which each window begins, (N,), multiples of hop.
        hop: samples of a frame.
        width: samples of a window.

    Example:
        >>> labels = np.array([[40, 5, 2, 8, 9]])
        >>> symbols_by_frame(labels, np.array([10]), hop=10, width=30).tolist()
        [[8, 9, 9]]
    """
    length, count = labels[:, :1], labels[:, 2:3]
    frames = begin[:, None] // hop + np.arange(-(-width // hop))
    place = np.clip(frames * count // -(-length // hop), 0, np.maximum(count - 1, 0))
    return np.take_along_axis(labels, 3 + place, 1)


def condition_for(
    model: AutoregressiveModel, labels: np.ndarray, begin: np.ndarray, width: int
) -> Tensor | None:
    """Return what a model of sounds is conditioned on, int64; None for an unconditional one.

    That is (N,) speakers, (N, frames) symbols, or (N, 1 + frames) of both.

    Arguments:
        model: of which `num_classes`, `num_symbols` and `hop` decide.
        labels: as for `symbols_by_frame`, like the other two.
        begin: first sample of each window.
        width: samples of a window.
    """
    speakers = labels[:, 1]
    if model.num_symbols is None:
        return None if model.num_classes is None else torch.from_numpy(speakers)
    symbols = symbols_by_frame(labels, begin, model.hop, width)
    if model.num_classes is None:
        return torch.from_numpy(symbols)
    return torch.from_numpy(np.concatenate([speakers[:, None], symbols], 1))


def padded_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Batch rows by length, so that little is padded; each batch is one of at most MAX_SAMPLES.

    Example:
        >>> [batch.tolist() for batch in padded_batches(np.array([5, 90_000, 7]), 10)]
        [[1], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        size = max(1, min(batch_size, MAX_SAMPLES // int(lengths[order[first]])))
        yield order[first : first + size]
        first += size


def gather_batch(
    model: AutoregressiveModel,
    split: SplitData,
    rows: np.ndarray,
    begin: np.ndarray,
    scored: np.ndarray,
    grain: int = 1,
) -> Batch:
    """Cut a window out of each of some rows of a split of sounds.

    Arguments:
        model: whose condition the batch has.
        split: of sounds, in memory.
        rows: their positions, (n,).
        begin: the first sample of each window, (n,).
        scored: the first sample of each window that counts and the one after the last, (n, 2).
        grain: samples, of which the width of the batch is a multiple.
    """
    width = -(-int(scored[:, 1].max()) // grain) * grain
    places = np.minimum(begin[:, None] + np.arange(width), split.x.shape[1] - 1)
    x = torch.from_numpy(split.x[rows[:, None], places])
    condition = condition_for(model, labels_of(split)[rows], begin, width)
    return Batch(x, condition, torch.from_numpy(scored), len(rows))


def whole_rows(
    model: AutoregressiveModel,
    split: SplitData,
    batch_size: int,
    chosen: np.ndarray,
    grain: int = 1,
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield chosen rows in batches, longest first, with their places among the chosen."""
    lengths_of_chosen = lengths(split)[chosen]
    for place in padded_batches(lengths_of_chosen, batch_size):
        begin = np.zeros(len(place), np.int64)
        scored = np.stack([begin, lengths_of_chosen[place]], 1)
        yield place, gather_batch(model, split, chosen[place], begin, scored, grain)


def to_sample(
    model: AutoregressiveModel, split: SplitData, rows: np.ndarray
) -> tuple[AutoregressiveModel, Tensor | None]:
    """Return the model of the longest row's length, and the rows' speakers and texts for it."""
    labels = labels_of(split)[rows]
    width = int(labels[:, 0].max())
    condition = condition_for(model, labels, np.zeros(len(rows), np.int64), width)
    return model.of_length(width), None if condition is None else condition.to(model.device)
