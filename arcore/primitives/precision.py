"""The precision in which sums and draws are made."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from arcore.primitives.checks import require

Mode = tuple[Callable[[], Any], Callable[[Any], Any], object]  # to read, to write, a value
DRAWN_IN = (torch.float32, torch.float64)  # wide enough to draw by


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which to add up many terms or to draw: bfloat16 is too coarse for both."""
    return torch.promote_types(dtype, torch.float32)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast: none at all where it is off, since contexts take time."""
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def product_dtype(x: torch.Tensor) -> torch.dtype:
    """Return the type in which torch multiplies matrices of x's: autocast's, where it is on."""
    kind = x.device.type
    coarse = torch.is_autocast_enabled(kind) and x.dtype == torch.float32
    return torch.get_autocast_dtype(kind) if coarse else x.dtype


def summed(terms: Tensor, first: int = 1) -> Tensor:
    """Add up over all axes from `first` on, in float32 at least."""
    return terms.flatten(first).sum(first, dtype=at_least_float32(terms.dtype))


def require_finite(x: Tensor, dtype: torch.dtype, name: str) -> None:
    """Raise ValueError where finite numbers are too large for the type in which they are used."""
    if x.is_floating_point() and x.dtype != dtype:
        fits = bool(x.to(dtype).isfinite().all())
        require(fits, name, f"values that are finite in {dtype}", "others")


@contextmanager
def whole_float32() -> Iterator[None]:
    """Compute in float32 where tensors are of it, by kernels that no timing has chosen.

    Else `torch.set_float32_matmul_precision("high")`, or cuDNN's own default, has some products in
    TF32 or bfloat16, and `torch.backends.cudnn.benchmark` may take another kernel in each process.
    """
    cudnn = torch.backends.cudnn
    modes = [_attribute(cudnn, "benchmark", False), _attribute(cudnn, "deterministic", True)]
    modes += _float32_modes()
    before = [read() for read, _, _ in modes]
    try:
        for mode in modes:
            _switch(*mode)
        yield
    finally:
        for (read, write, _), value in zip(modes, before, strict=True):
            _switch(read, write, value)


def _switch(read: Callable[[], Any], write: Callable[[Any], Any], value: object) -> None:
    if read() != value:  # one that was never set follows others, until it is
        write(value)


def _float32_modes() -> list[Mode]:
    """Return what says how float32 is computed, and the values by which it is so itself."""
    backends: Any = torch.backends
    legacy: list[Mode] = [
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        _attribute(backends.cudnn, "allow_tf32", False),
    ]
    try:
        for read, _, _ in legacy:
            read()
    except RuntimeError:  # set by the names of torch 2.9, with which these must not be mixed
        cuda, cpu = backends.cudnn, backends.mkldnn
        return [*map(_of_ieee, (backends.cuda.matmul, cuda.conv, cuda.rnn, cpu.matmul)), *_on_cpu()]
    return [*legacy, *_on_cpu()]


def _on_cpu() -> list[Mode]:
    """Return the modes of a CPU's other operations, which have names since torch 2.9 alone."""
    found = [getattr(torch.backends.mkldnn, name, None) for name in ("conv", "rnn")]
    return [_of_ieee(place) for place in found if place is not None]


def _of_ieee(place: Any) -> Mode:
    return _attribute(place, "fp32_precision", "ieee")


def _attribute(place: Any, name: str, value: object) -> Mode:
    return partial(getattr, place, name), partial(setattr, place, name), value
