"""Batches of sounds of several lengths: padding, spans that count, and what models take of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import arcore
from pipeline.datasets.base import SplitData

MAX_SAMPLES = 1 << 16  # of a batch that is scored, padding included, unless one row has more


def hop_of(model: arcore.AutoregressiveModel) -> int | None:
    """Return the samples of a frame of a model's local condition, None without one."""
    return None if model.num_symbols is None else model.hop


def arguments(model: arcore.AutoregressiveModel, given: Tensor | None) -> tuple[Any, ...]:
    """Return what a model takes beside x: its condition, and for sounds the spans that count.

    Arguments:
        model: any model.
        given: the labels of a batch, or its side information, or None.
    """
    if not model.event.is_open or given is None:
        return (given,)
    has_speakers, has_symbols = model.num_classes is not None, hop_of(model) is not None
    condition = None
    if has_symbols:
        condition = given[:, 2:] if has_speakers else given[:, 3:]
    elif has_speakers:
        condition = given[:, 2]
    return condition, given[:, :2]


def side(
    labels: np.ndarray, begin: np.ndarray, spans: np.ndarray, hop: int | None, width: int
) -> np.ndarray:
    """Return the side information of windows.

    The n symbols of a row share its frames out evenly: frame f of F has symbol floor(f n / F).

    Args:
        labels: of the windows' rows, (N, label_width), see `pipeline.datasets.base.Sound`.
        begin: the sample of the row with which each window begins, (N,), multiples of hop.
        spans: (N, 2), which samples of each window count.
        hop: samples of a frame, or None.
        width: samples of a window.

    Example:
        >>> labels = np.array([[40, 5, 2, 8, 9]])
        >>> side(labels, np.array([10]), np.array([[3, 30]]), hop=10, width=30).tolist()
        [[3, 30, 5, 8, 9, 9]]
    """
    columns = [spans, labels[:, 1:2]]
    if hop is not None:
        length, count = labels[:, :1], labels[:, 2:3]
        frames = begin[:, None] // hop + np.arange(-(-width // hop))
        place = np.clip(frames * count // -(-length // hop), 0, np.maximum(count - 1, 0))
        columns.append(np.take_along_axis(labels, 3 + place, 1))
    return np.concatenate(columns, 1)


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


def lengths(split: SplitData) -> np.ndarray:
    """Return the real samples of each row of a split of sounds, (N,) int64."""
    return cast(np.ndarray, split.labels)[:, 0]


def whole_rows(
    model: arcore.AutoregressiveModel, split: SplitData, batch_size: int, chosen: np.ndarray
) -> Iterator[tuple[np.ndarray, Tensor, tuple[Any, ...]]]:
    """Yield batches of chosen rows: their places among the chosen, x, and the model's arguments."""
    for place in padded_batches(lengths(split)[chosen], batch_size):
        rows = chosen[place]
        labels = cast(np.ndarray, split.labels)[rows]
        width = int(labels[:, 0].max())
        spans = np.stack([np.zeros(len(rows), np.int64), labels[:, 0]], 1)
        given = torch.from_numpy(side(labels, spans[:, 0], spans, hop_of(model), width))
        x = torch.from_numpy(split.x[rows, :width]).to(model.device)
        yield place, x, arguments(model, given.to(model.device))


def to_sample(
    model: arcore.AutoregressiveModel, split: SplitData, rows: np.ndarray
) -> tuple[arcore.AutoregressiveModel, Tensor | None]:
    """Return the model of the longest row's length, and the rows' speakers and texts for it."""
    labels = cast(np.ndarray, split.labels)[rows]
    width = int(labels[:, 0].max())
    spans = np.zeros((len(rows), 2), np.int64)
    given = torch.from_numpy(side(labels, spans[:, 0], spans, hop_of(model), width))
    condition = arguments(model, given.to(model.device))[0]
    return model.of_length(width), condition
