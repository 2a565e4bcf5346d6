"""Draws that belong to a row: a function of its values, whatever the rest of the batch."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

SEED = 20170424


def for_each_row(x: Tensor, draw_row: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Draw for each event by a generator that its levels seed; return the draws, stacked."""
    generator = torch.Generator().manual_seed(SEED)
    shape = x[:1].flatten(1).shape[1:]
    factors = torch.randint(1 << 31, shape, generator=generator, device=generator.device)
    seeds = (x.flatten(1).long() * factors.to(x.device)).sum(1) % (1 << 62)
    rows = [draw_row(generator.manual_seed(seed)) for seed in seeds.tolist()]
    return torch.stack(rows) if rows else draw_row(generator)[None][:0]


@dataclasses.dataclass(frozen=True)
class BatchSlice:
    """A worker's rows of a training batch: the rank-th and every world_size-th after it.

    What belongs to a row is drawn for the whole batch on every worker, who keeps its own part, so
    that workers draw together what one alone would.

    Attributes:
        rows: of this worker.
        batch_rows: of all workers.
        part: which of this worker's rows are wanted; None is all.
    """

    rows: int
    batch_rows: int
    rank: int = 0
    world_size: int = 1
    part: slice | None = None

    def draw(self, sample: Callable[[int], Tensor]) -> Tensor:
        """Draw for the whole batch, and return what belongs to this worker's rows."""
        total = self.batch_rows
        if len(range(self.rank, total, self.world_size)) < self.rows:
            total = self.rows * self.world_size  # where workers read parts, one may have a row more
        return sample(total)[self.rank :: self.world_size][: self.rows][self.part or slice(None)]
