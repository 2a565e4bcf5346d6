"""A batch: what loaders yield and what a model is called with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from arcore.primitives.transfer import to_device


@dataclass(frozen=True)
class Batch:
    """Rows of one rank at a step, and what scoring calls take: `model(x, condition, scored)`.

    Attributes:
        x: events (n, *event shape), uint8 levels or float32 reals; of open length (n, width),
            padded at their end.
        condition: what the model is conditioned on, as `arcore.conditions` describes its kind:
            (n,) int64 labels, (n, frames, size) float32 vectors, (n, 1 + frames) int64 speakers and
            symbols, ...; None for an unconditional model.
        scored: (n, 2) int64, the first step of each event that counts and the one after the last;
            None where all counts. It stays on the host, which reads it.
        rows: rows of the batch over all ranks, of which these are n. The gradient of a step is that
            of the mean over all of them.
    """

    x: Tensor
    condition: Tensor | None
    scored: Tensor | None
    rows: int

    def __len__(self) -> int:
        return len(self.x)

    def parts(self, count: int) -> Iterator[tuple[slice, Batch]]:
        """Iterate over at most `count` parts of these rows; the last one may have fewer."""
        size = max(1, -(-len(self) // count))
        for first in range(0, max(1, len(self)), size):
            part = slice(first, first + size)
            condition = None if self.condition is None else self.condition[part]
            scored = None if self.scored is None else self.scored[part]
            yield part, Batch(self.x[part], condition, scored, self.rows)

    def to(self, device: torch.device) -> Batch:
        """Copy all but `scored` to a device; to an accelerator without waiting for it."""
        condition = None if self.condition is None else to_device(self.condition, device)
        return Batch(to_device(self.x, device), condition, self.scored, self.rows)
