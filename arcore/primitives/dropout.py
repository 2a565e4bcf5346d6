"""Dropout with a mask from 16 random bits a value."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALL = 1 << 12  # values, of fewer of which torch's own is as fast
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # of as many bytes as a float


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Return x with each value zero with probability `rate`, else divided by 1 - `rate`.

    On a processor torch draws a number for each value, which takes a tenth of a training step; here
    one number of 64 bits serves four values, so that the rate is met to 2^-17, and the mask is made
    of floats' bits, without comparing or converting, which are slow.
    """
    kept = round((1 - rate) * (1 << 16))
    own = x.device.type == "cpu" and x.numel() > SMALL and not torch.compiler.is_compiling()
    if not training or not own or not 0 < kept < 1 << 16:
        return functional.dropout(x, rate, training)
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    drawn.random_(-(1 << 63), None)
    bound, integers = kept - (1 << 15), INTEGERS[x.element_size()]
    scale = torch.ones((), dtype=x.dtype, device=x.device).div_(1 - rate).view(integers)
    below = drawn.view(torch.int16)[: x.numel()].clamp_(bound - 1, bound).sub_(bound)  # -1 or 0
    mask = below.to(integers).bitwise_and_(scale).view(x.dtype)
    layout = torch.empty_like(x)  # dense, in the order of x
    return x * mask.as_strided(x.shape, layout.stride())


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """Let nothing be dropped inside, though the module be in training."""
    dropping = [each for each in module.modules() if each.training]
    for each in dropping:
        each.training = False  # alone: `train` would forget what was drawn for a step
    try:
        yield
    finally:
        for each in dropping:
            each.training = True
