"""What the workers of a training exchange; a worker alone exchanges nothing."""

from collections.abc import Callable
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.core.errors import SiteError, UserError, one_line

T = TypeVar("T")


class Workers:
    """This worker, by its rank, among all `world` of a training; they exchange on `device`."""

    def __init__(self, rank: int, world: int, device: torch.device) -> None:
        self.rank, self.world, self.device = rank, world, device

    def minimum(self, values: Tensor) -> list[float]:
        """Return the lowest of all workers' values, elementwise."""
        return self._reduced(values, dist.ReduceOp.MIN)

    def total(self, value: Tensor) -> float:
        """Return the sum of all workers' values of a scalar."""
        (summed,) = self._reduced(value.reshape(1), dist.ReduceOp.SUM)
        return summed

    def agree(self, number: int) -> bool:
        """Tell whether all workers have the same number."""
        pair = torch.tensor([number, -number], dtype=torch.float64, device=self.device)
        low, high = self.minimum(pair)
        return low == -high

    def run_on_all_ranks(self, work: Callable[[], T]) -> T:
        """Do what may fail on one worker alone; then all fail, before they wait for each other.

        Raises:
            UserError: what the first of those that failed says; a `SiteError` where it met one,
                or an `OSError`.
        """
        if not dist.is_initialized():  # alone
            return work()
        done, problem = None, None
        try:
            done = work()
        except (UserError, OSError) as error:
            problem = one_line(error), isinstance(error, SiteError | OSError)
        problems: list[tuple[str, bool] | None] = [None] * self.world
        dist.all_gather_object(problems, problem)
        for problem in problems:
            if problem is not None:
                raise (SiteError if problem[1] else UserError)(problem[0])
        return cast(T, done)

    def hosts(self) -> list[str]:
        """Return the address of each worker's host."""
        import ray.util  # here: a worker alone does without

        addresses: list[object] = [None] * self.world
        dist.all_gather_object(addresses, ray.util.get_node_ip_address())
        return [str(address) for address in addresses]

    def _reduced(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values, operation)
        return [float(value) for value in values.tolist()]
