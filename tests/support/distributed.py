"""One of two processes that compute every model's gradients under DistributedDataParallel."""

import warnings

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import arcore
from arcore.events import Event, Levels, Real
from arcore.zoo import model_class
from tests.support.cases import declares


def event_of(name: str) -> Event:
    kind = model_class(name)
    if declares(kind, "condition_sequence"):
        return Levels(3, (2, 1, 2, 2))
    return Levels(3, (1, 2, 2)) if issubclass(Levels, kind.supports) else Real((4,))


def rows_of(event: Event) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if isinstance(event, Real):
        return torch.randn(4, *event.shape, generator=generator, dtype=torch.float64)
    return torch.randint(3, (4, *event.shape), generator=generator)


def gradients(name: str, rank: int, distributed: bool) -> tuple[float, list[Tensor]]:
    """The loss of this rank's half and the gradients, from the same weights everywhere."""
    torch.manual_seed(0)
    model = arcore.create_model(name, event_of(name)).double()
    call: torch.nn.Module = model
    if distributed:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            call = DistributedDataParallel(
                model, broadcast_buffers=False, gradient_as_bucket_view=True
            )
    torch.manual_seed(7 + rank)
    model.set_step(0, 3)
    loss = call(rows_of(model.event)[2 * rank : 2 * rank + 2]).mean()
    loss.backward()
    return loss.item(), [parameter.grad for parameter in model.parameters()]


def main(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    for name in arcore.list_models():
        alone = [gradients(name, each, distributed=False) for each in range(2)]
        loss, shared = gradients(name, rank, distributed=True)
        assert loss == alone[rank][0], name
        for first, second, mean in zip(alone[0][1], alone[1][1], shared, strict=True):
            torch.testing.assert_close(mean, (first + second) / 2, rtol=1e-9, atol=1e-12)
        print(f"{name}\n", end="")  # one write: two processes share the pipe
    dist.destroy_process_group()
